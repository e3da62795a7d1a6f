"""Whole trainings of the released implementation, followed."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import parity

TRAININGS = Path(__file__).parent / "trainings"
NAMES = ("activitynet", "tacos+linear")
QUANTITIES = ("loss: iou", "loss: video", "loss: sentence", "loss: sparsity", "loss: total",
              "gradient norm", "learning rate", "R@1,IoU@0.5", "R@{1},mIoU", "final weights")  # fmt: skip


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A copy of the shorter training, to be changed."""
    shutil.copytree(TRAININGS / "data" / "tacos", tmp_path / "data" / "tacos")
    shutil.copytree(TRAININGS / "traces" / "tacos+linear", tmp_path / "traces" / "tacos+linear")
    return tmp_path


def change(training: Path, **changes: Any) -> None:
    """Set fields of the trace."""
    path = training / "traces" / "tacos+linear" / "trace.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def failures(out: str) -> list[str]:
    """Quantities above their limit."""
    return re.findall(r"^FAIL  \S+ +(.*?)  ", out, re.MULTILINE)


@pytest.mark.parametrize("route", ["dense", "tiled"])
def test_trainings_in_the_repository(route: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(TRAININGS), "--route", route]) == 0
    out = capsys.readouterr().out
    for name in NAMES:
        found = re.findall(rf"^ok    {re.escape(name)} +(.*?)  ", out, re.MULTILINE)
        assert set(QUANTITIES) <= set(found)
        assert re.search(rf"^      {re.escape(name)}: \d+ steps, [\d.]+ s$", out, re.MULTILINE)
    assert "0 above their limit" in out
    assert torch.get_default_dtype() == torch.float32


def test_a_wrong_initial_weight_is_noticed(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = training / "traces" / "tacos+linear" / "initial.safetensors"
    weights = load_file(path)
    weights["text_encoder.fc_out2.weight"][0, 0] += 1e-4
    save_file(weights, path)
    assert parity.main([str(training), "--route", "dense"]) == 1
    failed = set(failures(capsys.readouterr().out))
    assert {
        "loss: iou",
        "loss: video",
        "loss: sentence",
        "loss: total",
        "gradient norm",
        "final weights",
    } <= failed


def test_a_wrong_learning_rate_is_noticed(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = json.loads((training / "traces" / "tacos+linear" / "trace.json").read_text())
    trace["config"]["SOLVER"]["LR"] *= 1.001
    change(training, config=trace["config"])
    assert parity.main([str(training), "--route", "dense"]) == 1
    assert {"learning rate", "loss: total", "final weights"} <= set(failures(capsys.readouterr().out))


def test_a_wrong_metric_is_noticed(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = json.loads((training / "traces" / "tacos+linear" / "trace.json").read_text())
    trace["epochs"][-1]["metrics"]["R@5,IoU@0.3"] += 1 / 60  # of 30 queries
    change(training, epochs=trace["epochs"])
    assert parity.main([str(training), "--route", "dense"]) == 1
    assert failures(capsys.readouterr().out) == ["R@5,IoU@0.3"]


def test_what_is_missing_is_one_line(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said() -> str:
        assert parity.main([str(training)]) == 2
        return capsys.readouterr().err

    trace = json.loads((training / "traces" / "tacos+linear" / "trace.json").read_text())
    steps = [trace["steps"][0] | {"vids": ["nobody"]}]
    change(training, steps=steps)
    assert said() == (
        "parity: error: the trace trained on video 'nobody', which its data does not have: get it again\n"
    )
    (training / "data" / "tacos" / "notes.txt").touch()
    assert said() == (
        f"parity: error: {training}/data/tacos should hold video features, text/ and annotations, but nothing else\n"
    )
    change(training, setting="charades")
    assert said() == (
        f"parity: error: {training}/data/charades is not there: traces/ and data/ belong into one folder\n"
    )
    (training / "traces" / "tacos+linear" / "trace.json").write_text('{"setting": "tacos"}')
    assert said() == (
        f"parity: error: {training}/traces/tacos+linear/trace.json has no 'config': get the trace again\n"
    )
