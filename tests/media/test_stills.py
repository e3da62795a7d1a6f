"""Single pictures are those that playing the video shows."""

from pathlib import Path

import numpy as np
import pytest

from mrnet.errors import VideoError
from mrnet.media.stills import stills
from mrnet.media.video import sample_frames, write_video


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Four seconds of noise that grows brighter."""
    noise = np.random.default_rng(0).integers(0, 60, (48, 64, 3))
    frames = [(noise + 9 * index).astype(np.uint8) for index in range(20)]
    write_video(tmp_path / "film.mp4", frames, fps=5)
    return tmp_path / "film.mp4"


def test_they_are_the_frames_that_are_shown(film: Path) -> None:
    shown = dict(sample_frames(film, 5.0, 24))
    times = [0.0, 0.2, 1.0, 1.8, 3.8]
    found = list(stills(film, [time + 0.01 for time in times], 24))
    assert [frame.shape for frame in found] == [(24, 32, 3)] * 5
    assert all(np.array_equal(frame, shown[time]) for frame, time in zip(found, times, strict=True))


def test_in_any_order_and_beyond_the_end(film: Path) -> None:
    last, first = stills(film, [1e6, 0.0], 24)
    shown = dict(sample_frames(film, 5.0, 24))
    assert np.array_equal(last, shown[3.8])
    assert np.array_equal(first, shown[0.0])


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"a\.mp4: cannot be opened as a video file"):
        list(stills(tmp_path / "a.mp4", [0.0], 24))
