"""`mrnet features video|text|speech|list`: what it prints, how it ends, and what it leaves behind."""

import json
import sys
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mrnet.features.extraction.extract
from mrnet.cli import main
from mrnet.features import registry as backbones
from mrnet.features.backbone import Modality, encode_sources
from mrnet.features.registry import Entry, make_backbone
from mrnet.features.store.reader import open_store
from mrnet.media.video import write_video
from mrnet.provenance import Provenance

VIDEO = ["features", "video"]
HOG = ["--backbone", "color-hog-motion"]
TEXT = ["features", "text"]
WORDS = ["--backbone", "hashed-words"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in an empty folder: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> tuple[int, str, str]:
        try:
            status = main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        return status, *capsys.readouterr()

    return run


def refuses(command: Run, *words: str | Path) -> str:
    """The one line of a refusal, which leaves the folder as it was."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    status, out, err = command(*words)
    assert (status, out) == (2, ""), err
    assert len(err.splitlines()) == 1, err
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    return err.removesuffix("\n")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos of three seconds, one that is none, and something else."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for shift, name in enumerate(["a", "b"]):
        frames = (np.full((32, 32, 3), 40 * shift + 5 * index, np.uint8) for index in range(15))
        write_video(folder / f"{name}.mp4", frames, fps=5)
    (folder / "broken.mp4").write_text("not a film")
    (folder / "notes.txt").write_text("not a film either")
    return folder


def said(out: str) -> str:
    """The summary without its speed, which is another one each time."""
    head, opening, tail = out.partition(" (")
    speed, _, tail = tail.partition(")")
    if opening:
        assert speed.endswith(("x real time", " a second"))
        assert float(speed.split("x")[0].split()[0]) > 0
    return head + tail if opening else out


class TestVideo:
    def test_folder(self, command: Run, videos: Path) -> None:
        status, out, err = command(*VIDEO, "videos", *HOG, "--out", "f.h5")
        assert status == 1
        assert said(out) == "2 encoded, 0 already there, 1 failed: f.h5\n"
        assert err.startswith("broken: videos/broken.mp4: cannot be opened as a video")
        assert len(err.splitlines()) == 1
        store = open_store(Path("f.h5"))
        backbone = make_backbone("video", "color-hog-motion")
        assert store.provenance == backbone.provenance()
        for name, rows in zip(
            ["a", "b"], encode_sources(backbone, [videos / "a.mp4", videos / "b.mp4"]), strict=True
        ):
            np.testing.assert_array_equal(store.read(name), rows)
        assert sorted(path.name for path in Path().iterdir()) == ["f.h5", "videos"]

        (videos / "broken.mp4").unlink()
        assert command(*VIDEO, "videos", *HOG, "--out", "f.h5") == (
            0,
            "0 encoded, 2 already there, 0 failed: f.h5\n",
            "",
        )

    @pytest.mark.parametrize(
        ("out", "layout", "made"),
        [
            ("new/f.hdf5", [], ["f.hdf5"]),
            ("new", [], ["a.npy", "origins.jsonl", "provenance.json"]),
            ("new", ["--layout", "pt", "--workers", "3"], ["a.pt", "origins.jsonl", "provenance.json"]),
            ("new/x", ["--layout", "hdf5"], ["x"]),
        ],
    )
    def test_file_in_every_layout(
        self, command: Run, videos: Path, out: str, layout: list[str], made: list[str]
    ) -> None:
        status, text, err = command(*VIDEO, videos / "a.mp4", *HOG, "--out", out, *layout)
        assert (status, said(text), err) == (0, f"1 encoded, 0 already there, 0 failed: {out}\n", "")
        assert sorted(path.name for path in Path("new").iterdir()) == made
        assert open_store(Path(out)).read("a").shape == (6, 492)

    def test_nothing_that_can_be_encoded(self, command: Run, videos: Path) -> None:
        status, out, _ = command(*VIDEO, videos / "broken.mp4", *HOG, "--out", "f.h5")
        assert (status, out) == (1, "0 encoded, 0 already there, 1 failed: nothing is stored\n")
        assert sorted(path.name for path in Path().iterdir()) == ["videos"]

    def test_interrupted(self, command: Run, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(mrnet.features.extraction.extract, "extract", interrupt)
        assert command(*VIDEO, videos, *HOG, "--out", "f.h5") == (
            130,
            "",
            "mrnet: what is finished is kept; the same command goes on from there\nmrnet: interrupted\n",
        )

    @pytest.mark.usefixtures("videos")
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["none", *HOG], "none: no such file or folder; give a video file, or a folder of them"),
            (["empty", *HOG], "empty: no video files in this folder; give a video file, or a folder of them"),
            (["twice", *HOG], "twice holds a.mkv and a.mp4, of one id: rename one"),
            (["videos", "--backbone", "eyes"], 'no video backbone is named "eyes"; use one of: color-hog-motion'),
            (["videos", *HOG, "--rate", "nan"], "a rate of nan rows a second is impossible; give one above 0"),
            (["videos", *HOG, "--rate", "3"], "the rate of color-hog-motion cannot be chosen: it gives 2 rows a"),
            (
                ["videos", *HOG, "--layout", "npy"],
                "f.h5: is a file, where a folder of npy files should be; choose",
            ),
            (["videos", *HOG], "f.h5: not an HDF5 file"),
        ],
    )
    def test_refuses(self, command: Run, words: list[str], message: str) -> None:
        for name in ("empty", "twice"):
            Path(name).mkdir()
        Path("twice/a.mkv").touch()
        Path("twice/a.mp4").touch()
        Path("f.h5").write_text("notes")
        assert refuses(command, *VIDEO, *words, "--out", "f.h5").startswith(f"mrnet: error: {message}")

    @pytest.mark.usefixtures("videos")
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (HOG, "the following arguments are required: --out"),
            (["--out", "f.h5"], "the following arguments are required: --backbone"),
            ([*HOG, "--out", "f.h5", "--rate", "two"], "argument --rate: invalid float value: 'two'"),
            ([*HOG, "--out", "f.h5", "--workers", "0"], "argument --workers: 0 is not at least 1"),
            ([*HOG, "--out", "f.h5", "--engine", "spark"], "argument --engine: invalid choice: 'spark'"),
        ],
    )
    def test_wrong_usage(self, command: Run, words: list[str], message: str) -> None:
        assert refuses(command, *VIDEO, "videos", *words).startswith(f"mrnet features video: error: {message}")

    @pytest.mark.usefixtures("videos")
    def test_store_of_another_backbone(self, command: Run) -> None:
        Path("a.csv").write_text("video,start,end,query\nv,0,1,a cat\n")
        assert command(*TEXT, "a.csv", *WORDS, "--out", "f.h5")[0] == 0
        assert refuses(command, *VIDEO, "videos", *HOG, "--out", "f.h5") == (
            "mrnet: error: f.h5: holds features of 'hashed-words' revision 1 (512 wide), not of 'color-hog-motion' "
            "revision 1 (492 wide, 2 rows/s); choose another place"
        )

    @pytest.mark.usefixtures("videos")
    def test_ray_is_not_installed(self, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        message = refuses(command, *VIDEO, "videos", *HOG, "--out", "f.h5", "--engine", "ray")
        assert message.startswith("mrnet: error: --engine ray needs Ray (")
        assert message.endswith("): pip install 'mrnet[ray]'")


class TestText:
    def read(self, path: str = "f.h5") -> dict[str, list[float]]:
        store = open_store(Path(path))
        return {name: store.read(name)[0].tolist() for name in store.ids()}

    def encoded(self, **sentences: str) -> dict[str, list[float]]:
        rows = encode_sources(make_backbone("text", "hashed-words"), list(sentences.values()))
        return {name: row[0].tolist() for name, row in zip(sentences, rows, strict=True)}

    def test_by_sound_file(self, command: Run) -> None:
        """Released layout; no durations; a sentence twice under one name; an empty one; two under one name."""
        sentences = ["a cat sits", "a cat sits", " ", "a dog", "a bird"]
        audios = ["x/one.wav", "one.wav", "empty.wav", "two.wav", "two.wav"]
        document = {"v": {"timestamps": [[0, 1]] * 5, "sentences": sentences, "audios": audios}}
        Path("a.json").write_text(json.dumps(document))
        status, out, err = command(*TEXT, "a.json", *WORDS, "--out", "f", "--layout", "pt")
        assert status == 1
        assert said(out) == "1 encoded, 0 already there, 2 failed: f\n"
        assert err == (
            "two: names several different sentences, none of which is encoded; give each its own name\n"
            'video "v", query 2: the sentence is " "; write one\n'
        )
        tensor = torch.load("f/one.pt", weights_only=True)
        assert tensor.shape == (1, 512)
        assert {"one": tensor[0].tolist()} == self.encoded(one="a cat sits")

    def test_by_query_id(self, command: Run) -> None:
        rows = [
            {"qid": 7, "query": "a cat", "vid": "v", "duration": 9, "relevant_windows": [[0, 2]]},
            {"qid": 8, "query": "a dog", "vid": "v", "duration": 9},
            {"qid": 9, "query": "?!", "vid": "v", "duration": 9},
        ]
        Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        status, out, err = command(*TEXT, "a.jsonl", *WORDS, "--out", "f.h5")
        assert (status, said(out)) == (1, "2 encoded, 0 already there, 1 failed: f.h5\n")
        assert err == "9: the query is empty or holds no words (got '?!'); describe the moment to find\n"
        assert self.read() == dict(zip("78", self.encoded(seven="a cat", eight="a dog").values(), strict=True))

    def test_splits_that_name_their_queries_alike(self, command: Run) -> None:
        for split, sentence in {"train": "a cat", "val": "a dog"}.items():
            Path(f"{split}.txt").write_text(f"v 0 1##{sentence}\n")
            status, out, err = command(*TEXT, f"{split}.txt", *WORDS, "--out", "f.h5")
        assert (status, out) == (1, "0 encoded, 0 already there, 1 failed: f.h5\n")
        assert err == "v#0: f.h5 holds another sentence under this id; choose another store for this one\n"
        assert self.read() == {"v#0": self.encoded(a="a cat")["a"]}

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.xyz", "", 'a.xyz: unknown format ".xyz"; name it'),
            ("b.json", "{}", "b.json: holds no queries; give a file with at least one"),
        ],
    )
    def test_refuses(self, command: Run, name: str, content: str, message: str) -> None:
        Path(name).write_text(content)
        assert refuses(command, *TEXT, name, *WORDS, "--out", "f.h5").startswith(f"mrnet: error: {message}")


class Loudness:
    """Encodes a sound file as its number of samples."""

    kind: Modality = "speech"
    name, dim, revision, batch_size = "loudness", 1, "1", 8
    rate: float | None = None

    def prepare(self, source: str | Path) -> Iterator[int]:
        with wave.open(str(source)) as sound:
            yield sound.getnframes()

    def encode(self, inputs: Sequence[int]) -> list[np.ndarray]:
        return [np.full((1, 1), count, np.float32) for count in inputs]

    def provenance(self) -> Provenance:
        return Provenance(backbone=self.name, dim=1, revision="1")


class TestSpeech:
    @pytest.fixture(autouse=True)
    def loudness(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "loudness", sys.modules[__name__])
        entry = Entry("speech", "loudness", "loudness:Loudness", "1", "-", "MIT", "-", "counts samples")
        monkeypatch.setattr(backbones, "REGISTRY", (*backbones.REGISTRY, entry))

    def test_folder_of_sounds_and_videos(self, command: Run) -> None:
        Path("in").mkdir()
        with wave.open("in/a.wav", "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(2 * 4000))
        Path("in/film.mp4").write_text("no wave")
        Path("in/notes.txt").touch()
        status, out, err = command("features", "speech", "in", "--backbone", "loudness", "--out", "f.h5")
        assert (status, said(out)) == (1, "1 encoded, 0 already there, 1 failed: f.h5\n")
        assert err == "film: EOFError\n"
        assert open_store(Path("f.h5")).read("a").tolist() == [[4000.0]]

    def test_has_no_rate(self, command: Run) -> None:
        Path("a.wav").touch()
        words = ["features", "speech", "a.wav", "--backbone", "loudness", "--out", "f.h5", "--rate", "2"]
        assert "unrecognized arguments: --rate 2" in refuses(command, *words)
