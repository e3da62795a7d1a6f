"""Suppression of all queries at once against hand-worked values and the plain greedy algorithm."""

import pytest
import torch

from mrnet.retrieval.rank import rank
from mrnet.retrieval.scorer import Candidates
from mrnet.temporal import hull_iou
from mrnet.types import Moment

NONE = float("-inf")


def candidates(spans: list[list[float]], *scores: list[float]) -> Candidates:
    return Candidates(torch.tensor(spans), torch.tensor(scores))


def greedy(spans: torch.Tensor, scores: torch.Tensor, k: int, threshold: float) -> list[Moment]:
    """Candidates one by one, best first; ties in the order listed."""
    overlaps = hull_iou(spans[:, None], spans)
    kept: list[int] = []
    for index in sorted(range(len(spans)), key=lambda i: -scores[i].item()):  # Python's sort is stable
        if scores[index] > NONE and bool((overlaps[index, kept] <= threshold).all()):
            kept.append(index)
    return [Moment(*spans[index].tolist(), scores[index].item()) for index in kept[:k]]


def test_suppression_by_hand() -> None:
    found = rank(candidates([[0, 10], [1, 10], [5, 15], [20, 30], [21, 31]], [0.9, 0.8, 0.7, 0.1, 0.2]), 5, 0.5)
    # [1, 10] overlaps [0, 10] by 9/10, [20, 30] overlaps [21, 31] by 9/11; [5, 15] overlaps [0, 10] by 5/15 only.
    assert found == [
        [
            Moment(0, 10, pytest.approx(0.9)),
            Moment(5, 15, pytest.approx(0.7)),
            Moment(21, 31, pytest.approx(0.2)),
        ]
    ]


def test_what_is_suppressed_suppresses_nothing() -> None:
    # The second overlaps the first and the third; the third does not overlap the first enough.
    found = rank(candidates([[0, 10], [4, 14], [8, 18]], [0.75, 0.5, 0.25]), 3, 0.4)
    assert found == [[Moment(0, 10, 0.75), Moment(8, 18, 0.25)]]


def test_equal_overlap_is_kept() -> None:
    listed = candidates([[0, 1], [0, 2]], [0.75, 0.5])  # overlap exactly 0.5
    assert rank(listed, 2, 0.5) == [[Moment(0, 1, 0.75), Moment(0, 2, 0.5)]]
    assert rank(listed, 2, 0.49) == [[Moment(0, 1, 0.75)]]


def test_ties_go_to_the_first_listed() -> None:
    spans = [[8.0, 9.0], [0.0, 1.0], [4.0, 5.0], [2.0, 3.0]]
    assert rank(candidates(spans, [0.5, 0.5, 0.75, 0.5]), 4, 0.5) == [
        [Moment(4, 5, 0.75), Moment(8, 9, 0.5), Moment(0, 1, 0.5), Moment(2, 3, 0.5)]
    ]
    overlapping = [[0.0, 10.0], [0.0, 9.0]]
    assert rank(candidates(overlapping, [0.5, 0.5]), 2, 0.5) == [[Moment(0, 10, 0.5)]]
    assert rank(candidates(overlapping[::-1], [0.5, 0.5]), 2, 0.5) == [[Moment(0, 9, 0.5)]]


def test_no_more_than_k() -> None:
    listed = candidates([[0, 1], [1, 2], [2, 3]], [0.25, 0.75, 0.5])
    assert rank(listed, 1, 0.5) == [[Moment(1, 2, 0.75)]]
    assert rank(listed, 2, 0.5) == [[Moment(1, 2, 0.75), Moment(2, 3, 0.5)]]
    assert rank(listed, 0, 0.5) == [[]]


def test_fewer_than_k() -> None:
    assert rank(candidates([[0, 1], [1, 2]], [0.25, 0.75]), 9, 0.5) == [[Moment(1, 2, 0.75), Moment(0, 1, 0.25)]]


def test_minus_infinity_is_no_candidate() -> None:
    spans = [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    found = rank(candidates(spans, [NONE, 0.5, NONE], [NONE, NONE, NONE], [-3.0, NONE, 0.0]), 3, 0.5)
    assert found == [[Moment(1, 2, 0.5)], [], [Moment(2, 3, 0.0), Moment(0, 1, -3.0)]]


def test_nothing_to_rank() -> None:
    assert rank(Candidates(torch.zeros(0, 2), torch.zeros(2, 0)), 3, 0.5) == [[], []]
    assert rank(Candidates(torch.tensor([[0.0, 1.0]]), torch.zeros(0, 1)), 3, 0.5) == []


def test_the_scores_given_stay_as_they_are() -> None:
    listed = candidates([[0, 10], [0, 9]], [0.75, 0.5])
    rank(listed, 2, 0.5)
    assert listed.scores.tolist() == [[0.75, 0.5]]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_agrees_with_greedy_suppression(threshold: float, k: int) -> None:
    generator = torch.Generator().manual_seed(3)
    spans = torch.rand(60, 2, generator=generator).mul(100).sort(dim=1).values
    scores = torch.rand(20, 60, generator=generator).mul(8).round().div(8)  # many ties
    scores[scores < 0.2] = NONE
    scores[7] = NONE
    together = rank(Candidates(spans, scores), k, threshold)
    assert len(together) == 20
    for row, ranked in zip(scores, together, strict=True):
        assert ranked == greedy(spans, row, k, threshold)
        assert [ranked] == rank(Candidates(spans, row[None]), k, threshold)
