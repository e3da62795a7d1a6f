"""A long video, asked in windows that overlap.

A model that makes the same number of clips of any video sees the less of a moment the longer the video is, and was
trained on videos of some length. A video longer than those is cut into windows of their usual length, which it knows
best. At least half of each is shown again by the next, so that a moment of up to half a window lies whole in one.
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from mrnet.config.spec import VideoLengths
from mrnet.retrieval.scorer import Candidates, Scorer

# So much of what windows are encoded to is kept between calls. The rest is encoded anew, lest hours fill the memory.
_KEPT_BYTES = 128 * 2**20
# A moment that ends within this part of a window's length of its edge touches it: cells are rounded.
_TOUCHING = 1e-3


class Encoded(Protocol):
    """What a scorer keeps of a window, and how large that is."""

    @property
    def nbytes(self) -> int: ...


Kept = TypeVar("Kept", bound=Encoded)


@dataclass(frozen=True)
class Window(Generic[Kept]):
    """A stretch of a video.

    Attributes:
        rows: ``(r, c)`` of it.
        start_s: in the video.
        duration_s: its length.
        encoded: by the scorer, where that is kept.
    """

    rows: Tensor
    start_s: float
    duration_s: float
    encoded: Kept | None

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


class WindowedScorer(Generic[Kept]):
    """A scorer of videos of bounded length, asked about longer ones.

    Every window is scored by itself, so scores must stand alone, and not say how far a moment stands out. A moment that
    is cut off at the edge of a window and lies inside a neighbour is taken from the neighbour, which sees where it
    begins and ends. A video that fits is one window, and its answers are those of the scorer.

    Args:
        scorer: of a window.
        lengths: of the longest video that is asked whole, and of a window; ``None`` asks every one whole.
    """

    def __init__(self, scorer: Scorer[Kept], lengths: VideoLengths | None) -> None:
        self.scorer = scorer
        self.lengths = lengths

    def encode_video(self, rows: Tensor, duration_s: float) -> tuple[Window[Kept], ...]:
        """As :meth:`mrnet.retrieval.scorer.Scorer.encode_video`."""
        per_s = len(rows) / duration_s
        windows, kept = [], 0
        for start, end in self._bounds(len(rows), duration_s):
            some, length_s = rows[start:end], (end - start) / per_s
            encoded = self.scorer.encode_video(some, length_s) if kept < _KEPT_BYTES else None
            kept += 0 if encoded is None else encoded.nbytes
            windows.append(Window(some, start / per_s, length_s, encoded))
        return tuple(windows)

    def candidates(self, video: tuple[Window[Kept], ...], queries: Tensor) -> Candidates:
        """As :meth:`mrnet.retrieval.scorer.Scorer.candidates`."""
        spans_s, scores = [], []
        for number, window in enumerate(video):
            encoded = window.encoded
            if encoded is None:
                encoded = self.scorer.encode_video(window.rows, window.duration_s)
            found = self.scorer.candidates(encoded, queries)
            if len(video) == 1:
                return found
            spans = found.spans_s + window.start_s
            kept = ~_cut_off(spans, window, video[max(number - 1, 0) : number + 2])
            spans_s.append(spans[kept])
            scores.append(found.scores[:, kept])
        return Candidates(torch.cat(spans_s), torch.cat(scores, dim=1))

    def _bounds(self, num_rows: int, duration_s: float) -> list[tuple[int, int]]:
        """First row, and one past the last, of windows of one length, evenly from the first row to the last."""
        if self.lengths is None or duration_s <= self.lengths.longest_s:
            return [(0, num_rows)]
        length = max(round(num_rows * self.lengths.usual_s / duration_s), 1)
        gaps = -(-(num_rows - length) // max(length // 2, 1))
        starts = [index * (num_rows - length) // gaps for index in range(gaps + 1)] if gaps else [0]
        return [(start, start + length) for start in starts]


def _cut_off(spans_s: Tensor, window: Window[Kept], around: tuple[Window[Kept], ...]) -> Tensor:
    """``(c,)`` whether an edge of a window may cut a moment off, of which a neighbour shows more on either side."""
    near = _TOUCHING * window.duration_s
    start, end = spans_s.unbind(dim=1)
    touching = (start <= window.start_s + near) | (end >= window.end_s - near)
    inside = [
        (start > other.start_s + near) & (end < other.end_s - near) for other in around if other is not window
    ]
    return touching & torch.stack(inside).any(dim=0)
