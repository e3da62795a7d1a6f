"""Geometry against hand-worked values and plain loops."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from mrnet.errors import FeatureShapeError
from mrnet.temporal import (
    average_rows,
    cell_moments,
    check_width,
    clip_middles,
    hull_iou,
    iou_map,
    resample,
    union_iou,
    valid_cells,
)


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


def test_features_of_another_width_are_refused() -> None:
    check_width(torch.zeros(2, 5), 5, "the query", "model.query_dim")
    with pytest.raises(FeatureShapeError) as caught:
        check_width(torch.zeros(5, 4), 5, "the query", "model.query_dim")
    assert str(caught.value) == (
        "the query has features of width 4, but model.query_dim is 5: use the features the model was made for, or "
        "train with --set model.query_dim=4"
    )


def test_clip_middles() -> None:
    assert clip_middles(8, torch.device("cpu")).tolist() == [(i + 0.5) / 8 for i in range(8)]
