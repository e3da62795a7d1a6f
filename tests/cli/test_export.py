"""``mrnet export``, and ``mrnet find --runtime onnx``."""

import json
import re
from pathlib import Path

from tests.cli.conftest import Command


def test_exports_and_asks(command: Command, checkpoint: Path, video: Path) -> None:
    status, out, err = command("export", checkpoint, "--out", "onnx")
    assert (status, out) == (0, "onnx\n")
    assert re.fullmatch(r"checked: differs from PyTorch by \d\.\de-\d\d at most\n", err)
    answers = [
        json.loads(command("find", video, "a dog", "--json", "--checkpoint", *words)[1])
        for words in ((checkpoint,), ("onnx", "--runtime", "onnx"))
    ]
    by_torch, by_onnx = ([list(moment.values()) for moment in answer["moments"]] for answer in answers)
    assert len(by_torch) > 1
    for one, other in zip(by_torch, by_onnx, strict=True):
        assert one[:3] == other[:3]
        assert abs(one[3] - other[3]) <= 1e-4
    line = command.refuses("export", checkpoint, "--out", "onnx")
    assert line == "mrnet: error: onnx already exists and is not empty: choose another place or remove it"
    line = command.refuses("find", video, "a dog", "--checkpoint", checkpoint, "--runtime", "onnx")
    assert line == (
        f"mrnet: error: {checkpoint}/video.onnx is not there: make it with `mrnet export CHECKPOINT --out NEW`"
    )


def test_refuses(command: Command, video: Path) -> None:
    assert command.refuses("find", video, "a dog", "--runtime", "onnx") == (
        "mrnet: error: --runtime onnx computes what `mrnet export` has written: give it with --checkpoint DIR"
    )
    assert command.refuses("export", "nothing", "--out", "onnx").startswith(
        "mrnet: error: nothing does not exist: "
    )
