"""A classical video descriptor: no weights, no download, many times faster than real time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np

from mrnet.features.backbone import Modality, Rows
from mrnet.media.video import sample_frames
from mrnet.provenance import Provenance

_HEIGHT, _WIDTH = 96, 128
_FRAME_RATE = 8.0
_FRAMES_PER_ROW = 4
# Frames worked on at a time: bounds memory, whatever the length of the video.
_CHUNK_ROWS = 8

_GRID_ROWS, _GRID_COLUMNS = 3, 4
_CELLS = _GRID_ROWS * _GRID_COLUMNS
_HUES = 8
_EDGES = 12
_FLOWS = 8
_GREY_EDGES = 8
_TURN = 2 * math.pi

# Chroma, in [0, 1], below which a pixel counts as grey: compression alone gives as much.
_DULL = 0.12
# Slope of chroma, per pixel, below which there is no edge.
_FLAT = 0.03
# Norm of a histogram that counts as "something there"; much less fades to zero.
_FLOOR = 0.05
# Chroma of a hue, summed over a frame, that counts as an object: 0.1 % of the frame.
_OBJECT = 0.001 * _HEIGHT * _WIDTH
# Length of the inner edge over the root of the area, in these units, by which forms are told
# apart: about 3.1 for a disc, 3.4 for a square, 3.9 for a triangle, 4.3 for a cross.
_FORMS = np.array([3.0, 3.5, 4.0, 4.5])
# What a tanh brings to about 0.76: pixels a frame, and relative change of area a frame.
_SPEED, _GROWTH = 1.0, 0.03
# A relative change of area in one frame, beyond which an object appears or vanishes at once.
_ABRUPT = 0.3

# Layout of a row: block name -> width, in order.
LAYOUT = {
    "color": _CELLS * _HUES,
    "shape": _HUES * _EDGES,
    "compactness": _HUES * len(_FORMS),
    "drift": _HUES * 4,
    "growth": _HUES * 4,
    "flow": _CELLS * _FLOWS,
    "change": _CELLS,
    "texture": _CELLS * _GREY_EDGES,
}


class ColorHogMotion:
    """Color, edges and motion of half a second of video, in blocks of a fixed layout.

    Frames are sampled 8 a second at 128x96 pixels, four to a row. "Chroma" is distance from grey;
    hues share out a pixel's chroma between the two nearest of 8. In the order of :data:`LAYOUT`:

    - color: chroma by cell (3x4, row by row) and hue;
    - shape: edges of the chroma image by hue and direction (12, signed, from grey to color);
    - compactness: length of those edges over the root of the colored area, by hue and size (4);
    - drift: motion of the center of each hue: right, left, down, up;
    - growth: gain and loss of the area of each hue;
    - flow: motion of the chroma image by cell and direction (8, from "right" by way of "down");
    - change: difference of brightness between frames, by cell;
    - texture: edges of the brightness image by quarter of the frame and direction (8, unsigned).

    Histograms are square-rooted, and every block is scaled to a norm of at most 1, close to 1
    unless there is next to nothing in it.
    """

    kind: Modality = "video"
    name = "color-hog-motion"
    dim = sum(LAYOUT.values())
    rate: float | None = _FRAME_RATE / _FRAMES_PER_ROW
    revision = "1"
    batch_size = 1

    def prepare(self, source: str | Path) -> Iterator[Rows]:
        """``(r, dim)`` rows of up to 4 seconds at a time: there is no network, so the workers do it all.

        Raises:
            VideoError: the file is missing or will not decode.
        """
        frames = (frame for _, frame in sample_frames(source, _FRAME_RATE, (_HEIGHT, _WIDTH)))
        before: np.ndarray | None = None
        while chunk := list(islice(frames, _CHUNK_ROWS * _FRAMES_PER_ROW)):
            before = chunk[0] if before is None else before
            yield describe(np.stack([before, *chunk]))
            before = chunk[-1]

    def encode(self, inputs: Sequence[Rows]) -> list[Rows]:
        """The rows themselves."""
        return list(inputs)

    def provenance(self) -> Provenance:
        """How these features are made."""
        return Provenance(
            backbone=self.name,
            dim=self.dim,
            rows_per_s=self.rate,
            revision=self.revision,
            frame_rate=_FRAME_RATE,
            frames_per_row=_FRAMES_PER_ROW,
            normalisation="square roots, each block scaled to a norm of at most 1",
            libraries={"av": av.__version__},
            details={"frame_size": f"{_WIDTH}x{_HEIGHT}"},
        )


def describe(frames: np.ndarray) -> np.ndarray:
    """Describe some frames, four to a row; a last row may have fewer.

    Args:
        frames: (1 + k, 96, 128, 3) uint8 RGB: the frame before, for its difference from the next
            one, and the ``k`` frames to describe.

    Returns:
        (ceil(k / 4), dim) float32.
    """
    # An array a channel: numpy is slow along an axis of three.
    red, green, blue = np.moveaxis(frames, -1, 0).astype(np.float32, order="C") / 255
    grey = (red + green + blue) / 3
    # The color circle: red at 0, green a third of a turn on, blue two thirds.
    along, across = red - 0.5 * (green + blue), np.float32(0.8660254) * (green - blue)
    vivid = np.maximum(np.sqrt(along * along + across * across) - _DULL, 0)  # hypot takes longer
    slope_x, slope_y = _slopes(vivid)

    at = np.nonzero(vivid)
    hue = np.arctan2(across[at], along[at]) / _TURN
    colored = _Colored(at[0], at[1], at[2], hue % 1.0, vivid[at], slope_x[at], slope_y[at], num_frames=len(frames))
    blocks = {
        "color": colored.histogram(),
        "shape": colored.edges(),
        **colored.tracks(),
        "flow": _flow(vivid, slope_x, slope_y),
        "change": np.sqrt(_by_row(_by_cell(abs(np.diff(grey, axis=0))))),
        "texture": _texture(grey[1:]),
    }
    return np.concatenate([blocks[name] for name in LAYOUT], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Colored:
    """The pixels that are not grey, (pixels,) each; ``hue`` in turns, frame 0 the one before."""

    frame: np.ndarray
    y: np.ndarray
    x: np.ndarray
    hue: np.ndarray
    chroma: np.ndarray
    slope_x: np.ndarray
    slope_y: np.ndarray
    num_frames: int

    def histogram(self) -> np.ndarray:
        """Chroma by cell and hue: (rows, cells * hues)."""
        cell = self.y * _GRID_ROWS // _HEIGHT * _GRID_COLUMNS + self.x * _GRID_COLUMNS // _WIDTH
        counts = _soft_histogram(
            self.frame * _CELLS + cell, self.hue, self.chroma, self.num_frames * _CELLS, _HUES
        )
        mean = counts.reshape(self.num_frames, -1)[1:] * (_CELLS / (_HEIGHT * _WIDTH))
        return _scaled(_by_row(mean))

    def edges(self) -> np.ndarray:
        """Slope of chroma by hue and direction: (rows, hues * directions)."""
        strength = np.hypot(self.slope_x, self.slope_y)
        edge = np.nonzero(strength > _FLAT)
        direction = np.arctan2(self.slope_y[edge], self.slope_x[edge]) / _TURN
        counts = np.zeros((self.num_frames * _HUES, _EDGES))
        for hue, share in _shares(self.hue[edge], _HUES):
            group = self.frame[edge] * _HUES + hue
            counts += _soft_histogram(group, direction, strength[edge] * share, len(counts), _EDGES)
        mean = counts.reshape(self.num_frames, -1)[1:] / (_HEIGHT + _WIDTH)
        return _scaled(_by_row(mean))

    def tracks(self) -> dict[str, np.ndarray]:
        """Form and motion of each hue taken as one object: compactness, drift and growth."""
        chroma = self._by_hue(self.chroma)
        presence = chroma / (chroma + _OBJECT)
        safe = np.maximum(chroma, 1e-6)

        # A hue between two bins splits its object between them: area is taken with both neighbors.
        strength = np.hypot(self.slope_x, self.slope_y)
        outline = self._by_hue(np.where(strength > _FLAT, strength, 0)) / safe
        area = self._by_hue(np.ones_like(self.chroma))
        area += np.roll(area, 1, axis=1) + np.roll(area, -1, axis=1)
        form = np.clip(outline * np.sqrt(area), _FORMS[0], _FORMS[-1])[..., None]
        near = np.maximum(1 - abs(form - _FORMS) / (_FORMS[1] - _FORMS[0]), 0) * presence[..., None]

        both = np.minimum(presence[1:], presence[:-1])
        right = np.diff(self._by_hue(self.chroma * self.x) / safe, axis=0) * both
        down = np.diff(self._by_hue(self.chroma * self.y) / safe, axis=0) * both
        drift = [np.maximum(move, 0) for move in (right, -right, down, -down)]

        change = np.diff(np.log(chroma + _OBJECT), axis=0)
        slow = np.where(abs(change) < _ABRUPT, change, 0)
        abrupt = change - slow
        return {
            "compactness": _by_row(near[1:].reshape(self.num_frames - 1, -1)),
            "drift": np.tanh(_by_row(np.concatenate(drift, axis=1)) / _SPEED),
            "growth": np.concatenate(
                [np.tanh(np.maximum(sign * _by_row(slow), 0) / _GROWTH) for sign in (1, -1)]
                + [np.tanh(_by_row(np.maximum(sign * abrupt, 0))) for sign in (1, -1)],
                axis=1,
            ),
        }

    def _by_hue(self, value: np.ndarray) -> np.ndarray:
        """Sums of a value over the pixels of each frame and hue: (frames, hues)."""
        return _soft_histogram(self.frame, self.hue, value, self.num_frames, _HUES)


def _flow(vivid: np.ndarray, slope_x: np.ndarray, slope_y: np.ndarray) -> np.ndarray:
    """Lucas-Kanade flow of each cell by direction: (rows, cells * directions)."""
    # Slopes and the difference in time belong to the same instant, halfway between two frames.
    slope_x, slope_y = ((s[1:] + s[:-1]) / 2 for s in (slope_x, slope_y))
    step = np.diff(vivid, axis=0)
    products = (
        slope_x * slope_x,
        slope_x * slope_y,
        slope_y * slope_y,
        slope_x * step,
        slope_y * step,
    )
    xx, xy, yy, xt, yt = (_by_row(_by_cell(product)) for product in products)
    # The ridge holds the flow near zero where a cell has edges in no or one direction only.
    xx, yy = xx + 1e-4, yy + 1e-4
    det = xx * yy - xy * xy
    right, down = (xy * yt - yy * xt) / det, (xy * xt - xx * yt) / det
    group = np.arange(right.size)
    speed = np.tanh(np.hypot(right, down) / _SPEED).ravel()
    direction = np.arctan2(down, right).ravel() / _TURN
    return _scaled(_soft_histogram(group, direction, speed, right.size, _FLOWS).reshape(len(right), -1))


def _texture(grey: np.ndarray) -> np.ndarray:
    """Slopes of brightness by cell and direction, signs dropped: (rows, cells * directions)."""
    # One frame a row is enough for what stands still, and slow to do for all.
    grey = grey[::_FRAMES_PER_ROW]
    slope_x, slope_y = _slopes(grey)
    # Twice the angle: opposite slopes fall together.
    direction = (2 * np.arctan2(slope_y, slope_x) / _TURN).ravel()
    cell_y = np.arange(_HEIGHT) * _GRID_ROWS // _HEIGHT
    cell_x = np.arange(_WIDTH) * _GRID_COLUMNS // _WIDTH
    cell = cell_y[:, None] * _GRID_COLUMNS + cell_x
    group = (np.arange(len(grey))[:, None, None] * _CELLS + cell).ravel()
    counts = _soft_histogram(group, direction, np.hypot(slope_x, slope_y).ravel(), len(grey) * _CELLS, _GREY_EDGES)
    return _scaled(counts.reshape(len(grey), -1) * (_CELLS / (_HEIGHT * _WIDTH)))


def _slopes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel slopes of (frames, height, width), per pixel, to the right and down; 0 at the border."""
    slope_x, slope_y = np.zeros_like(image), np.zeros_like(image)
    tall = image[:, :-2] + 2 * image[:, 1:-1] + image[:, 2:]
    slope_x[:, 1:-1, 1:-1] = (tall[:, :, 2:] - tall[:, :, :-2]) / 8
    wide = image[:, :, :-2] + 2 * image[:, :, 1:-1] + image[:, :, 2:]
    slope_y[:, 1:-1, 1:-1] = (wide[:, 2:] - wide[:, :-2]) / 8
    return slope_x, slope_y


def _shares(position: np.ndarray, num_bins: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two bins nearest to positions on a circle, in turns, and the share of each.

    Bin ``k`` is centered at ``k / num_bins`` of a turn.
    """
    scaled = (position - np.floor(position)) * num_bins  # as % 1.0, in less time
    low = scaled.astype(np.int64)
    high_share = scaled - low
    return [(low % num_bins, 1 - high_share), ((low + 1) % num_bins, high_share)]


def _soft_histogram(
    group: np.ndarray, position: np.ndarray, weight: np.ndarray, num_groups: int, num_bins: int
) -> np.ndarray:
    """Sums of weights by group and by bin on a circle: (num_groups, num_bins)."""
    counts = np.zeros(num_groups * num_bins)
    for bins, share in _shares(position, num_bins):
        counts += np.bincount(group * num_bins + bins, weight * share, len(counts))
    return counts.reshape(num_groups, num_bins)


def _by_cell(image: np.ndarray) -> np.ndarray:
    """Means of (frames, height, width) over the cells of the grid: (frames, cells)."""
    height, width = _HEIGHT // _GRID_ROWS, _WIDTH // _GRID_COLUMNS
    # Rows first: numpy adds up long rows quickly, short ones slowly.
    bands = image.reshape(-1, _GRID_ROWS, height, _WIDTH).sum(axis=2)
    cells = bands.reshape(-1, _CELLS, width).sum(axis=2)
    return np.asarray(cells / (height * width))


def _by_row(values: np.ndarray) -> np.ndarray:
    """Means of (frames, width) over the frames of each row: (rows, width)."""
    starts = np.arange(0, len(values), _FRAMES_PER_ROW)
    sizes = np.diff(np.append(starts, len(values)))
    return np.asarray(np.add.reduceat(values, starts, axis=0) / sizes[:, None])


def _scaled(histogram: np.ndarray) -> np.ndarray:
    """Square roots of (rows, width), each row scaled to a norm below 1, near 0 if it is all but empty."""
    root = np.sqrt(histogram)
    return np.asarray(root / np.sqrt((root**2).sum(axis=1, keepdims=True) + _FLOOR**2))
