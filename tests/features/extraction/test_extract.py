"""Jobs of extraction: what is encoded, skipped and listed, and what a kill leaves to do."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mrnet.errors import FeatureError
from mrnet.features.backbone import Modality
from mrnet.features.extraction.extract import Report, encode_videos, extract, sound_files, video_files
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import Layout, open_writer, write_store
from mrnet.provenance import Provenance


class Sizes:
    """Encodes a source as its size, twice; for text, the length of the sentence."""

    name, dim, batch_size = "sizes", 1, 2

    def __init__(self, kind: Modality = "video", revision: str = "1") -> None:
        self.kind, self.revision = kind, revision
        self.rate = 0.5 if kind == "video" else None
        self.seen: list[str] = []

    def prepare(self, source: str | Path) -> Iterator[int]:
        self.seen.append(Path(source).stem)
        size = len(str(source)) if self.kind == "text" else Path(source).stat().st_size
        if not size:
            raise FeatureError(f"{source}:\n  is empty; record it again")
        yield size

    def encode(self, inputs: Sequence[int]) -> list[np.ndarray]:
        return [np.full((2, 1), np.nan if size == 13 else size, np.float32) for size in inputs]

    def provenance(self) -> Provenance:
        return Provenance(backbone=self.name, dim=self.dim, rows_per_s=self.rate, revision=self.revision)


def files(folder: Path, **sizes: int) -> dict[str, str | Path]:
    for name, size in sizes.items():
        (folder / f"{name}.mp4").write_bytes(b"x" * size)
    return {name: folder / f"{name}.mp4" for name in sizes}


def contents(path: Path) -> dict[str, list[float]]:
    store = open_store(path)
    return {feature_id: store.read(feature_id)[:, 0].tolist() for feature_id in store.ids()}


def run(sources: dict[str, str | Path], out: Path, backbone: Sizes, layout: Layout | None = None) -> Report:
    return extract(sources, backbone, open_writer(out, backbone.provenance(), layout), workers=1)


class TestExtract:
    @pytest.mark.parametrize("layout", ["hdf5", "npy", "pt"])
    def test_stores_what_can_be_encoded_and_lists_the_rest(self, tmp_path: Path, layout: Layout) -> None:
        (tmp_path / "in").mkdir()
        sources = files(tmp_path / "in", a=3, none=0, nan=13, b=5)
        sources |= {"x/y": sources["a"], "gone": tmp_path / "gone.mp4"}
        report = run(sources, tmp_path / "out", Sizes(), layout)
        assert contents(tmp_path / "out") == {"a": [3, 3], "b": [5, 5]}
        assert open_store(tmp_path / "out").provenance == Sizes().provenance()
        assert sorted(report.done) == ["a", "b"]
        assert report.skipped == []
        assert report.failed == {
            "x/y": 'features of "x/y": this id cannot name a file or dataset; use one of up to 240 bytes, without '
            "slashes or a leading dot",
            "none": f"{tmp_path / 'in' / 'none.mp4'}: is empty; record it again",
            "nan": 'features of "nan": NaN or infinity in it; it is not written',
            "gone": f"FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path / 'gone.mp4'}'",
        }
        assert report.media_s == 8.0  # two videos of two rows, one every two seconds
        assert report.wall_s > 0

    def test_second_run_encodes_what_is_new_or_has_changed(self, tmp_path: Path) -> None:
        sources = files(tmp_path, same=1, newer=2, longer=3, none=0)
        run(sources, tmp_path / "out.h5", Sizes())
        stat = (tmp_path / "longer.mp4").stat()
        (tmp_path / "longer.mp4").write_bytes(b"x" * 30)
        os.utime(tmp_path / "longer.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.utime(tmp_path / "newer.mp4", (2e9, 2e9))
        sources |= files(tmp_path, new=4)
        backbone = Sizes()
        report = run(sources, tmp_path / "out.h5", backbone)
        assert backbone.seen == ["newer", "longer", "none", "new"]
        assert report.skipped == ["same"]
        assert contents(tmp_path / "out.h5") == {
            "same": [1, 1], "newer": [2, 2], "longer": [30, 30], "new": [4, 4],
        }  # fmt: skip

    def test_changed_source_that_fails_now_keeps_its_rows_and_is_tried_again(self, tmp_path: Path) -> None:
        sources = files(tmp_path, a=1, b=2)
        run(sources, tmp_path / "out.h5", Sizes())
        files(tmp_path, a=0, b=3)
        run(sources, tmp_path / "out.h5", Sizes())
        assert contents(tmp_path / "out.h5") == {"a": [1, 1], "b": [3, 3]}
        backbone = Sizes()
        assert list(run(sources, tmp_path / "out.h5", backbone).failed) == ["a"]
        assert backbone.seen == ["a"]

    def test_nothing_can_be_encoded(self, tmp_path: Path) -> None:
        sources = files(tmp_path, a=0)
        assert list(run(sources, tmp_path / "out.h5", Sizes()).failed) == ["a"]
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]

    def test_sentences(self, tmp_path: Path) -> None:
        sentences: dict[str, str | Path] = {"q1": "a cat", "q2": "a dog sits", "q3": "half \ud83d"}
        run(sentences, tmp_path / "out.h5", Sizes("text"))
        backbone = Sizes("text")
        sentences |= {"q1": "a bird", "q4": "x"}
        report = run(sentences, tmp_path / "out.h5", backbone)
        assert backbone.seen == ["x"]
        assert report.skipped == ["q2", "q3"]
        assert report.failed == {
            "q1": f"{tmp_path / 'out.h5'} holds another sentence under this id; choose another store for this one"
        }
        assert contents(tmp_path / "out.h5") == {"q1": [5], "q2": [10], "q3": [6], "q4": [1]}

    def test_rows_of_unknown_origin_are_encoded_anew(self, tmp_path: Path) -> None:
        write_store(tmp_path / "out.h5", [("q", np.zeros((1, 1)))], Sizes("text").provenance())
        assert run({"q": "abc"}, tmp_path / "out.h5", Sizes("text")).done == ["q"]
        assert contents(tmp_path / "out.h5") == {"q": [3]}

    def test_length_of_sound(self, tmp_path: Path) -> None:
        for name, seconds in {"a": 1.5, "b": 0.25}.items():
            with wave.open(str(tmp_path / f"{name}.wav"), "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(2)
                sound.setframerate(8000)
                sound.writeframes(bytes(int(seconds * 16000)))
        report = run(dict(sound_files(tmp_path)), tmp_path / "out.h5", Sizes("speech"))
        assert report.media_s == pytest.approx(1.75)

    def test_interrupt_keeps_what_is_finished(self, tmp_path: Path) -> None:
        class Interrupted(Sizes):
            def encode(self, inputs: Sequence[int]) -> list[np.ndarray]:
                if 7 in inputs:
                    raise KeyboardInterrupt
                return super().encode(inputs)

        sources = files(tmp_path, a=1, b=2, c=7, d=4)
        with pytest.raises(KeyboardInterrupt):
            run(sources, tmp_path / "out.h5", Interrupted())
        assert not (tmp_path / "out.h5").exists()
        backbone = Sizes()
        assert run(sources, tmp_path / "out.h5", backbone).skipped == ["a", "b"]
        assert backbone.seen == ["c", "d"]
        assert contents(tmp_path / "out.h5") == {"a": [1, 1], "b": [2, 2], "c": [7, 7], "d": [4, 4]}
        assert not (tmp_path / ".out.h5.partial").exists()


@pytest.mark.parametrize(
    ("done", "media_s", "wall_s", "speed"),
    [(3, 380.0, 10.0, "38x real time"), (1, 12.0, 10.0, "1.2x real time"), (500, 0.0, 4.0, "125 a second")],
)
def test_speed(done: int, media_s: float, wall_s: float, speed: str) -> None:
    assert Report(done=["x"] * done, media_s=media_s, wall_s=wall_s).speed == speed


class TestFiles:
    def test_videos_and_sounds(self, tmp_path: Path) -> None:
        for name in ("b.MP4", "a.mkv", "c.wav", "d.Opus", "notes.txt", "._b.mp4", ".a.x.part.mp4"):
            (tmp_path / name).touch()
        assert video_files(tmp_path) == {"a": tmp_path / "a.mkv", "b": tmp_path / "b.MP4"}
        assert sound_files(tmp_path) == video_files(tmp_path) | {
            "c": tmp_path / "c.wav",
            "d": tmp_path / "d.Opus",
        }
        assert video_files(tmp_path / "none") == video_files(tmp_path / "a.mkv") == {}

    def test_two_of_one_id(self, tmp_path: Path) -> None:
        (tmp_path / "a.mkv").touch()
        (tmp_path / "a.wav").touch()
        assert list(video_files(tmp_path)) == ["a"]
        with pytest.raises(FeatureError) as caught:
            sound_files(tmp_path)
        assert str(caught.value) == f"{tmp_path} holds a.mkv and a.wav, of one id: rename one"


# Encodes files slowly, as their number, and keeps a log of those it begins.
JOB = """
import sys, time
from pathlib import Path
import numpy as np
from mrnet.features.extraction.extract import extract, video_files
from mrnet.features.store.writer import open_writer
from mrnet.provenance import Provenance

class Slow:
    kind, name, dim, rate, revision, batch_size = "video", "slow", 2, 1.0, "1", 3

    def prepare(self, source):
        with open("log", "a") as log:
            log.write(Path(source).stem + "\\n")
        for index in range(4):
            time.sleep(float(sys.argv[2]))
            yield float(Path(source).stem[1:]) + index / 10

    def encode(self, inputs):
        return [np.full((1, 2), value, np.float32) for value in inputs]

    def provenance(self):
        return Provenance(backbone="slow", dim=2, rows_per_s=1.0, revision="1")

backbone = Slow()
extract(video_files(Path("in")), backbone, open_writer(Path(sys.argv[1]), backbone.provenance()), workers=2)
"""


@pytest.mark.parametrize("out", ["out.h5", "out"])
def test_killed_twice_and_resumed(tmp_path: Path, out: str) -> None:
    (tmp_path / "in").mkdir()
    ids = [f"v{index:02}" for index in range(16)]
    for name in ids:
        (tmp_path / "in" / f"{name}.mp4").write_text(name)
    log = tmp_path / "log"
    journal = tmp_path / (".out.h5.partial" if out == "out.h5" else "out") / "origins.jsonl"

    def start(pause_s: float, store: str = out) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", JOB, store, str(pause_s)], cwd=tmp_path)

    def stored() -> list[str]:
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [json.loads(line)["id"] for line in lines]

    finished: list[str] = []
    for _ in range(2):
        log.write_text("")
        process = start(0.03)
        deadline_s = time.monotonic() + 60
        while len(stored()) < len(finished) + 3:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert set(log.read_text().split()).isdisjoint(finished)
        assert (tmp_path / out).exists() == (out == "out")
        finished = stored()
        assert len(finished) == len(set(finished)) < len(ids)
    log.write_text("")
    assert start(0.0).wait(300) == 0
    assert sorted(log.read_text().split()) == sorted(set(ids) - set(finished))  # each once, none of the finished
    assert start(0.0, f"whole{out}").wait(300) == 0
    store, whole = open_store(tmp_path / out), open_store(tmp_path / f"whole{out}")
    assert store.ids() == whole.ids() == ids
    assert store.provenance == whole.provenance
    for name in ids:
        np.testing.assert_array_equal(store.read(name), whole.read(name))
        np.testing.assert_allclose(store.read(name)[:, 0], int(name[1:]) + np.arange(4) / 10, rtol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in", "log", out, f"whole{out}"])
    if out == "out":
        expected = sorted([*(f"{name}.npy" for name in ids), "origins.jsonl", "provenance.json"])
        assert sorted(path.name for path in (tmp_path / out).iterdir()) == expected


class TestEncodeVideos:
    def test_encoded_once(self, tmp_path: Path) -> None:
        backbone, out = Sizes(), tmp_path / "out.h5"
        videos = {name: Path(path) for name, path in files(tmp_path, b=2, a=1).items()}
        encode_videos(videos, backbone, out)
        before = out.stat().st_mtime_ns
        encode_videos(videos, backbone, out)
        assert sorted(backbone.seen) == ["a", "b"]
        assert out.stat().st_mtime_ns == before
        assert open_store(out).provenance == backbone.provenance()
        assert contents(out) == {"a": [1, 1], "b": [2, 2]}

    @pytest.mark.parametrize(
        ("change", "again"),
        [("another video", ["c"]), ("newer video", ["a"]), ("other revision", ["a", "b"])],
    )
    def test_encoded_again_when_stale(self, change: str, again: list[str], tmp_path: Path) -> None:
        out = tmp_path / "out.h5"
        videos = {name: Path(path) for name, path in files(tmp_path, a=1, b=2).items()}
        encode_videos(videos, Sizes(), out)
        backbone = Sizes(revision="2" if change == "other revision" else "1")
        if change == "another video":
            videos |= {name: Path(path) for name, path in files(tmp_path, c=3).items()}
        elif change == "newer video":
            os.utime(videos["a"], (2e9, 2e9))
        encode_videos(videos, backbone, out)
        assert sorted(backbone.seen) == again
        assert open_store(out).ids() == sorted(videos)
        assert open_store(out).provenance == backbone.provenance()

    def test_failures_are_warned_of(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "in").mkdir()
        videos = {name: Path(path) for name, path in files(tmp_path / "in", a=1, b=0).items()}
        with caplog.at_level(logging.WARNING, "mrnet"):
            encode_videos(videos, Sizes(), tmp_path / "out.h5")
        assert caplog.messages == [f"b is left out: {videos['b']}: is empty; record it again"]
        assert contents(tmp_path / "out.h5") == {"a": [1, 1]}

    def test_all_fail(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        videos = {name: Path(path) for name, path in files(tmp_path / "in", a=0, b=0).items()}
        with pytest.raises(FeatureError, match=r"[ab]\.mp4: is empty; record it again"):
            encode_videos(videos, Sizes(), tmp_path / "out.h5")
        assert [path.name for path in tmp_path.iterdir()] == ["in"]
