"""Geometry against hand-worked values and plain loops."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from mrnet.errors import ConfigError
from mrnet.grid import map_diagonals
from mrnet.temporal import average_rows, cell_moments, hull_iou, iou_map, resample, union_iou, valid_cells


def test_hull_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 10.0], [0.0, 10.0], [0.0, 4.0]])
    b = torch.tensor([[5.0, 15.0], [2.0, 6.0], [6.0, 8.0]])
    assert hull_iou(a, b).tolist() == pytest.approx([5 / 15, 4 / 10, 0.0])


def test_union_iou_differs_only_where_moments_do_not_touch() -> None:
    a, b = torch.tensor([[0.0, 10.0]]), torch.tensor([[5.0, 15.0]])
    assert union_iou(a, b).item() == pytest.approx(1 / 3)
    assert union_iou(torch.tensor([0.0, 4.0]), torch.tensor([6.0, 8.0])).item() == 0.0


def test_cell_is_inclusive_of_its_end_clip() -> None:
    cells = torch.tensor([[0, 0], [2, 3]])
    assert cell_moments(cells, 40.0, 4).tolist() == [[0.0, 10.0], [20.0, 40.0]]


def test_iou_map_by_hand() -> None:
    found = iou_map(torch.tensor([[[10.0, 30.0]]]), torch.tensor([40.0]), 4)[0]
    expected = [
        [0.0, 1 / 3, 2 / 3, 0.5],
        [0.0, 0.5, 1.0, 2 / 3],
        [0.0, 0.0, 0.5, 1 / 3],
        [0.0, 0.0, 0.0, 0.0],
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_iou_map_of_several_moments_is_the_best_of_them() -> None:
    duration = torch.tensor([40.0])
    both = iou_map(torch.tensor([[[0.0, 10.0], [20.0, 40.0]]]), duration, 4)
    one = iou_map(torch.tensor([[[0.0, 10.0]]]), duration, 4)
    two = iou_map(torch.tensor([[[20.0, 40.0]]]), duration, 4)
    torch.testing.assert_close(both, torch.maximum(one, two))


def test_valid_cells_by_hand() -> None:
    # Two diagonals of stride 1, then one of stride 2 that keeps even starts.
    expected = [
        [1, 1, 1, 0, 1, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 1],
    ]
    assert valid_cells(6, [2, 1]).int().tolist() == expected
    assert map_diagonals(6, [2, 1]) == [(1, 1), (2, 1), (4, 2)]


def test_diagonals_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[3, 2\] reach 7 clips past the start clip, but .* is 7"):
        map_diagonals(7, [3, 2])


@pytest.mark.parametrize(("n", "rows"), [(5, 16), (16, 16), (17, 16), (100, 16), (1, 8), (33, 32)])
def test_resample_agrees_with_a_plain_loop(n: int, rows: int) -> None:
    source = torch.randn(n, 3, generator=torch.Generator().manual_seed(n))
    normal = F.normalize(source, dim=1)
    cuts = [min(int(torch.tensor(i / rows * n).round()), n - 1) for i in range(rows + 1)]
    expected = [normal[a:b].mean(dim=0) if a < b else normal[a] for a, b in itertools.pairwise(cuts)]
    torch.testing.assert_close(resample(source, rows), torch.stack(expected))


def test_average_rows_by_hand() -> None:
    rows = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])
    # Cuts of 5 rows into 2 cells: 0, 2 (2.5 rounds to even), 4 (5 clamped).
    assert average_rows(rows, 2).tolist() == [[0.5], [2.5]]
