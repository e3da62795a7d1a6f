"""The report on scoring without training, on any annotated videos or their features."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrnet.config.run import EvaluationConfig
from mrnet.config.spec import DecodeConfig
from mrnet.data.annotations import read_annotations
from mrnet.errors import DataError, FeatureShapeError
from mrnet.evaluation.absence import report_absence
from mrnet.evaluation.metrics import tiou
from mrnet.evaluation.predictions import Prediction
from mrnet.evaluation.run import Questions, evaluate_baselines, evaluate_predictions, intervals, predict
from mrnet.features.backbone import Backbone
from mrnet.features.extraction.extract import encode_videos, video_files
from mrnet.features.registry import extraction_command
from mrnet.features.store.reader import FeatureStore, open_store
from mrnet.media.video import probe
from mrnet.retrieval.aligned import PACKAGED_VIDEO, AlignedScorer, Untrained, make_untrained
from mrnet.types import VideoRecord
from mrnet.version import __version__, git_commit

_SEED = 0
SAME_FOOTAGE = 0.75
"""Cosine of rows of the packaged encoder: of the same clip above 0.8, of different ones below 0.7."""


@dataclass(frozen=True)
class StoredQuestions:
    """Annotated videos and their features, as they are asked.

    Attributes:
        records: videos with at least one query.
        store: features of the videos.
        untrained: encodes the queries.
    """

    records: Sequence[VideoRecord]
    store: FeatureStore
    untrained: Untrained

    def video_rows(self, video_id: str) -> Tensor:
        """``(r, c)`` features of a video."""
        return torch.from_numpy(self.store.read(video_id))

    def query_rows(self, record: VideoRecord) -> Tensor:
        """``(s, q)`` features of the queries of a video."""
        return self.untrained.encode_queries([query.text for query in record.queries])


def evaluate_untrained(
    annotations: Path, features: Path, backbone: str | None = None, *, device: str | None = None
) -> tuple[dict[str, Any], list[Prediction]]:
    """Let the scorer without training answer annotated queries, beside the best constant and a random segment.

    The constant is fitted on these very annotations, which favours it.

    Args:
        annotations: of any known format.
        features: a feature store, or a folder of videos, which are then encoded.
        backbone: of the videos; what the store says, else the packaged one, if left out.
        device: where the encoders run; the best there is if left out.

    Returns:
        the report, ready for JSON, and the predictions.

    Raises:
        ConfigError: the backbone has no sentences to compare with, or cannot be made.
        DataError: the annotations cannot be read, hold no query, or withhold the answers.
        FeatureError, VideoError: the features cannot be read or made, or are of another backbone.
    """
    files = video_files(features)
    if files:
        untrained = make_untrained(backbone or PACKAGED_VIDEO, device=device)
        records = read_annotations(annotations, durations=_lengths(files))
        asked = {record.video_id: files[record.video_id] for record in records if record.video_id in files}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "features.h5"
            encode_videos(asked, untrained.video, path)
            return _evaluate(untrained, records, open_store(path), features)
    store = open_store(features)
    made = store.provenance
    named = backbone or (made.backbone if made else PACKAGED_VIDEO)
    untrained = make_untrained(named, rate=made.rows_per_s if made else None, device=device)
    _check_encoder(store, untrained.video)
    return _evaluate(untrained, read_annotations(annotations, durations=store.duration_s), store, features)


def _lengths(files: Mapping[str, Path]) -> Callable[[str], float | None]:
    return lambda video_id: probe(files[video_id]).duration_s if video_id in files else None


def _evaluate(
    untrained: Untrained, records: Sequence[VideoRecord], store: FeatureStore, features: Path
) -> tuple[dict[str, Any], list[Prediction]]:
    records = [record for record in records if record.queries]
    if not records:
        raise DataError("the annotations hold no query: there is nothing to evaluate")
    if not all(query.moments for record in records for query in record.queries):
        raise DataError(
            "the annotations withhold answers, so there is nothing to score; give annotations with moments"
        )
    missing = [record.video_id for record in records if record.video_id not in store]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(records)} videos are not in {features}, the first being {missing[0]!r}: add "
            "them, or correct the annotations"
        )
    config = EvaluationConfig()
    questions = StoredQuestions(records, store, untrained)
    nms_threshold = DecodeConfig().nms_threshold
    predictions = predict(untrained.scorer, questions, nms_threshold)
    calibration = untrained.scorer.alignment.calibration
    report = {
        "scorer": "untrained",
        "backbones": {"video": untrained.video.name, "text": untrained.text.name},
        "sees": untrained.scorer.alignment.sees,
        "videos": len(records),
        "queries": len(predictions),
        "metrics": {"single": evaluate_predictions(predictions, records, config)},
        "intervals_95": {"single": intervals(predictions, records, config, _SEED)},
        "baselines": {
            "constant": evaluate_baselines(records, records, config)["constant"],
            "random_segment": random_segment(untrained.scorer, questions, config),
        },
        "absence": {}
        if calibration is None
        else report_absence(untrained.scorer, questions, nms_threshold, calibration, SAME_FOOTAGE),
        "commit": git_commit(),
        "version": __version__,
    }
    return report, predictions


def random_segment(scorer: AlignedScorer, questions: Questions, config: EvaluationConfig) -> dict[str, float]:
    """What is expected of answering with segments of the video drawn at random, without looking at the query.

    Args:
        scorer: finds the segments.
        questions: the videos.
        config: metrics, of recall.

    Returns:
        metrics in percent, by the names of :func:`mrnet.evaluation.run.evaluate_predictions`.
    """
    found: dict[str, list[float]] = {}
    for record in questions.records:
        times_s = scorer.encode_video(questions.video_rows(record.video_id), record.duration_s).times_s
        segments = np.stack([times_s[:-1], times_s[1:]], axis=1)
        for query in record.queries:
            best = np.max([tiou(segments, np.array(moment, np.float32)) for moment in query.moments], axis=0)
            for drawn in config.ranks:
                for least in config.tious:
                    hits, count = int((best >= least).sum()), len(best)
                    missed = math.comb(count - hits, min(drawn, count)) / math.comb(count, min(drawn, count))
                    found.setdefault(f"R@{drawn},IoU={least:g}", []).append(1 - missed)
            found.setdefault("mIoU", []).append(float(best.mean()))
    return {name: 100 * sum(values) / len(values) for name, values in found.items()}


def _check_encoder(store: FeatureStore, backbone: Backbone) -> None:
    """Refuse features that another encoder made, where the store says so.

    Raises:
        FeatureShapeError: they are of another encoder.
    """
    made, expected = store.provenance, backbone.provenance()
    if made is not None and not made.same_encoder(expected):
        raise FeatureShapeError(
            f"{store.path}: features of {made.label} cannot be compared with sentences by {expected.label}"
            f"{extraction_command('video', expected)}"
        )
