"""Which cells of the proposal map matter to each stacked convolution, and how square tiles cover them.

Where valid cells are far between, a tile would hold little: the few pairs of an input and an output there are
listed instead.

Layer ``l`` of L stacked K x K convolutions gives a map of side ``s_l = s_0 - (K - 1)·l``, where ``s_0`` is the side
of the padded input and ``s_L = t``. Output (i, j) of a layer is made of the inputs (i .. i+K-1, j .. j+K-1). Maps
are held as the rows of those cells alone, ``(cells + 1, m, c)``; the last row is zero and stands for every other
cell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


def spread(cells: Tensor, kernel: int, padding: int = 0) -> Tensor:
    """Cells whose window holds one of the given cells: ``(s, s)`` bool to ``(s + 2·padding - kernel + 1, …)``."""
    ones = torch.ones(1, 1, kernel, kernel, dtype=torch.float32)
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
    valid_reach = F.pad(valid, (padding,) * 4)
    reached = [F.pad(occupied, (padding,) * 4)]  # what is not multiplied by 0
    cells = [reached[0]]
    for _ in range(layers):
        cells.append(spread(reached[-1], kernel))  # all that may differ from 0
        valid_reach = spread(valid_reach, kernel)
        reached.append(valid_reach)
    if training:
        return cells
    needed = [cells[-1] & valid]
    for before in reversed(reached[:-1]):
        needed.insert(0, before & spread(needed[0], kernel, padding=kernel - 1))
    return needed


@dataclass(frozen=True)
class Pairs:
    """Inputs and the outputs that they are part of, tap by tap of the kernel.

    Attributes:
        inputs: ``(n,)`` rows of the input.
        outputs: ``(n,)`` rows of the output; none twice for one tap.
        counts: of each of the K·K taps, in order.
    """

    inputs: Tensor
    outputs: Tensor
    counts: list[int]

    @classmethod
    def make(cls, input_rows: Tensor, output_rows: Tensor, kernel: int) -> "Pairs":
        """The pairs of some outputs.

        Args:
            input_rows: ``(s, s)`` row of each cell of the input, -1 where there is none.
            output_rows: ``(s - K + 1, …)`` row of each of the outputs, -1 elsewhere.
            kernel: K.
        """
        height, width = output_rows.shape
        found = []
        for tap in range(kernel**2):
            i, j = divmod(tap, kernel)
            read = input_rows[i : i + height, j : j + width]
            both = (read >= 0) & (output_rows >= 0)
            found.append(torch.stack([read[both], output_rows[both]]))
        inputs, outputs = torch.cat(found, dim=1)
        return cls(inputs, outputs, [pairs.shape[1] for pairs in found])

    def taps(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Tap, inputs and outputs, of each tap that has any."""
        split = zip(torch.split(self.inputs, self.counts), torch.split(self.outputs, self.counts), strict=True)
        for tap, (inputs, outputs) in enumerate(split):
            if len(inputs):
                yield tap, inputs, outputs

    def to(self, device: torch.device) -> "Pairs":
        """The same on a device."""
        return Pairs(self.inputs.to(device), self.outputs.to(device), self.counts)


@dataclass(frozen=True)
class Tiling:
    """Tiles over the cells of a convolution's output: which input rows each one reads, and which outputs it gives.

    Attributes:
        size: N, side of what a tile reads; it gives ``size - kernel + 1`` outputs along each axis.
        kernel: K.
        source: ``(N, N, p)`` row of the input that each of the p tiles reads at each of its places.
        target: ``(cells + 1,)`` place, in the flattened ``(size - K + 1, size - K + 1, p)``, of each output; one
            beyond the last for those that no tile gives.
        num_inputs: rows of the input, the zero row included.
        pairs: of the outputs that no tile gives.
    """

    size: int
    kernel: int
    source: Tensor
    target: Tensor
    num_inputs: int
    pairs: Pairs

    @classmethod
    def make(
        cls, inputs: Tensor, outputs: Tensor, kernel: int, size: int, *, least_pairs: float = 0.0
    ) -> "Tiling":
        """Cover outputs by tiles.

        Args:
            inputs: ``(s, s)`` bool, mask of a layer's input.
            outputs: ``(s - K + 1, …)`` bool, mask of its output.
            kernel: K.
            size: N.
            least_pairs: of an input and an output that make a tile worth its while.
        """
        step = size - kernel + 1
        corners = cover(outputs, step)
        ones = torch.ones(1, 1, kernel, kernel, dtype=torch.float32)
        num_pairs = F.conv2d(inputs[None, None].float(), ones)[0, 0] * outputs
        within = torch.arange(step)
        i, j = ((corners[:, axis] + within[:, None] + step) for axis in (0, 1))
        held = F.pad(num_pairs, (step,) * 4)[i[:, None], j[None]].sum(dim=(0, 1))
        worth = held >= least_pairs
        if worth.any():
            corners, i, j = corners[worth], i[:, worth], j[:, worth]
        count = int(inputs.sum())
        # Beyond the edge, and where there is no input, tiles read the zero row.
        rows = torch.full((inputs.shape[0] + 2 * size, inputs.shape[1] + 2 * size), count)
        rows[size:-size, size:-size][inputs] = torch.arange(count)
        along = torch.arange(size) + size
        source = rows[(corners[:, 0] + along[:, None])[:, None], (corners[:, 1] + along[:, None])[None]]
        nowhere = step**2 * len(corners)
        places = torch.full((outputs.shape[0] + 2 * step, outputs.shape[1] + 2 * step), nowhere)
        place = (within[:, None] * step + within)[..., None] * len(corners) + torch.arange(len(corners))
        places[i[:, None], j[None]] = place
        places = places[step:-step, step:-step]
        output_rows = torch.full(outputs.shape, -1)
        output_rows[outputs] = torch.arange(int(outputs.sum()))
        pairs = Pairs.make(
            torch.where(inputs, rows[size:-size, size:-size], -1),
            torch.where(places == nowhere, output_rows, -1),
            kernel,
        )
        return cls(size, kernel, source, F.pad(places[outputs], (0, 1), value=nowhere), count + 1, pairs)

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
        moved = self.source.to(device), self.target.to(device)
        return Tiling(self.size, self.kernel, *moved, self.num_inputs, self.pairs.to(device))


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
