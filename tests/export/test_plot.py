"""The picture of an answer."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrnet.errors import OutputError
from mrnet.export.plot import plot
from mrnet.media.video import write_video
from mrnet.types import Moment


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten seconds: red, then blue."""
    red, blue = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64, 3), np.uint8)
    red[..., 0], blue[..., 2] = 250, 250
    write_video(tmp_path / "a.mp4", [red] * 20 + [blue] * 20, fps=4)
    return tmp_path / "a.mp4"


def test_frames_lie_where_they_are_in_time(video: Path) -> None:
    target = io.BytesIO()
    plot(target, video, 10.0, [Moment(6.0, 8.0, 0.9)], "blue", curve=[(0.0, 0.1), (9.5, 0.9)])
    picture = np.asarray(Image.open(io.BytesIO(target.getvalue())).convert("RGB")).astype(int)
    assert picture.shape[1] == 1200
    red = (picture[..., 0] > 150) & (picture[..., 1] < 130) & (picture[..., 2] < 130)
    blue = (picture[..., 2] > 150) & (picture[..., 0] < 130) & (picture[..., 1] < 130)
    columns = np.arange(1200)
    assert np.average(columns, weights=red.sum(axis=0)) < 500
    assert np.average(columns, weights=blue.sum(axis=0)) > 700


def test_a_file_is_written_whole(video: Path, tmp_path: Path) -> None:
    plot(tmp_path / "p.png", video, 10.0, [], "nothing")
    assert Image.open(tmp_path / "p.png").format == "PNG"
    with pytest.raises(OutputError):
        plot(tmp_path / "p.pdf", video, 10.0, [], "nothing")
