"""A library of tiny videos of one colour at a time, and an encoder that sees colours and reads their names."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.engines import UntrainedEngine
from mrnet.errors import DataError, VideoError
from mrnet.features.backbone import Modality, Rows
from mrnet.features.cache import FOLDER_VARIABLE
from mrnet.library.library import Library
from mrnet.media.video import sample_frames, write_video
from mrnet.predictor import Predictor
from mrnet.provenance import Provenance
from mrnet.retrieval.aligned import AlignedScorer, SharedSpace, Untrained

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "white": (1, 1, 1)}


class Colours:
    """Rows are the mean colours of pictures, two a second; sentences the colours that they name."""

    name, dim, revision, batch_size = "colours", 3, "1", 4

    def __init__(self, kind: Modality) -> None:
        self.kind = kind
        self.rate = 2.0 if kind == "video" else None
        self.prepared: list[str] = []

    def prepare(self, source: str | Path) -> Iterator[Any]:
        self.prepared.append(Path(source).name if self.kind == "video" else str(source))
        if self.kind == "video":
            if Path(source).name.startswith("broken"):
                raise VideoError(f"{source}: is broken")
            yield from (frame for _, frame in sample_frames(source, 2.0, 8))
        elif not str(source).strip():
            raise DataError("the query is empty")
        else:
            yield source

    def encode(self, inputs: Sequence[Any]) -> list[Rows]:
        if self.kind == "video":
            return [frame.mean(axis=(0, 1), dtype=np.float32)[None] / 255 for frame in inputs]
        named = [[COLOURS[word] for word in COLOURS if word in sentence] or [(0, 0, 0)] for sentence in inputs]
        return [np.mean(colours, axis=0, dtype=np.float32, keepdims=True) for colours in named]

    def provenance(self) -> Provenance:
        return Provenance(backbone=self.name, dim=self.dim, rows_per_s=self.rate, revision=self.revision)


def paint(path: Path, *colours: str, seconds: int = 4) -> Path:
    """A video that shows each colour for some seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = (
        np.full((32, 32, 3), COLOURS[colour], np.uint8) * 200 for colour in colours for _ in range(4 * seconds)
    )
    write_video(path, frames, fps=4)
    return path


def answering(encoder: Colours) -> Predictor:
    """What answers with it."""
    untrained = Untrained(encoder, Colours("text"), AlignedScorer(SharedSpace(3), 2.0))
    return Predictor(UntrainedEngine(untrained, "colours"))


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))


@pytest.fixture
def encoder() -> Colours:
    return Colours("video")


@pytest.fixture
def predictor(encoder: Colours) -> Predictor:
    return answering(encoder)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Three videos, one in a folder of its own."""
    paint(tmp_path / "videos" / "a.mp4", "red", "green")
    paint(tmp_path / "videos" / "b.mp4", "blue", "yellow", "red")
    paint(tmp_path / "videos" / "trip" / "c.mp4", "white", "blue")
    return tmp_path / "videos"


@pytest.fixture
def open_library(tmp_path: Path, predictor: Predictor) -> Callable[[], Library]:
    """The library as a process opens it."""
    return lambda: Library.open(tmp_path / "library", predictor)


@pytest.fixture
def library(open_library: Callable[[], Library], videos: Path) -> Library:
    """With the three videos in it."""
    library = open_library()
    library.update(videos)
    return library
