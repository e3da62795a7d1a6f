"""Fit what the scores of the scorer without training mean, and say how well it holds on videos left out of the fit.

Usage:

    mrnet features video VIDEOS --backbone efficientnet-lite0 --out videos.h5
    python tools/calibrate.py --annotations TABLE [TABLE ...] --features videos.h5 [--threshold 0.45]

Among many moments one more often fits by chance, so longer videos are made of the same footage: annotated moments of
different videos, no two of them of the same footage, joined at random to videos of an eighth and of a half of all
moments. Fitted is on the videos as they are and on joined ones. Two figures are given: ``videos``, of probabilities
that were fitted without the video at hand and without moments that show what it shows, and ``joined``, of the
longer videos of one half of the moments, fitted on those of the other half alone. The printed coefficients are fitted
on all.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrnet.config.spec import Calibration, DecodeConfig
from mrnet.data.annotations import read_annotations
from mrnet.evaluation.absence import (
    Outcomes,
    absence_report,
    ask_absent,
    fit_calibration,
    moment_rows,
    probabilities,
    shown_too,
    together,
)
from mrnet.evaluation.run import Questions
from mrnet.evaluation.untrained import SAME_FOOTAGE, StoredQuestions
from mrnet.features.store.reader import open_store
from mrnet.retrieval.aligned import PACKAGED_VIDEO, AlignedScorer, make_untrained
from mrnet.types import Query, Span, VideoRecord

_NMS_THRESHOLD = DecodeConfig().nms_threshold
_PARTS = (8, 2)


@dataclass(frozen=True)
class Moments:
    """Annotated moments, by number.

    Attributes:
        rows: of each.
        queries: ``(q,)`` features of each.
        video: ``(m,)`` number of its video.
        same: ``(m, m)`` whether two show the same footage.
        rows_per_s: rate of the rows.
    """

    rows: Sequence[Tensor]
    queries: Sequence[Tensor]
    video: NDArray[np.int64]
    same: NDArray[np.bool_]
    rows_per_s: float

    @classmethod
    def of(cls, questions: Questions, rows_per_s: float) -> "Moments":
        """All of some videos."""
        rows = [rows for record in questions.records for rows in moment_rows(questions, record)]
        queries = [query for record in questions.records for query in questions.query_rows(record)]
        video = np.repeat(np.arange(len(questions.records)), [len(record.queries) for record in questions.records])
        same = np.array([shown_too(rows, other, SAME_FOOTAGE) for other in rows])
        return cls(rows, queries, video, np.logical_or(same, same.T), rows_per_s)

    def different(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of some moments the first of each footage."""
        kept: list[int] = []
        for number in numbers.tolist():
            if not any(self.same[number, other] for other in kept):
                kept.append(number)
        return np.array(kept)


class Joined:
    """Videos of moments one after another.

    Args:
        moments: all there are.
        groups: numbers of those of each video.
    """

    def __init__(self, moments: Moments, groups: Sequence[NDArray[np.int64]]) -> None:
        self.records: list[VideoRecord] = []
        self._moments, self._groups = moments, {f"joined {index}": group for index, group in enumerate(groups)}
        for name, group in self._groups.items():
            ends = np.cumsum([len(moments.rows[number]) for number in group]) / moments.rows_per_s
            spans = zip([0.0, *ends[:-1]], ends, strict=True)
            asked = [Query("", (Span(float(start), float(end)),), f"{name} {start}") for start, end in spans]
            self.records.append(VideoRecord(name, float(ends[-1]), tuple(asked)))

    def video_rows(self, video_id: str) -> Tensor:
        """As of :class:`mrnet.evaluation.run.Questions`."""
        return torch.cat([self._moments.rows[number] for number in self._groups[video_id]])

    def query_rows(self, record: VideoRecord) -> Tensor:
        """As of :class:`mrnet.evaluation.run.Questions`."""
        return torch.stack([self._moments.queries[number] for number in self._groups[record.video_id]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--backbone", default=PACKAGED_VIDEO)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--draws", type=int, default=10, help="of what is joined and asked, with seeds from 0")
    arguments = parser.parse_args()
    store, untrained = open_store(arguments.features), make_untrained(arguments.backbone)
    records = [
        record
        for path in arguments.annotations
        for record in read_annotations(path, durations=store.duration_s)
        if record.queries
    ]
    questions, scorer = StoredQuestions(records, store, untrained), untrained.scorer
    assert scorer.rows_per_s is not None
    moments = Moments.of(questions, scorer.rows_per_s)
    fits, videos, joined = [], [], []
    for seed in range(arguments.draws):
        outcomes = ask_absent(scorer, questions, _NMS_THRESHOLD, seed, SAME_FOOTAGE)
        every = np.random.default_rng(seed).permutation(len(moments.rows))
        fits.append(_fit([outcomes, *_ask_joined(scorer, moments, every, seed)]))
        given = np.empty(len(outcomes.first))
        for video in np.unique(outcomes.video):
            left = outcomes.video == video
            shown: NDArray[np.bool_] = np.asarray(moments.same[:, moments.video == video].any(axis=1))
            others = _ask_joined(scorer, moments, every[~shown[every]], seed)
            given[left] = probabilities(outcomes.of(left), _fit([outcomes.of(~left), *others]))
        videos.append(absence_report(outcomes, given, arguments.threshold))
        different = moments.different(every)
        half, other = different[::2], different[1::2]
        calibration = _fit(_ask_joined(scorer, moments, half, seed))
        longest = _ask_joined(scorer, moments, other, seed)[-1]
        joined.append(absence_report(longest, probabilities(longest, calibration), arguments.threshold))
    document = {
        "bias": float(np.mean([fit.bias for fit in fits])),
        "weights": np.mean([fit.weights for fit in fits], axis=0).tolist(),
        "videos": {name: float(np.mean([report[name] for report in videos])) for name in videos[0]},
        "joined": {name: float(np.mean([report[name] for report in joined])) for name in joined[0]},
    }
    print(json.dumps(document, indent=2))


def _ask_joined(scorer: AlignedScorer, moments: Moments, order: NDArray[np.int64], seed: int) -> list[Outcomes]:
    """Of videos joined from some moments in an order, the longer ones last."""
    different = moments.different(order)
    found = []
    for parts in _PARTS:
        joined = Joined(moments, np.array_split(different, parts))
        found.append(ask_absent(scorer, joined, _NMS_THRESHOLD, seed))
    return found


def _fit(parts: Sequence[Outcomes]) -> Calibration:
    calibration = fit_calibration(together(parts), "these")
    assert calibration is not None, "too few right or wrong answers to fit anything"
    return calibration


if __name__ == "__main__":
    main()
