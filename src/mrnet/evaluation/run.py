"""Let a scorer answer a split, and score what it answers beside the baselines."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrnet.config.run import EvaluationConfig, RunConfig
from mrnet.data.dataset import MomentDataset
from mrnet.evaluation.baselines import BaselineKind, baseline_predictions
from mrnet.evaluation.metrics import bootstrap_intervals, per_query_hits
from mrnet.evaluation.predictions import Prediction, align
from mrnet.evaluation.qvhighlights import per_query_scores, qvhighlights_metrics
from mrnet.progress import track
from mrnet.retrieval.rank import rank
from mrnet.retrieval.scorer import Scorer, Video
from mrnet.types import Moment, VideoRecord

MOMENTS_PER_QUERY = 10
"""Ranked moments kept of each query: what QVHighlights scores, and more than R@5 needs."""

_BASELINES: tuple[BaselineKind, ...] = ("constant", "rank_only")


class Questions(Protocol):
    """Videos with their queries, as features; :class:`mrnet.data.dataset.MomentDataset` for one."""

    @property
    def records(self) -> Sequence[VideoRecord]: ...

    def video_rows(self, video_id: str) -> Tensor:
        """``(r, c)`` of a video."""
        ...

    def query_rows(self, record: VideoRecord) -> Tensor:
        """``(s, q)`` of the queries of a video."""
        ...


def predict(scorer: Scorer[Video], dataset: Questions, nms_threshold: float) -> list[Prediction]:
    """Ranked moments of every query of a dataset, video by video.

    Args:
        scorer: answers the queries of a video in one call, in their order.
        dataset: videos with their queries.
        nms_threshold: of :func:`mrnet.retrieval.rank.rank`.
    """
    predictions: list[Prediction] = []
    for record in track(dataset.records, len(dataset.records), "predicting", "video"):
        video = scorer.encode_video(dataset.video_rows(record.video_id), record.duration_s)
        candidates = scorer.candidates(video, dataset.query_rows(record))
        ranked = rank(candidates, MOMENTS_PER_QUERY, nms_threshold)
        for query, moments in zip(record.queries, ranked, strict=True):
            predictions.append(Prediction(query.qid, query.text, record.video_id, tuple(moments)))
    return predictions


def evaluate_predictions(
    predictions: Sequence[Prediction], records: Sequence[VideoRecord], config: EvaluationConfig
) -> dict[str, float]:
    """Metrics of predictions, in percent, by name.

    Raises:
        DataError: predictions and annotations are not of the same queries, or answers are withheld.
    """
    if config.metrics == "qvhighlights":
        return dict(qvhighlights_metrics(predictions, records)["brief"])
    return {name: 100 * float(hits.mean()) for name, hits in _hits(predictions, records, config).items()}


def intervals(
    predictions: Sequence[Prediction], records: Sequence[VideoRecord], config: EvaluationConfig, seed: int
) -> dict[str, list[float]]:
    """95 % bootstrap intervals over videos, in percent, by metric."""
    video_ids = [record.video_id for record in records for _ in record.queries]
    found = bootstrap_intervals(_hits(predictions, records, config), video_ids, seed=seed)
    return {name: [round(low, 2), round(high, 2)] for name, (low, high) in found.items()}


def _hits(
    predictions: Sequence[Prediction], records: Sequence[VideoRecord], config: EvaluationConfig
) -> dict[str, NDArray[np.float64]]:
    if config.metrics == "qvhighlights":
        return per_query_scores(predictions, records)
    aligned = align(predictions, records)
    return per_query_hits(aligned.predictions, aligned.truth, tious=config.tious, ranks=config.ranks)


def evaluate_baselines(
    train: Sequence[VideoRecord], records: Sequence[VideoRecord], config: EvaluationConfig
) -> dict[str, dict[str, float]]:
    """Metrics of the baselines that see neither video nor query.

    Args:
        train: annotations they are fitted on.
        records: the split to answer.
        config: metrics.

    Returns:
        ``"constant"`` and ``"rank_only"`` -> metrics as :func:`evaluate_predictions`.
    """
    return {
        kind: evaluate_predictions(answer_baseline(kind, train, records, config.tious), records, config)
        for kind in _BASELINES
    }


def answer_baseline(
    kind: BaselineKind, train: Sequence[VideoRecord], records: Sequence[VideoRecord], tious: Sequence[float]
) -> list[Prediction]:
    """:func:`mrnet.evaluation.baselines.baseline_predictions`, each as the one moment of its query."""
    asked = [(record, query) for record in records for query in record.queries]
    moments = baseline_predictions(kind, train, records, tious)[:, 0]
    return [
        Prediction(query.qid, query.text, record.video_id, (Moment(float(start), float(end), 1.0),))
        for (record, query), (start, end) in zip(asked, moments, strict=True)
    ]


def evaluate(
    scorers: Mapping[str, Scorer[Video]],
    dataset: MomentDataset,
    train: Sequence[VideoRecord],
    config: RunConfig,
) -> tuple[dict[str, Any], dict[str, list[Prediction]]]:
    """Evaluate scorers on a split, beside the baselines.

    Args:
        scorers: name, that of a protocol for one, -> what answers.
        dataset: the split.
        train: annotations that the baselines are fitted on; none where there are none, and then no baselines.
        config: decoding, metrics and the seed of the intervals.

    Returns:
        the report, ready for JSON, and the predictions by name. For a split whose answers are withheld the report
        holds no metrics.
    """
    records = dataset.records
    answered = all(query.moments for record in records for query in record.queries)
    metrics: dict[str, dict[str, float]] = {}
    bounds: dict[str, dict[str, list[float]]] = {}
    predictions: dict[str, list[Prediction]] = {}
    for name, scorer in scorers.items():
        predictions[name] = predict(scorer, dataset, config.decode.nms_threshold)
        if not answered:
            continue
        metrics[name] = evaluate_predictions(predictions[name], records, config.evaluation)
        bounds[name] = intervals(predictions[name], records, config.evaluation, config.train.seed)
    report = {
        "videos": len(records),
        "queries": sum(len(record.queries) for record in records),
        "metrics": metrics,
        "intervals_95": bounds,
        "baselines": evaluate_baselines(train, records, config.evaluation) if answered and train else {},
    }
    return report, predictions


def metric_table(rows: dict[str, dict[str, float]]) -> str:
    """Rows of metrics as a plain table for the terminal.

    Args:
        rows: row title -> metric -> percent; every row has the metrics of the first.
    """
    names = list(next(iter(rows.values())))
    widths = [max(len(name), 6) for name in names]
    title = max(len(row) for row in rows)
    lines = [" " * title + "  " + "  ".join(f"{n:>{w}}" for n, w in zip(names, widths, strict=True))]
    for row, values in rows.items():
        cells = (
            f"{values[n]:{w}.2f}" if n in values else "-".rjust(w) for n, w in zip(names, widths, strict=True)
        )
        lines.append(f"{row:<{title}}  " + "  ".join(cells))
    return "\n".join(lines)
