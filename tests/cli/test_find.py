"""``mrnet find``"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mrnet.config.run import RunConfig
from mrnet.features.registry import make_backbone
from mrnet.media.audio import write_audio
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.weights.native import save_checkpoint
from tests.cli.conftest import Command
from tests.conftest import save_untrained, spec_of
from tests.media.test_microphone import Microphone


class TestFind:
    def test_moments(self, command: Command, checkpoint: Path, video: Path) -> None:
        status, out, _ = command(
            "find", video, "it gets brighter", "--checkpoint", checkpoint, "-k", "3", "--json"
        )
        document = json.loads(out)
        assert status == 0
        assert (document["video"], document["query"]) == (str(video), "it gets brighter")
        scores = [moment["score"] for moment in document["moments"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        for moment in document["moments"]:
            assert 0 <= moment["start_s"] < moment["end_s"] <= 4.0
            assert moment["start_s"] * 2 == int(moment["start_s"] * 2)  # 4 s in 8 clips

        status, text, _ = command("find", video, "it gets brighter", "--checkpoint", checkpoint, "-k", "3")
        first = document["moments"][0]
        assert status == 0
        heading, *lines, by = text.splitlines()
        assert heading.split() == ["start", "end", "score"]
        assert lines[0].startswith(
            f"1.  0:00:{first['start_s']:04.1f} - 0:00:{first['end_s']:04.1f}  ".replace(":0", ":0")
        )
        assert len(lines) == 3
        assert by == "answered by MRNet trained on tiny"

    def test_record(
        self,
        command: Command,
        tiny: Callable[..., RunConfig],
        video: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With a checkpoint that hears: its answer is that to the same recording in a file."""
        eye, ear = make_backbone("video", "color-hog-motion"), make_backbone("speech", "speech-embedding")
        config = tiny(model={"video_dim": eye.dim, "query_dim": ear.dim})
        spec = spec_of(config, video=eye.provenance(), speech=ear.provenance())
        spec = spec.model_copy(update={"query_widths": {"speech": ear.dim}})
        save_untrained(command.folder / "ear", config, spec)
        monkeypatch.setitem(sys.modules, "sounddevice", Microphone(rate=16_000))
        status, out, err = command("find", video, "--record", "--checkpoint", "ear", "--json")
        assert status == 0, err
        recorded = json.loads(out)
        assert (recorded["query"], recorded["kind"]) == ("recording.wav", "speech")
        write_audio(Path("same.wav"), Microphone(rate=16_000).samples[: 5 * 16_000])
        given = json.loads(command("find", video, "--speech", "same.wav", "--checkpoint", "ear", "--json")[1])
        assert recorded["moments"] == given["moments"]

    def test_checkpoint_missing(self, command: Command, video: Path) -> None:
        assert command.refuses("find", video, "a dog", "--checkpoint", "nowhere") == (
            "mrnet: error: nowhere does not exist: expected a folder with mrnet.json and model.safetensors, or a "
            "training run; `mrnet train`, `mrnet demo` and `mrnet convert` make one"
        )

    def test_checkpoint_is_a_file(self, command: Command, video: Path) -> None:
        line = command.refuses("find", video, "a dog", "--checkpoint", video)
        assert line.startswith(f"mrnet: error: {video} is not a checkpoint: ")

    def test_checkpoint_truncated(self, command: Command, checkpoint: Path, video: Path) -> None:
        path = checkpoint / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-8])
        line = command.refuses("find", video, "a dog", "--checkpoint", checkpoint)
        assert line.startswith(f"mrnet: error: {path} is missing or damaged (")

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("missing", "{path}: no such file; check the path of the video"),
            ("folder", "{path}: is a directory; name a video file"),
            (
                "text",
                "{path}: cannot be opened as a video file (invalid data found when processing input); it is none, "
                "or it is incomplete",
            ),
            (
                "empty",
                "{path}: cannot be opened as a video file (invalid data found when processing input); it is none, "
                "or it is incomplete",
            ),
            (
                "truncated",
                "{path}: cannot be opened as a video file (invalid data found when processing input); it is none, "
                "or it is incomplete",
            ),
        ],
    )
    def test_no_video(self, command: Command, checkpoint: Path, video: Path, kind: str, message: str) -> None:
        path = command.folder / "b.mp4"
        if kind == "folder":
            path.mkdir()
        elif kind != "missing":
            whole = video.read_bytes()
            path.write_bytes({"text": b"not a film\n", "empty": b"", "truncated": whole[: len(whole) // 2]}[kind])
        line = command.refuses("find", path, "a dog", "--checkpoint", checkpoint)
        assert line == f"mrnet: error: {message.format(path=path)}"

    @pytest.mark.parametrize("query", ["", "  ", "?!"])
    def test_empty_query(self, command: Command, checkpoint: Path, video: Path, query: str) -> None:
        assert command.refuses("find", video, query, "--checkpoint", checkpoint) == (
            f"mrnet: error: the query is empty or holds no words (got {query!r}); describe the moment to find"
        ).replace("  ", " ")

    def test_features_that_cannot_be_made(
        self, command: Command, tiny: Callable[..., RunConfig], video: Path
    ) -> None:
        config = tiny()
        spec = spec_of(config, text=Provenance(backbone="released", dim=5))
        save_checkpoint(command.folder / "model", spec, config, MRNet(config.model).state_dict())
        assert command.refuses("find", video, "a dog", "--checkpoint", "model") == (
            "mrnet: error: the model was trained on 'released' features, which cannot be made here (no text "
            'backbone is named "released"; use one of: hashed-words, hf:MODEL, st:MODEL, minilm-l6-v2, '
            "glove:MODEL): give features, not raw input"
        )
