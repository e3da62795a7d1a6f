"""Moment retrieval and highlight detection metrics of QVHighlights.

Source: the official standalone evaluation of QVHighlights (Lei et al., 2021), whose figures
these are, computed for all queries at once. Its ways of counting, kept here:

- R1 takes the first listed window and the ground-truth moment with the highest true IoU, then
  thresholds overlap / (last end - first start); AP thresholds the true IoU.
- AP takes the first ten listed windows, sorts them by score and matches them greedily.
- A length range keeps the ground-truth moments of that length, and queries that have one.

Deviation: a query without any window is a miss; the official program stops there. A length range
in which no query has a moment is left out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrnet.errors import DataError
from mrnet.evaluation.metrics import pad_moments, tiou
from mrnet.evaluation.predictions import Prediction, in_order, queries_with_answers
from mrnet.types import RATERS, Query, VideoRecord

Array = NDArray[np.float64]

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
LENGTH_RANGES_S = {"full": (-np.inf, np.inf), "long": (30, 150), "middle": (10, 30), "short": (0, 10)}
HIGHLIGHT_LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}
CLIP_S = 2
MAX_WINDOWS = 10


def qvhighlights_metrics(
    predictions: Sequence[Prediction], records: Sequence[VideoRecord]
) -> dict[str, dict[str, Any]]:
    """Every figure of the official evaluation, under its official name.

    Args:
        predictions: one for every query of ``records``, in any order.
        records: annotations with ground truth.

    Returns:
        ``"brief"`` -> the headline figures; ``"full"``, ``"long"``, ``"middle"``, ``"short"`` ->
        ``"MR-mAP"`` and ``"MR-R1"`` by threshold; and, if the predictions carry saliency,
        ``"HL-min-Fair"``, ``"HL-min-Good"``, ``"HL-min-VeryGood"``. In percent, two decimals.

    Raises:
        DataError: predictions and annotations are not of the same queries, ground truth is
            withheld, or some predictions carry saliency scores and others none.
    """
    queries = queries_with_answers(records)
    ranked = in_order(predictions, records)
    if not queries:
        raise DataError("there is no query to evaluate; check that the split is not empty")

    retrieval = _retrieval(ranked, queries)
    highlights: dict[str, dict[str, float]] = {}
    without = [prediction.qid for prediction in ranked if not prediction.saliency]
    if not without:
        durations = [record.duration_s for record in records for _ in record.queries]
        highlights = _highlights(ranked, queries, durations)
    elif len(without) < len(ranked):
        raise DataError(
            f"{len(without)} of {len(ranked)} predictions have no pred_saliency_scores, the first being qid "
            f"{without[0]}; give them for every query or for none"
        )

    brief = {}
    for name, table in retrieval.items():
        brief[f"MR-{name}-mAP"] = table["MR-mAP"]["average"]
    for threshold in ("0.5", "0.75"):
        brief[f"MR-full-mAP@{threshold}"] = retrieval["full"]["MR-mAP"][threshold]
    for threshold in ("0.5", "0.7"):
        brief[f"MR-full-R1@{threshold}"] = retrieval["full"]["MR-R1"][threshold]
    brief = dict(sorted(brief.items()))
    for name, figures in highlights.items():
        brief |= {f"{name}-{figure.removeprefix('HL-')}": value for figure, value in figures.items()}
    return {"brief": brief, **highlights, **retrieval}


def per_query_scores(predictions: Sequence[Prediction], records: Sequence[VideoRecord]) -> dict[str, Array]:
    """The headline retrieval figures query by query, for bootstrap intervals.

    Args and Raises: as :func:`qvhighlights_metrics`.

    Returns:
        ``"MR-full-mAP"``, ... -> ``(n,)`` in [0, 1], in the order of the records' queries.
    """
    windows, truth = _windows_and_truth(in_order(predictions, records), queries_with_answers(records))
    precision = _average_precision(windows, truth)
    recall = _recall_at_one(windows[:, 0, :2], truth).astype(np.float64)
    return {
        "MR-full-mAP": precision.mean(axis=1),
        "MR-full-mAP@0.5": precision[:, THRESHOLDS.index(0.5)],
        "MR-full-mAP@0.75": precision[:, THRESHOLDS.index(0.75)],
        "MR-full-R1@0.5": recall[:, THRESHOLDS.index(0.5)],
        "MR-full-R1@0.7": recall[:, THRESHOLDS.index(0.7)],
    }


def _windows_and_truth(ranked: Sequence[Prediction], queries: Sequence[Query]) -> tuple[Array, Array]:
    """``(n, k, 3)`` and ``(n, w, 2)``, in seconds, padded with NaN."""
    windows = pad_moments([[window[:3] for window in some.windows[:MAX_WINDOWS]] for some in ranked], width=3)
    return windows, pad_moments([query.moments for query in queries])


def _retrieval(ranked: Sequence[Prediction], queries: Sequence[Query]) -> dict[str, dict[str, dict[str, float]]]:
    windows, truth = _windows_and_truth(ranked, queries)
    length_s = truth[..., 1] - truth[..., 0]
    tables = {}
    for name, (above_s, at_most_s) in LENGTH_RANGES_S.items():
        inside = (length_s > above_s) & (length_s <= at_most_s)
        kept = inside.any(axis=1)
        if not kept.any():
            continue
        in_range = np.where(inside[..., None], truth, np.nan)[kept]
        precision = _average_precision(windows[kept], in_range).mean(axis=0)
        recall = _recall_at_one(windows[kept, 0, :2], in_range).mean(axis=0)
        tables[name] = {
            "MR-mAP": {
                **{str(threshold): _percent(precision[i]) for i, threshold in enumerate(THRESHOLDS)},
                "average": _percent(precision.mean()),
            },
            "MR-R1": {str(threshold): _percent(recall[i]) for i, threshold in enumerate(THRESHOLDS)},
        }
    return tables


def _recall_at_one(first: Array, truth: Array) -> NDArray[np.bool_]:
    """``(n, 2)`` and ``(n, w, 2)``, in seconds -> ``(n, thresholds)``: is the first window a hit?"""
    nearest = _true_iou(first[:, None], truth).argmax(axis=1)
    # Where nothing overlaps, this may be a moment outside the length range: NaN, of tIoU 0 as well.
    overlap = tiou(first, truth[np.arange(len(truth)), nearest])
    return overlap[:, None] >= np.array(THRESHOLDS)


def _average_precision(windows: Array, truth: Array) -> Array:
    """``(n, k, 3)`` and ``(n, w, 2)``, in seconds -> ``(n, thresholds)``: interpolated AP."""
    order = np.argsort(-windows[..., 2], axis=1, kind="stable")  # NaN, the padding, sorts last
    spans = np.take_along_axis(windows, order[..., None], axis=1)[..., :2]
    # Ties between ground-truth moments go to the last listed, as in the official program.
    overlap = _true_iou(spans[:, :, None], truth[:, None])[..., ::-1]  # (n, k, w)

    thresholds = np.array(THRESHOLDS)[:, None]
    n, k, w = overlap.shape
    unmatched = np.ones((n, len(THRESHOLDS), w), dtype=bool)
    found = np.zeros((n, k, len(THRESHOLDS)))
    for rank in range(k):
        candidates = np.where(unmatched, overlap[:, rank, None], 0)  # (n, thresholds, w)
        best = candidates.argmax(axis=2)[..., None]
        hit = np.take_along_axis(candidates, best, axis=2) >= thresholds
        found[:, rank] = hit[..., 0]
        np.put_along_axis(unmatched, best, np.take_along_axis(unmatched, best, axis=2) & ~hit, axis=2)

    # Padding after a query's last window only lowers precision where recall has stopped: no effect.
    precision = found.cumsum(axis=1) / np.arange(1, k + 1)[:, None]
    interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    moments = (~np.isnan(truth[..., 0])).sum(axis=1)
    area: Array = (found * interpolated).sum(axis=1) / moments[:, None]
    return area


def _true_iou(a: Array, b: Array) -> Array:
    """``(..., 2)`` and ``(..., 2)``, broadcast -> ``(...)``: intersection over the two lengths less it."""
    overlap = np.maximum(np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0]), 0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - overlap
    ratio: Array = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return ratio


def _highlights(
    ranked: Sequence[Prediction], queries: Sequence[Query], durations_s: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Video by video, whose number of clips is what its file claims: all at once could take any memory."""
    found: dict[str, list[tuple[float, float]]] = {level: [] for level in HIGHLIGHT_LEVELS}
    rated = False
    for prediction, query, duration_s in zip(ranked, queries, durations_s, strict=True):
        clips = int(duration_s / CLIP_S)
        if len(query.relevant_clips) != len(query.saliency) or max(query.relevant_clips, default=-1) >= clips:
            raise DataError(
                f"qid {query.qid}: {len(query.relevant_clips)} relevant clips and {len(query.saliency)} "
                f"ratings for a video of {clips} clips; mend the annotation"
            )
        ratings, scores = np.zeros((1, clips, RATERS)), np.zeros((1, clips))
        if query.relevant_clips:
            ratings[0, list(query.relevant_clips)] = query.saliency
        predicted = np.asarray(prediction.saliency)
        scores[0, : len(predicted)] = predicted[:clips]
        rated |= bool(ratings.any())
        first_choice = int(predicted.argmax())
        for level, least in HIGHLIGHT_LEVELS.items():
            is_hit = first_choice < clips and ratings[0, first_choice].max() >= least
            found[level].append((_clip_precision(scores, ratings >= least).mean(), float(is_hit)))
    if not rated:
        raise DataError(
            "the predictions have saliency scores but the annotations no ratings; leave the scores out"
        )
    means = {level: np.mean(values, axis=0) for level, values in found.items()}
    return {
        f"HL-min-{level}": {"HL-mAP": _percent(precision), "HL-Hit1": _percent(hit)}
        for level, (precision, hit) in means.items()
    }


def _clip_precision(scores: Array, relevant: NDArray[np.bool_]) -> Array:
    """Average precision of clips ranked by score, for each rater.

    Args:
        scores: ``(n, clips)``.
        relevant: ``(n, clips, raters)``.

    Returns:
        ``(n, raters)``: mean, over the recall levels that score thresholds reach, of the best
        precision at that recall or a higher one; 0 where no clip is relevant.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    descending = np.take_along_axis(scores, order, axis=1)
    found = np.take_along_axis(relevant, order[..., None], axis=1).cumsum(axis=1)
    # A threshold takes all clips of equal score at once, so precision exists at the last of them only.
    is_last = np.ones(scores.shape, dtype=bool)
    is_last[:, :-1] = descending[:, 1:] != descending[:, :-1]
    at_threshold = is_last[..., None] * found
    precision = at_threshold / np.arange(1, scores.shape[1] + 1)[:, None]
    interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    before = np.zeros_like(found)
    before[:, 1:] = np.maximum.accumulate(at_threshold, axis=1)[:, :-1]
    gains = at_threshold > before
    mean: Array = (interpolated * gains).sum(axis=1) / np.maximum(gains.sum(axis=1), 1)
    return mean


def _percent(fraction: float) -> float:
    return float(f"{100 * fraction:.2f}")
