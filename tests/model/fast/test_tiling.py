"""Which cells matter, and tiles over them, against plain loops."""

import pytest
import torch

from mrnet.model.fast.tiling import Tiling, cover, spread, working_cells
from mrnet.temporal import valid_cells


def cells_of(mask: torch.Tensor) -> set[tuple[int, int]]:
    return {(i, j) for i, j in mask.nonzero().tolist()}


def test_spread() -> None:
    cells = torch.zeros(5, 5, dtype=torch.bool)
    cells[1, 3] = True
    assert cells_of(spread(cells, 3)) == {(0, 1), (0, 2), (1, 1), (1, 2)}
    assert cells_of(spread(cells, 3, padding=1)) == {(i, j) for i in (0, 1, 2) for j in (2, 3, 4)}


@pytest.mark.parametrize(("kernel", "layers"), [(3, 2), (5, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("filled", [False, True])
def test_working_cells_are_those_that_valid_ones_depend_on(kernel: int, layers: int, filled: bool) -> None:
    valid = valid_cells(8, [2, 2])
    occupied = torch.ones_like(valid) if filled else valid
    padding = (kernel - 1) * layers // 2
    window = [(a, b) for a in range(kernel) for b in range(kernel)]

    # What may differ from 0, forwards; beyond the reach of valid cells outputs are multiplied by 0.
    nonzero, kept = [{(i + padding, j + padding) for i, j in cells_of(occupied)}], []
    reach = {(i + padding, j + padding) for i, j in cells_of(valid)}
    side = 8 + 2 * padding
    for _ in range(layers):
        side -= kernel - 1
        grid = [(i, j) for i in range(side) for j in range(side)]
        before = nonzero[-1] if not kept else kept[-1]
        nonzero.append({(i, j) for i, j in grid if any((i + a, j + b) in before for a, b in window)})
        reach = {(i, j) for i, j in grid if any((i + a, j + b) in reach for a, b in window)}
        kept.append(nonzero[-1] & reach)
    training = working_cells(occupied, valid, kernel, layers, training=True)
    assert [cells_of(mask) for mask in training] == nonzero

    # What is needed, backwards.
    needed = [cells_of(valid) & nonzero[-1]]
    for layer in range(layers - 1, -1, -1):
        wanted = {(i + a, j + b) for i, j in needed[0] for a, b in window}
        needed.insert(0, wanted & (kept[layer - 1] if layer else nonzero[0]))
    found = working_cells(occupied, valid, kernel, layers, training=False)
    assert [cells_of(mask) for mask in found] == needed


def test_cover_holds_every_cell_once() -> None:
    cells = valid_cells(32, [7, 4, 4])
    corners = cover(cells, 6)
    times = torch.zeros(50, 50, dtype=torch.long)
    for i, j in (corners + 9).tolist():
        times[i : i + 6, j : j + 6] += 1
    assert times.max() == 1
    assert (times[9:41, 9:41][cells] == 1).all()
    assert len(cover(torch.ones(12, 18, dtype=torch.bool), 6)) == 6
    band = torch.eye(12, dtype=torch.bool)
    assert cover(band, 6).tolist() == [[0, 0], [6, 6]]


def test_places_that_are_read_and_given() -> None:
    """Inputs (0, 0) and (2, 3) of a 4x4 map; the output, 2x2 for a 3x3 kernel, is wanted in its corner (1, 1)."""
    inputs = torch.zeros(4, 4, dtype=torch.bool)
    inputs[0, 0] = inputs[2, 3] = True
    outputs = torch.zeros(2, 2, dtype=torch.bool)
    outputs[1, 1] = True
    tiling = Tiling.make(inputs, outputs, kernel=3, size=4)
    assert tiling.num_tiles == 1
    assert tiling.num_inputs == 3
    # The window of two by two outputs begins at (0, 1): the tile reads from there, beyond the edge too.
    source = torch.full((4, 4), 2)  # the zero row
    source[2, 2] = 1
    assert tiling.source[..., 0].tolist() == source.tolist()
    assert tiling.target.tolist() == [2, 4]  # the third of four places; none for the zero row
    assert tiling.pairs.counts == [0] * 9
    order, starts = tiling.readers
    assert order.tolist() == [10]
    assert starts.tolist() == [0, 0]  # nobody reads the first


def test_outputs_of_poor_tiles_become_pairs() -> None:
    inputs = torch.zeros(12, 12, dtype=torch.bool)
    inputs[:6, :6] = True
    inputs[10, 10] = True
    outputs = torch.zeros(10, 10, dtype=torch.bool)
    outputs[:4, :4] = True
    outputs[9, 8] = True  # reads rows 9 to 11 and columns 8 to 10
    tiling = Tiling.make(inputs, outputs, kernel=3, size=6, least_pairs=2)
    assert tiling.num_tiles == 1
    assert list(tiling.target[-2:]) == [16, 16]  # beyond the 16 places of the one tile
    [(tap, read, given)] = [(t, i.tolist(), o.tolist()) for t, i, o in tiling.pairs.taps()]
    assert (tap, read, given) == (1 * 3 + 2, [36], [16])
    # Where no tile is worth its while all of them stay.
    assert Tiling.make(inputs, outputs, kernel=3, size=6, least_pairs=1e9).num_tiles == 2
