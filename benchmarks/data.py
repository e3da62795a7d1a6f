"""Evaluating a whole split, and loading features: on SIMULATED scores and features, of the published sizes."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Figures, in_turn
from mrnet.config.recipes import load_recipe
from mrnet.data.dataset import MomentDataset, load_batches
from mrnet.evaluation.metrics import per_query_hits
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import write_store
from mrnet.provenance import Provenance
from mrnet.retrieval.rank import rank
from mrnet.retrieval.scorer import Candidates
from mrnet.temporal import cell_moments, hull_iou, valid_cells
from mrnet.types import Query, Span, VideoRecord

_NUM_QUERIES = 17_031  # of ActivityNet's test split
_QUERIES_OF_A_VIDEO = 4
_TIOUS, _RANKS = (0.3, 0.5, 0.7), (1, 5)


def bench_evaluate(repeats: int, sample: int = 200) -> Figures:
    """Scores of 17,031 queries to ranked moments and metrics, against a loop over queries and candidates.

    The loop answers ``sample`` of the queries; its time is scaled up to all of them. The error is the largest
    difference of any moment or metric on that sample.
    """
    config = load_recipe("activitynet")
    num_clips, threshold = config.model.num_clips, config.decode.nms_threshold
    generator = torch.Generator().manual_seed(0)
    valid = valid_cells(num_clips, config.model.pooling_counts)
    scores = torch.rand(_NUM_QUERIES, num_clips, num_clips, generator=generator) * valid
    videos = -(-_NUM_QUERIES // _QUERIES_OF_A_VIDEO)
    video_s = 5 + 200 * torch.rand(videos, generator=generator)
    duration_s = video_s.repeat_interleave(_QUERIES_OF_A_VIDEO)[:_NUM_QUERIES]
    truth = torch.rand(_NUM_QUERIES, 1, 2, generator=generator).sort(dim=-1).values * duration_s[:, None, None]

    def fast(count: int = _NUM_QUERIES) -> tuple[Tensor, dict[str, float]]:
        ranked = []
        for length, of_video in zip(
            video_s, torch.split(scores[:count, valid], _QUERIES_OF_A_VIDEO), strict=False
        ):
            spans = cell_moments(valid.nonzero(), length, num_clips)
            ranked += rank(Candidates(spans, of_video), max(_RANKS), threshold)
        moments = torch.tensor([[moment[:2] for moment in of_query] for of_query in ranked])
        hits = per_query_hits(moments.numpy(), truth[:count].numpy(), _TIOUS, _RANKS)
        return moments, {name: float(values.mean()) for name, values in hits.items()}

    def loop() -> tuple[Tensor, dict[str, float]]:
        return evaluate_by_loop(scores[:sample], duration_s[:sample], truth[:sample, 0], threshold)

    loop_seconds, fast_seconds = in_turn(repeats, loop, fast)
    (moments, metrics), (expected_moments, expected) = fast(sample), loop()
    differences = [abs(metrics[name] - expected[name]) for name in expected]
    return {
        "queries": _NUM_QUERIES,
        "loop_seconds": loop_seconds * _NUM_QUERIES / sample,
        "loop_queries_timed": sample,
        "fast_seconds": fast_seconds,
        "speedup": loop_seconds * _NUM_QUERIES / sample / fast_seconds,
        "max_error": max(*differences, float((moments - expected_moments).abs().max())),
    }


def evaluate_by_loop(
    scores: Tensor, duration_s: Tensor, truth: Tensor, threshold: float
) -> tuple[Tensor, dict[str, float]]:
    """Suppression and metrics one query and one candidate at a time, as evaluations are often written.

    Args:
        scores: ``(n, t, t)``.
        duration_s: ``(n,)``.
        truth: ``(n, 2)`` seconds.
        threshold: of suppression.

    Returns:
        ``(n, 5, 2)`` moments, and the metrics by name.
    """
    ranked, totals = [], {f"R@{rank},IoU={tiou:g}": 0.0 for rank in _RANKS for tiou in _TIOUS} | {"mIoU": 0.0}
    for score, duration, moment in zip(scores, duration_s, truth, strict=True):
        cells = score.nonzero()
        order = score[cells[:, 0], cells[:, 1]].argsort(descending=True, stable=True)
        candidates = cell_moments(cells[order], duration, score.shape[-1])
        suppressed = torch.zeros(len(candidates), dtype=torch.bool)
        for index in range(len(candidates) - 1):
            if not suppressed[index]:
                suppressed[index + 1 :] |= hull_iou(candidates[index + 1 :], candidates[index]) > threshold
        ranked.append(candidates[~suppressed][: max(_RANKS)])
        overlaps = hull_iou(ranked[-1], moment)
        totals["mIoU"] += float(overlaps[0])
        for first in _RANKS:
            for tiou in _TIOUS:
                totals[f"R@{first},IoU={tiou:g}"] += bool((overlaps[:first] >= np.float32(tiou)).any())
    return torch.stack(ranked), {name: total / len(scores) for name, total in totals.items()}


class _NoQueries:
    """Zeros in place of the features of queries."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def __call__(self, queries: Sequence[Query]) -> Tensor:
        return torch.zeros(len(queries), self.dim)


def bench_batches(repeats: int, num_videos: int = 200) -> Figures:
    """An epoch's video features, from HDF5 each time against resampled once and mapped into memory."""
    config = load_recipe("activitynet").model
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = (
            (f"v{index}", rng.standard_normal((int(rng.integers(200, 900)), config.video_dim), np.float32))
            for index in range(num_videos)
        )
        write_store(folder / "videos.h5", videos, Provenance(backbone="simulated", dim=config.video_dim))
        records = [
            VideoRecord(f"v{index}", 100.0, (Query("a query", (Span(1.0, 2.0),), "q"),))
            for index in range(num_videos)
        ]
        store = open_store(folder / "videos.h5")
        read, kept = (MomentDataset(records, store, _NoQueries(config.query_dim), config) for _ in range(2))
        kept.resample_once(folder)
        batches = [list(range(first, min(first + 12, num_videos))) for first in range(0, num_videos, 12)]

        def epoch(dataset: MomentDataset) -> list[Tensor]:
            return [batch.video for batch in load_batches(dataset, batches)]

        reading, mapped = in_turn(repeats, lambda: epoch(read), lambda: epoch(kept))
        pairs = zip(epoch(kept), epoch(read), strict=True)
        return {
            "videos": num_videos,
            "read_seconds": reading,
            "fast_seconds": mapped,
            "speedup": reading / mapped,
            "max_error": max(float((found - expected).abs().max()) for found, expected in pairs),
        }
