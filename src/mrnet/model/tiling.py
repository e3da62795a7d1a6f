"""Which cells of the proposal map matter to each stacked convolution, and how square tiles cover them.

Layer ``l`` of L stacked K x K convolutions gives a map of side ``s_l = s_0 - (K - 1)·l``, where ``s_0`` is the side
of the padded input and ``s_L = t``. Output (i, j) of a layer is made of the inputs (i .. i+K-1, j .. j+K-1). Maps
are held as the rows of those cells alone, ``(cells + 1, m, c)``; the last row is zero and stands for every other
cell.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


def spread(cells: Tensor, kernel: int, padding: int = 0) -> Tensor:
    """Cells whose window holds one of the given cells: ``(s, s)`` bool to ``(s + 2·padding - kernel + 1, …)``."""
    ones = torch.ones(1, 1, kernel, kernel)
    return F.conv2d(cells[None, None].float(), ones, padding=padding)[0, 0] > 0.5


def working_cells(occupied: Tensor, valid: Tensor, kernel: int, layers: int, *, training: bool) -> list[Tensor]:
    """Cells that the input and the output of each of the stacked convolutions must be known in.

    Args:
        occupied: ``(t, t)`` bool, cells where the input may differ from 0.
        valid: ``(t, t)`` bool, cells where the last output is wanted.
        kernel: K.
        layers: L.
        training: batch norm then averages over all outputs, so that none which may differ from 0 is left out;
            otherwise those are left out on which no valid cell depends.

    Returns:
        L + 1 masks ``(s_l, s_l)`` bool, that of the padded input first.
    """
    padding = (kernel - 1) * layers // 2
    valid_reach, reach = F.pad(valid, (padding,) * 4), F.pad(occupied, (padding,) * 4)
    cells = [reach]
    for _ in range(layers):
        cells.append(spread(reach, kernel))  # all that may differ from 0
        # Beyond the reach of valid cells a layer's output is multiplied by 0.
        reach = valid_reach = spread(valid_reach, kernel)
    if not training:
        cells[-1] = cells[-1] & valid
        for layer in range(layers, 0, -1):
            cells[layer - 1] &= spread(cells[layer], kernel, padding=kernel - 1)
    return cells


@dataclass(frozen=True)
class Tiling:
    """Tiles over the cells of a convolution's output: which input rows each one reads, and which outputs it gives.

    Attributes:
        size: N, side of what a tile reads; it gives ``size - kernel + 1`` outputs along each axis.
        kernel: K.
        source: ``(N, N, p)`` row of the input that each of the p tiles reads at each of its places.
        target: ``(cells,)`` place, in the flattened ``(size - K + 1, size - K + 1, p)``, of each output.
        num_inputs: rows of the input, the zero row included.
    """

    size: int
    kernel: int
    source: Tensor
    target: Tensor
    num_inputs: int

    @classmethod
    def make(cls, inputs: Tensor, outputs: Tensor, kernel: int, size: int) -> "Tiling":
        """Cover ``outputs`` by tiles of ``size`` that read from ``inputs``, masks of neighbouring layers."""
        step = size - kernel + 1
        corners = cover(outputs, step)
        count = int(inputs.sum())
        # Beyond the edge, and where there is no input, tiles read the zero row.
        rows = torch.full((inputs.shape[0] + 2 * size, inputs.shape[1] + 2 * size), count)
        rows[size:-size, size:-size][inputs] = torch.arange(count)
        along = torch.arange(size) + size
        source = rows[(corners[:, 0] + along[:, None])[:, None], (corners[:, 1] + along[:, None])[None]]
        places = torch.full((outputs.shape[0] + 2 * step, outputs.shape[1] + 2 * step), -1)
        within = torch.arange(step)
        place = (within[:, None] * step + within)[..., None] * len(corners) + torch.arange(len(corners))
        i, j = ((corners[:, axis] + within[:, None] + step) for axis in (0, 1))
        places[i[:, None], j[None]] = place
        return cls(size, kernel, source, places[step:-step, step:-step][outputs], count + 1)

    @property
    def num_tiles(self) -> int:
        """p."""
        return self.source.shape[-1]

    @cached_property
    def readers(self) -> tuple[Tensor, Tensor]:
        """The places that read each input row but the zero row: one after the other, and where each row's begin."""
        flat = self.source.flatten()
        ends = torch.bincount(flat, minlength=self.num_inputs).cumsum(0)
        return flat.argsort(stable=True)[: ends[-2]], F.pad(ends[:-2], (1, 0))

    def to(self, device: torch.device) -> "Tiling":
        """The same on a device."""
        return Tiling(self.size, self.kernel, self.source.to(device), self.target.to(device), self.num_inputs)


def cover(cells: Tensor, step: int) -> Tensor:
    """Corners ``(p, 2)`` of disjoint ``step`` x ``step`` windows that hold all of the cells; they may stick out.

    Windows stand side by side in bands, along the axis and from the first line that need the fewest.
    """
    best: list[tuple[int, int]] | None = None
    for transposed in (False, True):
        mask = cells.T if transposed else cells
        lines = mask.any(dim=1).nonzero().flatten()
        first, last = int(lines[0]), int(lines[-1])
        for start in range(first - step + 1, first + 1):
            corners: list[tuple[int, int]] = []
            for top in range(start, last + 1, step):
                beyond = 0
                for column in mask[max(top, 0) : top + step].any(dim=0).nonzero().flatten().tolist():
                    if column >= beyond:
                        corners.append((column, top) if transposed else (top, column))
                        beyond = column + step
            if best is None or len(corners) < len(best):
                best = corners
    assert best is not None
    return torch.tensor(best)
