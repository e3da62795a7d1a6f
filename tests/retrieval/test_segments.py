"""Segments of hand-made rows, and their runs against brute force."""

from itertools import combinations

import pytest
import torch

from mrnet.retrieval.segments import (
    Cuts,
    changes,
    edge_times,
    relative_cuts,
    run_means,
    run_rows,
    runs,
    segment_edges,
)

CUTS = Cuts(shot=0.25, inner=0.16)


def shots(*lengths: int) -> torch.Tensor:
    """Shots that have nothing in common, each of rows all alike."""
    return torch.cat([torch.eye(8)[index].expand(length, -1) for index, length in enumerate(lengths)])


def test_changes_are_cosine_distances_of_three_rows_on_either_side() -> None:
    rows = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(rows, dim=1)
    expected = [0.0]
    for at in range(1, 9):
        left, right = unit[max(0, at - 3) : at].mean(dim=0), unit[at : at + 3].mean(dim=0)
        expected.append((1 - left @ right / left.norm() / right.norm()).item())
    torch.testing.assert_close(changes(rows), torch.tensor([*expected, 0.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [2, 7, 8, 9, 16, 17, 50])
def test_a_long_video_is_looked_at_in_parts(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(count, 5, generator=torch.Generator().manual_seed(0))
    whole = changes(rows)
    monkeypatch.setattr("mrnet.retrieval.segments._AT_ONCE", 7)
    torch.testing.assert_close(changes(rows), whole, rtol=0, atol=1e-6)


def test_roots_are_taken_of_rows_without_negative_values() -> None:
    rows = torch.rand(7, 4, generator=torch.Generator().manual_seed(0))
    shifted = rows.sqrt().clone()
    shifted[:, 0] *= -1  # the same distances as those of the roots, without roots being taken
    torch.testing.assert_close(changes(rows), changes(shifted))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_rows(count: int) -> None:
    assert changes(torch.ones(count, 4)).tolist() == pytest.approx([0.0] * (count + 1), abs=1e-6)
    assert segment_edges(changes(torch.ones(count, 4)), CUTS, 2.0).tolist() == [0, count]


def test_edges_are_where_shots_meet() -> None:
    assert segment_edges(changes(shots(6, 9, 4)), CUTS, 2.0).tolist() == [0, 6, 15, 19]


def test_of_two_equal_peaks_side_by_side_the_first_cuts() -> None:
    distances = torch.tensor([0, 0.1, 0.4, 0.4, 0.1, 0])
    assert segment_edges(distances, CUTS, 2.0).tolist() == [0, 2, 5]


@pytest.mark.parametrize(("long_s", "edges"), [(9.0, [0, 10, 20, 24]), (11.0, [0, 20, 24])])
def test_only_long_shots_are_split_at_the_lower_threshold(long_s: float, edges: list[int]) -> None:
    distances = torch.zeros(25)
    distances[[10, 20]] = torch.tensor([0.2, 0.9])
    distances[22] = 0.2  # in a shot of two seconds
    assert segment_edges(distances, Cuts(0.25, 0.16, long_s), 2.0).tolist() == edges


def test_a_long_shot_is_so_of_its_video() -> None:
    distances = torch.zeros(101)
    distances[[20, 10]] = torch.tensor([0.9, 0.2])
    assert segment_edges(distances, Cuts(0.25, 0.16, 10.0, 0.25), 2.0).tolist() == [0, 20, 100]
    assert segment_edges(distances, Cuts(0.25, 0.16, 10.0, 0.20), 2.0).tolist() == [0, 10, 20, 100]


def test_relative_cuts_lie_half_way_from_usual_to_largest() -> None:
    distances = torch.full((102,), 0.1)
    distances[50:60] = 0.5
    assert relative_cuts(distances).shot == pytest.approx(0.3)
    assert relative_cuts(torch.full((102,), 0.001)).shot == 0.05  # where nothing changes nothing is cut
    assert relative_cuts(torch.zeros(2)).shot == float("inf")


def test_an_edge_lies_half_a_row_before_its_row() -> None:
    assert edge_times(torch.tensor([0, 4, 10]), 2.0, 5.3).tolist() == pytest.approx([0.0, 1.75, 5.3])


@pytest.mark.parametrize("longest", [1, 3, 9])
def test_runs_and_their_means(longest: int) -> None:
    edges = torch.tensor([0, 2, 3, 7, 8])
    found = runs(4, longest)
    assert found.tolist() == [list(pair) for pair in combinations(range(5), 2) if pair[1] - pair[0] <= longest]
    values = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    expected = [values[:, edges[i] : edges[j]].mean(dim=1) for i, j in found.tolist()]
    torch.testing.assert_close(run_means(values, edges, found), torch.stack(expected, dim=1))


def test_means_of_rows_over_runs() -> None:
    rows, edges = torch.tensor([[1.0, 0], [3, 0], [5, 1], [7, 2], [9, 6]]), torch.tensor([0, 2, 3, 5])
    found = run_rows(rows, edges, torch.tensor([[0, 1], [0, 2], [0, 3], [2, 3]]))
    assert found.tolist() == [[2, 0], [3, pytest.approx(1 / 3)], [5, pytest.approx(1.8)], [8, 4]]
