"""Encoding a folder of videos once."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mrnet.errors import VideoError
from mrnet.features.backbones import Kind
from mrnet.features.extract import encode_videos
from mrnet.features.store import open_store
from mrnet.types import Provenance


class Sizes:
    """Encodes a file as its size, and counts."""

    kind: Kind = "video"
    name, dim, revision, batch_size = "sizes", 1, "1", 1
    rate: float | None = 1.0
    calls = 0

    def prepare(self, source: str | Path) -> Iterator[int]:
        self.calls += 1
        size = Path(source).stat().st_size
        if not size:
            raise VideoError(f"{source} is empty: record it again")
        yield size

    def encode(self, inputs: Sequence[int]) -> list[np.ndarray]:
        return [np.full((2, 1), size, dtype=np.float32) for size in inputs]

    def provenance(self) -> Provenance:
        return Provenance(backbone=self.name, dim=self.dim, revision=self.revision)


def files(folder: Path, **sizes: int) -> dict[str, Path]:
    for name, size in sizes.items():
        (folder / f"{name}.mp4").write_bytes(b"x" * size)
    return {name: folder / f"{name}.mp4" for name in sizes}


def test_encoded_once_and_in_order(tmp_path: Path) -> None:
    backbone, out = Sizes(), tmp_path / "out.h5"
    videos = files(tmp_path, b=2, a=1)
    encode_videos(videos, backbone, out)
    encode_videos(videos, backbone, out)
    assert backbone.calls == 2
    store = open_store(out)
    assert store.provenance == backbone.provenance()
    assert [store.read(name).tolist() for name in ("a", "b")] == [[[1], [1]], [[2], [2]]]


@pytest.mark.parametrize("change", ["another video", "newer video", "other backbone"])
def test_encoded_again_when_stale(change: str, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    videos = files(tmp_path, a=1)
    encode_videos(videos, Sizes(), out)
    backbone = Sizes()
    if change == "another video":
        videos |= files(tmp_path, b=3)
    elif change == "newer video":
        later = out.stat().st_mtime + 10
        os.utime(videos["a"], (later, later))
    else:
        backbone.revision = "2"
    encode_videos(videos, backbone, out)
    assert backbone.calls == len(videos)


def test_a_video_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    videos = files(tmp_path / "in", a=1, b=0)
    with pytest.raises(VideoError, match=r"b\.mp4 is empty"):
        encode_videos(videos, Sizes(), tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
