"""Run a model over a split, score its predictions, and report with baselines and protocol."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mrnet.config import Config, DecodeConfig, EvaluationConfig, QueryMode
from mrnet.data.dataset import Batch, MomentDataset, load_batches
from mrnet.evaluation.baselines import BaselineKind, baseline_predictions
from mrnet.evaluation.metrics import bootstrap_intervals, per_query_hits
from mrnet.evaluation.predictions import Prediction, align
from mrnet.evaluation.qvhighlights import per_query_scores, qvhighlights_metrics
from mrnet.model.mrnet import MRNet
from mrnet.retrieval.rank import fuse_scores, top_moments
from mrnet.types import Moment, QueryKind, VideoRecord
from mrnet.version import __version__, git_commit

_MAPS_AT_ONCE = 16
MOMENTS_PER_QUERY = 10
"""Ranked moments kept of each query: what QVHighlights scores, and more than R@5 needs."""

_BASELINES: tuple[BaselineKind, ...] = ("constant", "rank_only")


@torch.inference_mode()
def predict(
    model: MRNet,
    dataset: MomentDataset,
    config: Config,
    device: torch.device,
    query_mode: QueryMode | None = None,
) -> list[Prediction]:
    """Ranked moments of every query of a dataset.

    Args:
        model: on ``device``; left in evaluation mode.
        dataset: videos with their queries.
        config: batch size, decoding.
        device: where the model is.
        query_mode: protocol; the model's own where ``None``.
    """
    model.eval()
    size = config.train.batch_size
    batches = [list(range(i, min(i + size, len(dataset)))) for i in range(0, len(dataset), size)]
    predictions: list[Prediction] = []
    for batch in tqdm(
        load_batches(dataset, batches, config.train.workers),
        total=len(batches), desc="predicting", unit="batch", disable=None, leave=False,
    ):  # fmt: skip
        batch = batch.to(device)
        rows = _rank(model, batch, config.decode, query_mode or config.model.query_mode).cpu().numpy()
        asked = [(record, query) for record in batch.records for query in record.queries]
        for (record, query), ranked in zip(asked, rows, strict=True):
            windows = tuple(Moment(*row) for row in ranked[~np.isnan(ranked[:, 2])].tolist())
            predictions.append(Prediction(query.qid, query.text, record.video_id, windows))
    return predictions


def _rank(model: MRNet, batch: Batch, config: DecodeConfig, query_mode: QueryMode) -> torch.Tensor:
    """``(n, k, 3)`` start, end and score of the ranked moments of a batch, video by video.

    Where every query needs a map of its own, queries are taken a few columns of the batch at a time, so
    that memory does not grow with the queries of a video.
    """
    clips = model.encode_video(batch.video)
    num_videos, longest = batch.query_mask.shape
    own_maps = query_mode == "single" and model.config.video_depends_on_query
    width = max(1, _MAPS_AT_ONCE // num_videos) if own_maps else longest
    position = batch.query_mask.flatten().cumsum(0).view_as(batch.query_mask) - 1
    ranked = clips.new_empty(len(batch.duration_s), MOMENTS_PER_QUERY, 3)
    for start in range(0, longest, width):
        columns = slice(start, start + width)
        mask = batch.query_mask[:, columns]
        flat = position[:, columns][mask]
        scores = model.score(model.match(clips, batch.queries[:, columns], mask, query_mode))
        fused = fuse_scores(scores.iou, scores.contrastive, config.score_power)
        moments, values = top_moments(fused, batch.duration_s[flat], MOMENTS_PER_QUERY, config.nms_threshold)
        ranked[flat] = torch.cat([moments, values[..., None]], dim=-1).to(ranked.dtype)
    return ranked


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
    asked = [(record, query) for record in records for query in record.queries]
    tables: dict[str, dict[str, float]] = {}
    for kind in _BASELINES:
        moments = baseline_predictions(kind, train, records, config.tious)[:, 0]
        predictions = [
            Prediction(query.qid, query.text, record.video_id, (Moment(float(start), float(end), 1.0),))
            for (record, query), (start, end) in zip(asked, moments, strict=True)
        ]
        tables[kind] = evaluate_predictions(predictions, records, config)
    return tables


def evaluate(
    model: MRNet,
    dataset: MomentDataset,
    train: Sequence[VideoRecord],
    config: Config,
    device: torch.device,
    protocols: Sequence[QueryMode],
    split: str,
    kind: QueryKind = "typed",
) -> tuple[dict[str, Any], dict[str, list[Prediction]]]:
    """Evaluate a model under one or both protocols, beside the baselines.

    Args:
        model: on ``device``.
        dataset: the split.
        train: annotations of the training split, for the baselines.
        config: of the model.
        device: where the model is.
        protocols: ``"single"``, ``"joint"`` or both.
        split: its name or path, for the report.
        kind: of the split's queries, for the report.

    Returns:
        the report, ready for JSON, and the predictions by protocol. For a split whose answers are withheld
        the report holds no metrics.
    """
    answered = all(query.moments for record in dataset.records for query in record.queries)
    metrics: dict[str, dict[str, float]] = {}
    bounds: dict[str, dict[str, list[float]]] = {}
    predictions: dict[str, list[Prediction]] = {}
    for protocol in protocols:
        predictions[protocol] = predict(model, dataset, config, device, protocol)
        if not answered:
            continue
        metrics[protocol] = evaluate_predictions(predictions[protocol], dataset.records, config.evaluation)
        bounds[protocol] = intervals(predictions[protocol], dataset.records, config.evaluation, config.train.seed)
    report = {
        "split": split,
        "query_kind": kind,
        "protocols": list(protocols),
        "videos": len(dataset.records),
        "queries": sum(len(record.queries) for record in dataset.records),
        "metrics": metrics,
        "intervals_95": bounds,
        "baselines": evaluate_baselines(train, dataset.records, config.evaluation) if answered else {},
        "seed": config.train.seed,
        "commit": git_commit(),
        "version": __version__,
        "config": config.model_dump(mode="json"),
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
