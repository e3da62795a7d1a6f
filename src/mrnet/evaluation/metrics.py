"""Recall and mean tIoU of ranked moments, per query and per split, with bootstrap intervals.

Every array of moments may be padded with NaN: a NaN moment overlaps nothing.

Source: the released evaluation (docs/method.md, section 9); its arithmetic is float32, and so is this.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mrnet.errors import DataError

Array = NDArray[np.floating]
Moments = Array | Sequence[Sequence[Sequence[float]]]
"""Moments of n queries: an array ``(n, w, 2)``, or for each query a list of (start, end)."""

_WEIGHTS_AT_ONCE = 1 << 22  # bootstrap weights held in memory: 32 MiB


def tiou(a: Array, b: Array) -> Array:
    """Overlap of moments over the stretch that the two of them span.

    Args:
        a: ``(..., 2)``, start and end, in any unit.
        b: ``(..., 2)``, the same unit, broadcast against ``a``.

    Returns:
        ``(...)``, in [0, 1]; 0 where both moments are empty or one is NaN.

    Source: docs/method.md, section 3. For moments that overlap, the stretch equals their union.
    """
    overlap = np.maximum(np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0]), 0)
    hull = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
    ratio: Array = np.divide(overlap, hull, out=np.zeros_like(overlap), where=hull > 0)
    return ratio


def pad_moments(moments: Sequence[Sequence[Sequence[float]]], width: int = 2) -> NDArray[np.float64]:
    """Stack lists of unequal length into one array, padded with NaN.

    Args:
        moments: for each query, its rows of ``width`` numbers; a query may have none.
        width: numbers in a row.

    Returns:
        ``(n, longest, width)``, ``longest`` at least 1.
    """
    longest = max([1, *map(len, moments)])
    padding = (np.nan,) * width
    rows = [[*query, *([padding] * (longest - len(query)))] for query in moments]
    return np.array(rows, dtype=np.float64).reshape(len(moments), longest, width)


def per_query_hits(
    predictions: Moments,
    truth: Moments,
    tious: Sequence[float] = (0.3, 0.5, 0.7),
    ranks: Sequence[int] = (1, 5),
) -> dict[str, NDArray[np.float64]]:
    """Score every query on its own; the mean over queries is the metric.

    Args:
        predictions: ``(n, k, 2)``, in seconds, best first; NaN where a query has fewer than k.
        truth: ``(n, w, 2)``, in seconds; of several moments the best overlapped counts.
        tious: thresholds; an overlap equal to the threshold is a hit.
        ranks: how many of the first predictions may hold the hit.

    Returns:
        ``"R@<rank>,IoU=<tiou>"`` -> ``(n,)`` of 0 and 1; ``"mIoU"`` -> ``(n,)``, tIoU of rank 1.

    Raises:
        DataError: there is no query, the numbers of queries differ, or a query has no truth.
    """
    ranked, spans = _as_float32(predictions), _as_float32(truth)
    if len(ranked) != len(spans):
        raise DataError(f"{len(ranked)} queries have predictions and {len(spans)} have ground truth; give both")
    if not len(spans):
        raise DataError("there is no query to evaluate; check that the split is not empty")
    unanswered = np.flatnonzero(np.isnan(spans).any(axis=2).sum(axis=1) == spans.shape[1])
    if len(unanswered):
        raise DataError(
            f"query number {unanswered[0]} has no ground-truth moment; evaluate a split whose answers are public"
        )

    overlap = tiou(ranked[:, :, None], spans[:, None]).max(axis=2)  # (n, k)
    best = np.maximum.accumulate(overlap, axis=1)
    last = overlap.shape[1] - 1
    hits = {
        f"R@{rank},IoU={threshold:g}": (best[:, min(rank - 1, last)] >= np.float32(threshold)).astype(np.float64)
        for rank in ranks
        for threshold in tious
    }
    hits["mIoU"] = overlap[:, 0].astype(np.float64)
    return hits


def recall_metrics(
    predictions: Moments,
    truth: Moments,
    tious: Sequence[float] = (0.3, 0.5, 0.7),
    ranks: Sequence[int] = (1, 5),
) -> dict[str, float]:
    """Recall at each rank and threshold, and mean tIoU of rank 1, over all queries.

    Args:
        predictions: as for :func:`per_query_hits`.
        truth: as for :func:`per_query_hits`.
        tious: as for :func:`per_query_hits`.
        ranks: as for :func:`per_query_hits`.

    Returns:
        ``"R@1,IoU=0.5"``, ... and ``"mIoU"``, in percent.

    Raises:
        DataError: as for :func:`per_query_hits`.
    """
    hits = per_query_hits(predictions, truth, tious, ranks)
    return {name: 100 * float(values.mean()) for name, values in hits.items()}


def bootstrap_intervals(
    hits: Mapping[str, NDArray[np.float64]],
    video_ids: Sequence[str],
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the metrics, by resampling videos.

    The queries of a video are answered from the same features and often describe the same
    moment, so they are drawn together: drawing queries would give intervals too narrow.

    Args:
        hits: metric -> ``(n,)``, from :func:`per_query_hits`.
        video_ids: the video of each of the n queries.
        samples: bootstrap samples, each of as many videos as there are.
        seed: of the random draw; the same seed gives the same intervals.

    Returns:
        Metric -> (2.5th, 97.5th percentile), in percent.

    Raises:
        DataError: ``video_ids`` and ``hits`` are not of equal length, or are empty.
    """
    values = np.stack(list(hits.values()), axis=1)  # (n, metrics)
    if len(video_ids) != len(values) or not len(values):
        raise DataError(f"{len(values)} queries were scored and {len(video_ids)} have a video; give one for each")
    videos, video_of = np.unique(np.asarray(video_ids), return_inverse=True)
    totals = np.zeros((len(videos), values.shape[1]))
    np.add.at(totals, video_of, values)
    queries = np.bincount(video_of).astype(np.float64)

    rng = np.random.default_rng(seed)
    even = np.full(len(videos), 1 / len(videos))
    block = max(1, _WEIGHTS_AT_ONCE // len(videos))
    means = []
    for start in range(0, samples, block):
        times_drawn = rng.multinomial(len(videos), even, size=min(block, samples - start)).astype(np.float64)
        means.append(times_drawn @ totals / (times_drawn @ queries)[:, None])
    low, high = np.percentile(100 * np.concatenate(means), [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(hits)}


def _as_float32(moments: Moments) -> NDArray[np.float32]:
    """``(n, k, 2)`` in the precision of the released evaluation: thresholds fall where it has them."""
    array = moments if isinstance(moments, np.ndarray) else pad_moments(moments)
    return array.astype(np.float32)
