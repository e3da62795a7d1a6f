"""Stretches of a video that hang together, found from its rows of features alone.

A boundary is where the rows on either side differ. Neighbouring segments in a run are what a sentence is held against.

Source: docs/real.md.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows averaged on either side of a boundary.
_REACH = 3
_AT_ONCE = 2048  # memory stays flat in a long video
# A relative threshold lies this far from the usual change of a video to its largest, few outliers aside.
_WAY, _LARGEST = 0.5, 0.98
# Less than this is no change in any video: pictures of one shot differ by about as much.
_LEAST_CUT = 0.05


@dataclass(frozen=True, slots=True)
class Cuts:
    """How much rows must change for a segment to end, as cosine distances.

    Attributes:
        shot: ends a segment anywhere.
        inner: splits a segment that is long.
        long_s: a segment of at least so many seconds,
        long_part: and of at least this fraction of the video, is long.
    """

    shot: float
    inner: float
    long_s: float = 10.0
    long_part: float = 0.25


def changes(rows: Tensor) -> Tensor:
    """How much a video changes at each boundary between rows.

    Args:
        rows: ``(r, c)``, of any scale. Where none is negative, as after a network's last activation, roots are taken,
            which keeps a few large values from hiding the others.

    Returns:
        ``(r + 1,)`` cosine distance of the means of the three rows on either side; entry k lies before row k, and
        those at both ends are 0.
    """
    roots = bool((rows >= 0).all())
    inner = []
    for start in range(1, len(rows), _AT_ONCE):
        end = min(start + _AT_ONCE, len(rows))
        first = max(start - _REACH, 0)
        some = rows[first : end + _REACH - 1].float()
        inner.append(_inner_changes(some.sqrt() if roots else some)[start - first - 1 : end - first - 1])
    return F.pad(torch.cat(inner) if inner else torch.zeros(0), (1, 1))


def _inner_changes(rows: Tensor) -> Tensor:
    """``(r - 1,)`` of :func:`changes`, beyond whose ends there is nothing."""
    rows = F.normalize(rows, dim=1)
    padded = F.pad(rows, (0, 0, _REACH - 1, _REACH - 1))
    sums = torch.zeros(len(rows) + _REACH - 1, rows.shape[1])  # of rows k - 2 to k
    for shift in range(_REACH):
        sums += padded[shift : shift + len(sums)]
    return 1 - F.cosine_similarity(sums[: len(rows) - 1], sums[_REACH:], dim=1)


def relative_cuts(distances: Tensor) -> Cuts:
    """Thresholds for an encoder whose changes are of an unknown scale, from those of the video itself.

    Args:
        distances: ``(r + 1,)`` from :func:`changes`.
    """
    inner = distances[1:-1]
    if not len(inner):
        return Cuts(torch.inf, torch.inf)
    usual, largest = inner.median().item(), inner.quantile(_LARGEST).item()
    threshold = max(usual + _WAY * (largest - usual), _LEAST_CUT)
    return Cuts(threshold, threshold)


def segment_edges(distances: Tensor, cuts: Cuts, rows_per_s: float) -> Tensor:
    """Where segments begin and end.

    Args:
        distances: ``(r + 1,)`` from :func:`changes`.
        cuts: thresholds.
        rows_per_s: rate of the rows.

    Returns:
        ``(m + 1,)`` rising row numbers, from 0 to r, of m segments.
    """
    num_rows = len(distances) - 1
    long_rows = max(cuts.long_s * rows_per_s, cuts.long_part * num_rows)
    edges = [0]
    for start, end in pairwise([0, *_peaks(distances, cuts.shot, 0, num_rows), num_rows]):
        if end - start >= long_rows:
            edges += _peaks(distances, cuts.inner, start, end)
        edges.append(end)
    return torch.tensor(edges)


def edge_times(edges: Tensor, rows_per_s: float, duration_s: float) -> Tensor:
    """Seconds of edges: what changed did so between two rows, hence half a row before the edge.

    Args:
        edges: ``(m + 1,)`` from :func:`segment_edges`.
        rows_per_s: rate of the rows.
        duration_s: length of the video.

    Returns:
        ``(m + 1,)`` float32, from 0 to ``duration_s``.
    """
    times = ((edges.double() - 0.5) / rows_per_s).clamp(0, duration_s)
    times[-1] = duration_s
    return times.float()


def runs(num_segments: int, longest: int) -> Tensor:
    """``(c, 2)`` first segment, and one past the last, of every run of up to ``longest`` neighbours."""
    first = torch.arange(num_segments)[:, None].expand(-1, longest)
    last = first + torch.arange(1, longest + 1)
    kept = last <= num_segments
    return torch.stack([first[kept], last[kept]], dim=1)


def run_means(values: Tensor, edges: Tensor, of: Tensor) -> Tensor:
    """Means of a curve over runs of segments.

    Args:
        values: ``(n, r)`` curves.
        edges: ``(m + 1,)`` from :func:`segment_edges`.
        of: ``(c, 2)`` from :func:`runs`.

    Returns:
        ``(n, c)`` of the type of ``values``.
    """
    total = F.pad(values.double().cumsum(dim=1), (1, 0))
    start, end = edges[of].unbind(dim=1)
    return ((total[:, end] - total[:, start]) / (end - start)).to(values.dtype)


def run_rows(rows: Tensor, edges: Tensor, of: Tensor) -> Tensor:
    """Means of rows over runs of segments.

    Args:
        rows: ``(r, e)``.
        edges: ``(m + 1,)`` from :func:`segment_edges`.
        of: ``(c, 2)`` from :func:`runs`.

    Returns:
        ``(c, e)`` of the type of ``rows``.
    """
    segment = torch.bucketize(torch.arange(len(rows)), edges[1:], right=True)
    sums = torch.zeros(len(edges) - 1, rows.shape[1], dtype=rows.dtype).index_add_(0, segment, rows)
    total = F.pad(sums.double().cumsum(dim=0), (0, 0, 1, 0))
    means = []
    for first, last in (part.unbind(dim=1) for part in torch.split(of, _AT_ONCE)):
        means.append(((total[last] - total[first]) / (edges[last] - edges[first])[:, None]).to(rows.dtype))
    return torch.cat(means)


def _peaks(distances: Tensor, least: float, start: int, end: int) -> list[int]:
    """Boundaries strictly between two where the distance is large enough, and larger than at their neighbours."""
    inside = F.pad(distances[start + 1 : end], (1, 1), value=-torch.inf)
    here, before, after = inside[1:-1], inside[:-2], inside[2:]
    found: list[int] = ((here >= least) & (here > before) & (here >= after)).nonzero().flatten().tolist()
    return [start + 1 + index for index in found]
