"""The classical descriptor on hand-made frames."""

from pathlib import Path

import numpy as np
import pytest

from mrnet.features.backbone import encode_sources
from mrnet.features.encoders.color_hog_motion import LAYOUT, ColorHogMotion, describe
from mrnet.media.video import write_video

HEIGHT, WIDTH = 96, 128
RED, GREEN, BLUE = (230, 0, 0), (0, 230, 0), (0, 0, 230)


def scene(color: tuple[int, int, int], x: int, y: int, half: int = 10) -> np.ndarray:
    """A square on grey, its center at (x, y)."""
    frame = np.full((HEIGHT, WIDTH, 3), 110, dtype=np.uint8)
    frame[y - half : y + half, x - half : x + half] = color
    return frame


def block(rows: np.ndarray, name: str) -> np.ndarray:
    start = 0
    for other, width in LAYOUT.items():
        if other == name:
            return rows[:, start : start + width]
        start += width
    raise KeyError(name)


def moving(dx: int, dy: int, color: tuple[int, int, int] = RED) -> np.ndarray:
    """One row: a square in five frames, (dx, dy) pixels on from one to the next."""
    return describe(np.stack([scene(color, 64 + k * dx, 48 + k * dy) for k in range(5)]))


def test_layout_fills_the_row() -> None:
    rows = moving(1, 0)
    assert rows.shape == (1, 492)
    assert rows.dtype == np.float32
    assert ColorHogMotion.dim == sum(LAYOUT.values()) == 492


@pytest.mark.parametrize(("color", "hues"), [(RED, {0}), (GREEN, {2, 3}), (BLUE, {5, 6})])
def test_color_falls_in_its_hue_and_cell(color: tuple[int, int, int], hues: set[int]) -> None:
    # Center (16, 16): inside the cell of the first row and column, 32 pixels wide and high.
    color_block = block(describe(np.stack([scene(color, 16, 16)] * 5)), "color").reshape(3, 4, 8)
    rows, columns, bins = np.nonzero(color_block > 1e-3)
    assert set(rows) == {0}
    assert set(columns) == {0}
    assert set(bins) == hues
    assert np.linalg.norm(color_block) == pytest.approx(1, abs=0.05)


def test_color_moves_to_the_last_cell() -> None:
    color_block = block(describe(np.stack([scene(RED, 112, 80)] * 5)), "color").reshape(3, 4, 8)
    assert np.unravel_index(color_block.argmax(), (3, 4, 8)) == (2, 3, 0)


@pytest.mark.parametrize(
    ("dx", "dy", "direction"), [(1, 0, "right"), (-1, 0, "left"), (0, 1, "down"), (0, -1, "up")]
)
def test_drift_and_flow_follow_the_motion(dx: int, dy: int, direction: str) -> None:
    rows = moving(dx, dy)
    drift = block(rows, "drift").reshape(4, 8)
    expected = ["right", "left", "down", "up"].index(direction)
    # One pixel a frame, of a red that counts as wholly present but for 2 %: tanh(0.98) = 0.75.
    assert drift[expected, 0] == pytest.approx(0.75, abs=0.02)
    assert np.delete(drift, expected, axis=0).max() < 1e-3
    assert drift[:, 1:7].max() < 1e-3
    # Flow counts directions from "right" by way of "down" in eighths of a turn.
    flow = block(rows, "flow").reshape(12, 8).sum(axis=0)
    assert flow.argmax() == {"right": 0, "down": 2, "left": 4, "up": 6}[direction]


def test_still_has_no_motion() -> None:
    rows = moving(0, 0)
    for name in ("drift", "growth", "flow", "change"):
        assert abs(block(rows, name)).max() == 0, name


def test_square_has_edges_in_four_directions() -> None:
    shape = block(moving(0, 0), "shape").reshape(8, 12)
    # Twelfths of a turn: right, down, left, up. Corners add a little in between.
    assert set(np.argsort(shape[0])[-4:]) == {0, 3, 6, 9}
    assert shape[0, [0, 3, 6, 9]].min() > 3 * np.delete(shape[0], [0, 3, 6, 9]).max()
    assert shape[2:7].max() < 1e-3


def test_growth_and_shrinking() -> None:
    grown = [scene(RED, 64, 48, half) for half in (20, 21, 22, 23, 24)]
    gain, loss, appear, vanish = block(describe(np.stack(grown)), "growth").reshape(4, 8)[:, 0]
    # Area by (24/20)² over four frames: log 1.44 / 4 = 0.09 a frame, and tanh(0.09 / 0.03) = 0.995.
    assert gain == pytest.approx(0.995, abs=0.003)
    assert (loss, appear, vanish) == (0, 0, 0)
    gain, loss, appear, vanish = block(describe(np.stack(grown[::-1])), "growth").reshape(4, 8)[:, 0]
    assert loss == pytest.approx(0.995, abs=0.003)
    assert (gain, appear, vanish) == (0, 0, 0)


def test_blinking_appears_and_vanishes() -> None:
    on, off = scene(RED, 64, 48), scene((110, 110, 110), 64, 48)
    gain, loss, appear, vanish = block(describe(np.stack([off, on, on, off, off])), "growth").reshape(4, 8)[:, 0]
    assert (gain, loss) == (0, 0)
    assert appear == pytest.approx(vanish)
    assert appear > 0.5


def test_grey_frames_give_finite_rows_without_color() -> None:
    rows = describe(np.full((6, HEIGHT, WIDTH, 3), 90, dtype=np.uint8))
    assert rows.shape == (2, 492)
    assert not rows.any()


def test_encode(tmp_path: Path) -> None:
    """3.25 s at 8 frames a second: 26 frames, six whole rows and one of two frames."""
    path = tmp_path / "slide.mp4"
    frames = [scene(RED, 14 + 3 * k, 48) for k in range(26)]
    write_video(path, frames, 8)
    rows = encode_sources(ColorHogMotion(), [path])[0]
    assert rows.shape == (7, 492)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    right, left, *_ = block(rows, "drift").reshape(7, 4, 8).transpose(1, 0, 2)[:, :, 0]
    assert right.min() > 0.9 * np.tanh(3 * 3 / 4)  # the first row has three steps in four frames
    assert left.max() < 0.05
    # Chunks of 32 frames are an inner matter: a longer video starts with the same rows.
    write_video(path, frames[:24] + frames[24::-1] + frames, 8)
    longer = encode_sources(ColorHogMotion(), [path])[0]
    assert longer.shape == (19, 492)
    np.testing.assert_allclose(block(longer[:6], "color"), block(rows[:6], "color"), atol=0.05)
    # Rows 6 and 7 (frames 24 to 31), 8 and 9 lie on either side of the boundary: all move left.
    assert block(longer[7:10], "drift").reshape(3, 4, 8)[:, 1, 0].min() > 0.9
