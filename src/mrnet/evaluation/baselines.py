"""Baselines that see neither video nor query: what a result must beat to mean anything.

They are fitted on training annotations alone, with moments as fractions of their video. A query
of several moments counts once, with the first that its annotation lists; queries of a video are ordered by their
earliest.

``"constant"``
    One moment for every query: the one of highest recall. Stronger than the median moment, which
    is sometimes quoted, wherever moments are spread out.
``"rank_only"``
    The median moment of queries of the same rank, in order of ground-truth start, among as many
    queries. It measures what the joint protocol gives away by feeding queries in that order
    (docs/method.md, section 11), so every report of the joint protocol shows it.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mrnet.errors import DataError
from mrnet.evaluation.metrics import tiou
from mrnet.types import VideoRecord

Array = NDArray[np.float64]
BaselineKind = Literal["constant", "rank_only"]

TIOUS = (0.3, 0.5, 0.7)
_GRID = 64  # steps of the constant moment search
_QUERIES_AT_ONCE = 512  # of that search: its 2,080 candidates then take 4 MiB
_SEEN = 3  # training queries that make a (rank, count) pair seen: a median of fewer is noise
_ROUNDING = 1e-9  # relative ranks that are equal as fractions may differ by this


class MomentFractions(NamedTuple):
    """A moment as fractions of its video, in [0, 1]."""

    start: float
    end: float


def constant_moment(train: Sequence[VideoRecord], tious: Sequence[float] = TIOUS) -> MomentFractions:
    """The moment on a grid of 1/64 with the highest recall over the training queries.

    Args:
        train: annotations to fit it on.
        tious: thresholds whose recalls are averaged; mean tIoU decides between equals.

    Raises:
        DataError: a training query has no moment, or there is no query.
    """
    truth = _first_moments(train).astype(np.float32)
    first, last = np.triu_indices(_GRID + 1, k=1)
    candidates = (np.stack([first, last], axis=1) / _GRID).astype(np.float32)  # (candidates, 2)
    recall, overlap = np.zeros(len(candidates)), np.zeros(len(candidates))
    for start in range(0, len(truth), _QUERIES_AT_ONCE):
        found = tiou(candidates[:, None], truth[None, start : start + _QUERIES_AT_ONCE])
        recall += sum((found >= np.float32(threshold)).sum(axis=1) for threshold in tious)
        overlap += found.sum(axis=1)
    best = np.lexsort((overlap, recall))[-1]
    start_fraction, end_fraction = candidates[best].tolist()
    return MomentFractions(start_fraction, end_fraction)


class RankOnly:
    """The median training moment of a query's rank among the queries of its video.

    A (rank, count) pair with fewer than three training queries, as are most in TACoS, takes the
    median over training queries of about the same relative rank, (rank + 1/2) / count: those
    within half a rank of it, 1 / (2 count), or the nearest ones where there are none so close.
    """

    def __init__(self, moments: Array, relative: Array, seen: dict[tuple[int, int], MomentFractions]) -> None:
        """Use :meth:`fit`.

        Args:
            moments: ``(n, 2)``, training moments as fractions.
            relative: ``(n,)``, their relative ranks.
            seen: (rank, count) -> its median moment.
        """
        self._moments = moments
        self._relative = relative
        self._medians = seen

    @classmethod
    def fit(cls, train: Sequence[VideoRecord]) -> Self:
        """Collect the medians.

        Raises:
            DataError: a training query has no moment, or there is no query.
        """
        moments = _first_moments(train)
        pairs = _ranks(train)
        rows: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for row, pair in enumerate(pairs):
            rows[pair].append(row)
        seen = {pair: _median(moments[of_pair]) for pair, of_pair in rows.items() if len(of_pair) >= _SEEN}
        return cls(moments, np.array([_relative_rank(*pair) for pair in pairs]), seen)

    def predict(self, rank: int, count: int) -> MomentFractions:
        """The moment of query number ``rank`` (from 0) of the ``count`` queries of a video."""
        pair = (rank, count)
        if pair not in self._medians:
            distance = np.abs(self._relative - _relative_rank(rank, count))
            reach = max(0.5 / count, float(distance.min())) + _ROUNDING
            self._medians[pair] = _median(self._moments[distance <= reach])
        return self._medians[pair]


def baseline_predictions(
    kind: BaselineKind,
    train: Sequence[VideoRecord],
    test: Sequence[VideoRecord],
    tious: Sequence[float] = TIOUS,
) -> Array:
    """Answers of a baseline to every query of a split.

    Args:
        kind: which baseline; see the module.
        train: annotations to fit it on.
        test: annotations of the split; only durations and the order of queries are used.
        tious: thresholds that the constant is fitted to.

    Returns:
        ``(n, 1, 2)``, in seconds, for the flattened queries of ``test``.

    Raises:
        DataError: a training query has no moment, or there is no query.
    """
    pairs = _ranks(test)
    if kind == "rank_only":
        model = RankOnly.fit(train)
        fractions = [model.predict(*pair) for pair in pairs]
    else:
        fractions = [constant_moment(train, tious)] * len(pairs)
    durations_s = np.array([record.duration_s for record in test for _ in record.queries])
    seconds: Array = np.array(fractions).reshape(-1, 1, 2) * durations_s[:, None, None]
    return seconds


def _first_moments(records: Sequence[VideoRecord]) -> Array:
    """``(n, 2)``: the first moment of every query, as fractions of its video."""
    withheld = [query.qid for record in records for query in record.queries if not query.moments]
    if withheld:
        raise DataError(
            f"{len(withheld)} training queries have no ground-truth moment, the first being qid "
            f"{withheld[0]}; fit baselines on a split whose answers are public"
        )
    fractions = [
        (query.moments[0].start_s / record.duration_s, query.moments[0].end_s / record.duration_s)
        for record in records
        for query in record.queries
    ]
    if not fractions:
        raise DataError("the training annotations have no query; a baseline needs at least one")
    return np.array(fractions)


def _ranks(records: Sequence[VideoRecord]) -> list[tuple[int, int]]:
    """(rank from 0, number of queries of the video) of every query."""
    return [(rank, len(record.queries)) for record in records for rank in range(len(record.queries))]


def _relative_rank(rank: int, count: int) -> float:
    return (rank + 0.5) / count


def _median(moments: Array) -> MomentFractions:
    start, end = np.median(moments, axis=0).tolist()
    return MomentFractions(start, end)
