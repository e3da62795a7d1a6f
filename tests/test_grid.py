"""Diagonals of the proposal map against hand-worked values."""

import pytest

from mrnet.errors import ConfigError
from mrnet.grid import count_cells, map_diagonals


@pytest.mark.parametrize(
    ("counts", "diagonals"),
    [
        ([], []),
        ([2, 1], [(1, 1), (2, 1), (4, 2)]),
        ([0, 2], [(2, 2), (4, 2)]),
        ([1, 1, 1], [(1, 1), (3, 2), (7, 4)]),  # the last that fits into 8 clips
    ],
)
def test_diagonals_by_hand(counts: list[int], diagonals: list[tuple[int, int]]) -> None:
    assert map_diagonals(8, counts) == diagonals


def test_cells_by_hand() -> None:
    assert count_cells(8, []) == 8
    assert count_cells(8, [2, 1]) == 8 + 7 + 6 + 2
    assert count_cells(8, [1, 1, 1]) == 8 + 7 + 3 + 1


def test_the_released_map() -> None:
    found = map_diagonals(64, [15, 8, 8])
    assert found == (
        [(offset, 1) for offset in range(1, 16)]
        + [(offset, 2) for offset in range(17, 32, 2)]
        + [(offset, 4) for offset in range(35, 64, 4)]
    )


def test_diagonals_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        map_diagonals(7, [3, 2])
    assert str(caught.value) == (
        "pooling_counts [3, 2] reach 7 clips past the start clip, but num_clips is 7: lower the counts or raise "
        "num_clips"
    )
