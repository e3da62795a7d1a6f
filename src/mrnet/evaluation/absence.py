"""Is it in this video at all? Queries that a video answers beside queries of other videos.

Of a video are asked its own queries and as many again that belong to others: half drawn at random, half near misses,
which are those most like a query of its own. Sentences so alike that they may say the same are left out, and so is,
where asked, what another video shows in the very same footage; even so some of the others may be true of the video by
chance, which makes every figure here look a little worse than it is.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mrnet.config.spec import Calibration
from mrnet.evaluation.metrics import tiou
from mrnet.evaluation.run import Questions
from mrnet.retrieval.calibration import evidence, fit_logistic, probability
from mrnet.retrieval.rank import suppress
from mrnet.retrieval.scorer import Candidates, Scorer, Video
from mrnet.types import VideoRecord

log = logging.getLogger(__name__)

FEWEST_VIDEOS = 2
"""Of which queries can be put to each other."""

_ALIKE = 0.4
"""Cosine, about the mean of all queries, from which on two sentences may say the same."""

_RIGHT_IOU = 0.5
_RANKED = 5
_MOST_VIDEOS = 400
_ABSENT_SHOWN = 0.1
_FEWEST = 20
"""Right answers, and wrong ones, without which nothing is fitted."""


@dataclass(frozen=True)
class Outcomes:
    """Ranked moments of queries, those of one query one after another, the best first.

    Attributes:
        evidence: ``(m, 5)`` of :func:`mrnet.retrieval.calibration.evidence`.
        right: ``(m,)`` whether the moment is what the query means, at IoU 0.5.
        first: ``(m,)`` whether it is the best one.
        kind: ``(m,)`` of its query: ``"present"``, ``"near"`` or ``"foreign"``.
        video: ``(m,)`` number of its video.
    """

    evidence: Tensor
    right: Tensor
    first: NDArray[np.bool_]
    kind: NDArray[np.str_]
    video: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> "Outcomes":
        """Some of the moments."""
        mask = torch.from_numpy(chosen)
        return Outcomes(
            self.evidence[mask], self.right[mask], self.first[chosen], self.kind[chosen], self.video[chosen]
        )


def ask_absent(
    scorer: Scorer[Video],
    questions: Questions,
    nms_threshold: float,
    seed: int = 0,
    same_footage: float | None = None,
) -> Outcomes:
    """Ask videos what is in them, and what is in others.

    Args:
        scorer: answers every query by itself.
        questions: at least two videos, whose answers are known; of many videos some are drawn.
        nms_threshold: of :func:`mrnet.retrieval.rank.suppress`.
        seed: of what is drawn.
        same_footage: cosine of rows from which on they show the same footage; ``None`` does not look for it.
    """
    rng = np.random.default_rng(seed)
    records = list(questions.records)
    if len(records) > _MOST_VIDEOS:
        records = [records[index] for index in sorted(rng.choice(len(records), _MOST_VIDEOS, replace=False))]
    rows = [questions.query_rows(record) for record in records]
    every = torch.cat(rows)
    unit = F.normalize((every - every.mean(dim=0)).float(), dim=1)
    owner = np.repeat(np.arange(len(records)), [len(some) for some in rows])
    moments = [] if same_footage is None else [row for record in records for row in moment_rows(questions, record)]
    parts: list[Outcomes] = []
    for number, record in enumerate(records):
        own = owner == number
        likeness = (unit @ unit[torch.from_numpy(own)].T).max(dim=1).values.cpu().numpy()
        if same_footage is not None:
            likeness[shown_too(moments, questions.video_rows(record.video_id), same_footage)] = 1
        near, foreign = _draw(likeness, own, rng)
        asked = torch.cat([every[torch.from_numpy(own)], every[near], every[foreign]])
        kinds = ["present"] * len(rows[number]) + ["near"] * len(near) + ["foreign"] * len(foreign)
        video = scorer.encode_video(questions.video_rows(record.video_id), record.duration_s)
        parts.append(_outcomes(scorer.candidates(video, asked), record, kinds, number, nms_threshold))
    return together(parts)


def together(parts: Sequence[Outcomes]) -> Outcomes:
    """All of them, one after another."""
    return Outcomes(
        torch.cat([part.evidence for part in parts]),
        torch.cat([part.right for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.video for part in parts]),
    )


def fit_calibration(outcomes: Outcomes, footage: str) -> Calibration | None:
    """Of a scorer's ranked moments; ``None`` where too few first answers are right, or wrong, to learn from.

    The threshold lets one in ten of the absent queries through.
    """
    first = outcomes.right[torch.from_numpy(outcomes.first)]
    if min(int(first.sum()), int((1 - first).sum())) < _FEWEST:
        return None
    bias, weights = fit_logistic(outcomes.evidence, outcomes.right)
    score, level, lower, gap, number = weights
    fitted = Calibration(bias=bias, weights=(score, level, lower, gap, number), footage=footage)
    absent = outcomes.first & (outcomes.kind != "present")
    if not absent.any():
        return fitted
    threshold = float(np.quantile(probabilities(outcomes, fitted)[absent], 1 - _ABSENT_SHOWN))
    return fitted.model_copy(update={"threshold": threshold})


def probabilities(outcomes: Outcomes, calibration: Calibration) -> NDArray[np.float64]:
    """``(m,)`` of every moment."""
    return probability(outcomes.evidence.double(), calibration).numpy()


def report_absence(
    scorer: Scorer[Video],
    questions: Questions,
    nms_threshold: float,
    calibration: Calibration,
    same_footage: float | None = None,
) -> dict[str, float]:
    """:func:`absence_report` of a calibrated scorer; nothing, and the log says so, of fewer than two videos."""
    if len(questions.records) < FEWEST_VIDEOS:
        log.info("no figures of absent queries: those of other videos are needed, and there are none")
        return {}
    outcomes = ask_absent(scorer, questions, nms_threshold, same_footage=same_footage)
    return absence_report(outcomes, probabilities(outcomes, calibration), calibration.threshold)


def absence_report(outcomes: Outcomes, given: NDArray[np.float64], threshold: float) -> dict[str, float]:
    """How well first answers tell what is in a video from what is not.

    Args:
        outcomes: of :func:`ask_absent`.
        given: ``(m,)`` probabilities.
        threshold: from which on a moment is shown.

    Returns:
        ``auroc``, ``auroc_near`` and ``auroc_foreign`` between present and absent queries; ``ece``, the expected
        calibration error over ten bins; and in percent ``answered`` of the present queries, ``right`` of those
        answered, ``near_shown`` and ``foreign_shown``; without those of which there is nothing to count.
    """
    first = outcomes.first
    p, right, kind = given[first], outcomes.right.numpy()[first], outcomes.kind[first]
    present, shown = kind == "present", p >= threshold
    near, foreign = kind == "near", kind == "foreign"
    figures = {
        "auroc": auroc(p[present], p[~present]),
        "auroc_near": auroc(p[present], p[near]),
        "auroc_foreign": auroc(p[present], p[foreign]),
        "ece": calibration_error(p, right),
        "threshold": threshold,
        "answered": 100 * _mean(shown[present]),
        "right": 100 * _mean(right[present & shown]),
        "near_shown": 100 * _mean(shown[near]),
        "foreign_shown": 100 * _mean(shown[foreign]),
    }
    return {name: value for name, value in figures.items() if not np.isnan(value)}


def auroc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """Chance that one of the first is greater than one of the second, ties counting half; NaN without both."""
    ordered = np.sort(lower)
    below, upto = (np.searchsorted(ordered, higher, side=side) for side in ("left", "right"))
    return _mean((below + upto) / (2 * len(lower))) if len(lower) else float("nan")


def calibration_error(given: NDArray[np.float64], right: NDArray[np.float64], bins: int = 10) -> float:
    """Mean distance between what was promised and what held, over bins of equal width, by their number.

    Source: Guo et al., "On calibration of modern neural networks", 2017.
    """
    index = np.minimum((given * bins).astype(int), bins - 1)
    gaps = np.zeros(bins)
    np.add.at(gaps, index, given - right)
    return float(np.abs(gaps).sum() / len(given)) if len(given) else float("nan")


def moment_rows(questions: Questions, record: VideoRecord) -> list[Tensor]:
    """Of each query of a video, the rows of its first moment, at least one."""
    rows = questions.video_rows(record.video_id)
    per_s = len(rows) / record.duration_s
    found = []
    for query in record.queries:
        start, end = (min(int(time_s * per_s), len(rows) - 1) for time_s in query.moments[0])
        found.append(rows[start : max(end, start + 1)])
    return found


def shown_too(moments: Sequence[Tensor], rows: Tensor, alike: float) -> NDArray[np.bool_]:
    """Which of the moments, rows each, are in a video too: half of their rows or more have their like there.

    Args:
        moments: of :func:`moment_rows`.
        rows: of the video.
        alike: cosine from which on rows are alike.
    """
    unit = F.normalize(rows.float(), dim=1)
    cosines = [F.normalize(moment.float(), dim=1) @ unit.T for moment in moments]
    return np.array([float(some.max(dim=1).values.median()) >= alike for some in cosines])


def _draw(
    likeness: NDArray[np.float32], own: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of near misses and of foreign queries, together as many as there are own ones, where so many are."""
    others = np.flatnonzero(~own & (likeness < _ALIKE))
    others = others[np.argsort(-likeness[others], kind="stable")]
    count = int(own.sum())
    near, rest = np.split(others, [count // 2])
    return near, rng.choice(rest, min(count - len(near), len(rest)), replace=False)


def _outcomes(
    candidates: Candidates, record: VideoRecord, kinds: Sequence[str], number: int, nms_threshold: float
) -> Outcomes:
    found = evidence(candidates).cpu()
    spans = candidates.spans_s.cpu().numpy()
    rows, right, first, kind = [], [], [], []
    for query, numbers in enumerate(suppress(candidates, _RANKED, nms_threshold)):
        truth = record.queries[query].moments if kinds[query] == "present" else ()
        for place, index in enumerate(numbers):
            rows.append(found[query, index])
            right.append(any(tiou(spans[index], np.array(moment)) >= _RIGHT_IOU for moment in truth))
            first.append(place == 0)
            kind.append(kinds[query])
    return Outcomes(
        torch.stack(rows) if rows else found.new_zeros(0, found.shape[-1]),
        torch.tensor(right, dtype=torch.float32),
        np.array(first, dtype=bool),
        np.array(kind, dtype=str),
        np.full(len(rows), number),
    )


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
