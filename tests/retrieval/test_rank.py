"""Vectorised decoding against the plain greedy algorithm."""

import pytest
import torch

from mrnet.retrieval.rank import fuse_scores, top_moments
from mrnet.temporal import hull_iou, valid_cells


def greedy(scores: torch.Tensor, duration: float, k: int, threshold: float) -> torch.Tensor:
    """Candidates one by one, best first, in float32; ties in row-major order."""
    clips = len(scores)
    cells = [(i, j) for i in range(clips) for j in range(clips) if scores[i, j] != 0]
    cells.sort(key=lambda cell: -scores[cell].item())  # Python's sort is stable
    kept: list[torch.Tensor] = []
    for i, j in cells:
        moment = torch.tensor([i, j + 1]) * torch.tensor(duration) / clips
        if all(hull_iou(moment, better) <= threshold for better in kept):
            kept.append(moment)
    return torch.stack(kept[:k])


def test_queries_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    scores = torch.rand(5, 8, 8, generator=generator) * valid_cells(8, [3, 2])
    scores[3] = 0  # a query without candidates, and ones that fewer cells answer than others
    scores[1, :, 4:] = 0
    duration_s = torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0])
    expected = top_moments(scores, duration_s, 5, 0.5)
    monkeypatch.setattr("mrnet.retrieval.rank._QUERIES_AT_ONCE", 2)
    found = top_moments(scores, duration_s, 5, 0.5)
    for values, others in zip(found, expected, strict=True):
        torch.testing.assert_close(values, others, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_agrees_with_greedy_suppression(threshold: float) -> None:
    generator = torch.Generator().manual_seed(3)
    valid = valid_cells(16, [3, 2, 2])
    scores = torch.rand(20, 16, 16, generator=generator).mul(8).round().div(8) * valid  # many ties
    durations = torch.linspace(7, 200, 20)
    moments, values = top_moments(scores, durations, 5, threshold)
    for row in range(20):
        expected = greedy(scores[row], float(durations[row]), 5, threshold)
        torch.testing.assert_close(moments[row, : len(expected)], expected)
        assert values[row, : len(expected)].diff().le(0).all()


def test_ranks_that_are_not_there_are_nan() -> None:
    scores = torch.zeros(1, 4, 4)
    scores[0, 1, 2] = 0.5
    moments, values = top_moments(scores, torch.tensor([8.0]), 3, 0.5)
    assert moments[0, 0].tolist() == [2.0, 6.0]
    assert values[0, 0] == 0.5
    assert moments[0, 1:].isnan().all()
    assert values[0, 1:].isnan().all()


def test_no_candidate_at_all() -> None:
    moments, values = top_moments(torch.zeros(2, 4, 4), torch.tensor([8.0, 8.0]), 2, 0.5)
    assert moments.isnan().all()
    assert values.isnan().all()


def test_equal_overlap_is_kept() -> None:
    scores = torch.zeros(1, 4, 4)
    scores[0, 0, 0], scores[0, 0, 1] = 0.9, 0.8  # [0, 1] and [0, 2]: overlap exactly 0.5
    moments, _ = top_moments(scores, torch.tensor([4.0]), 2, 0.5)
    assert moments[0].tolist() == [[0.0, 1.0], [0.0, 2.0]]


def test_fused_score_by_hand() -> None:
    fused = fuse_scores(torch.tensor(0.8), torch.tensor(-0.5), 0.5)
    assert fused.item() == pytest.approx(0.25**0.5 * 0.8)
