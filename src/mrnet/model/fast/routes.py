"""Which route stacked convolutions take: whole maps, or tiles of which size, by work, memory and device."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from mrnet.device import num_workers
from mrnet.model.fast.spectral import num_products, tile_multiply_adds
from mrnet.model.fast.tiling import Tiling, working_cells

Route = Literal["auto", "dense", "tiled"]

_SIZES = (6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64)
# Work is counted in multiply-adds of a large product of matrices. These were fitted to times on two x86 cores, see
# docs/performance.md.
_PACKING_ROWS = 27  # a product with few rows pays for the other factor's reordering, as these many rows would
_PAIR = 1.5  # its rows are gathered and added
_SPECTRUM_ROWS = 80  # the spectrum of a kernel is written to memory and read again
_TRANSFORM = 2.0  # products with narrow fixed matrices run at half the speed
_PAIRS_PER_PRODUCT = 1.1  # a tile's product at a frequency, transforms included, costs as much as these pairs
_BAND_OVERHEAD = 4e6
# Maps at a time, by what they take: more gain nothing.
_MOST_AT_ONCE = 512 * 2**20
_MEMORY_SHARE = 4
_MEMORY_IF_UNKNOWN = 8 * 2**30


@dataclass(frozen=True)
class Plan:
    """The tiled route through all layers.

    Attributes:
        tilings: of each layer.
        inputs: ``(cells,)`` index of the first input's cells in the flattened map.
        weights: of each layer, ``(cells + 1, 1, 1)`` factor on its output, 0 for the last row.
        outputs: ``(v,)`` rows of the valid cells in the last output.
        sides: side of each layer's output map.
        keeps_spectra: whether there is memory to keep the kernels' spectra from one call to the next.
        maps_at_once: for which there is memory.
    """

    tilings: tuple[Tiling, ...]
    inputs: Tensor
    weights: tuple[Tensor, ...]
    outputs: Tensor
    sides: tuple[int, ...]
    keeps_spectra: bool
    maps_at_once: int


@dataclass(frozen=True)
class _Option:
    size: int
    keeps_spectra: bool
    work: float
    floats_once: int
    floats_per_map: int

    def maps_within(self, room: int) -> int:
        """At least one, whether there is memory for so many numbers or not."""
        return max((room - self.floats_once) // self.floats_per_map, 1)

    def fits(self, room: int) -> bool:
        return self.floats_once + self.floats_per_map <= room


class Router:
    """Plans for stacked convolutions.

    Args:
        valid: ``(t, t)`` bool.
        filled: whether inputs may differ from 0 in invalid cells.
        weights: of each layer, ``(s, s)`` factor on its output.
        kernel: K.
        widths: channels before, between and after the layers.
    """

    def __init__(
        self, *, valid: Tensor, filled: bool, weights: Sequence[Tensor], kernel: int, widths: Sequence[int]
    ) -> None:
        self._valid, self._filled = valid, filled
        self._weights, self._kernel, self._widths = weights, kernel, widths
        self._cells: dict[bool, list[Tensor]] = {}
        self._tilings: dict[tuple[bool, int], list[Tiling]] = {}

    def plan(
        self,
        *,
        num_maps: int,
        training: bool,
        learning: bool,
        device: torch.device,
        itemsize: int,
        route: Route,
        budget: int | None,
    ) -> Plan | None:
        """The route for so many maps; ``None`` is the dense one.

        Args:
            num_maps: m.
            training: whether batch norm averages over the maps.
            learning: whether weights are about to change; spectra are then not kept.
            device: where the maps are.
            itemsize: bytes of a number.
            route: ``auto``, or the one to take.
            budget: bytes beside weights and activations; ``None``: a quarter of this machine's memory.
        """
        if route == "dense" or (route == "auto" and device.type != "cpu"):
            return None
        budget = total_memory() // _MEMORY_SHARE if budget is None else budget
        # Kept spectra must suit all calls to come, most of them for one map.
        options = [
            self._option(size, training, keeps=keeps, num_maps=1 if keeps else num_maps, learning=learning)
            for size in _SIZES
            if self._kernel < size <= 2 * self._side(0)
            for keeps in ((False,) if learning else (True, False))
        ]
        room = budget // itemsize
        fitting = [option for option in options if option.fits(room)]
        kept = [option for option in fitting if option.keeps_spectra]
        best = min(kept or fitting, key=lambda option: option.work, default=None)
        if route == "tiled" and best is None:
            best = min(options, key=lambda option: option.floats_once + option.floats_per_map, default=None)
        if best is None:
            return None
        now = self._option(best.size, training, keeps=best.keeps_spectra, num_maps=num_maps, learning=learning)
        if route == "auto" and now.work >= self.multiply_adds(None) * num_maps:
            return None
        room = min(room, best.floats_once + _MOST_AT_ONCE // itemsize)
        return self._make(best, training, device, best.maps_within(room))

    def multiply_adds(self, plan: Plan | None) -> int:
        """Of one map, transforms included, packing and memory traffic not."""
        total = 0
        for layer, (wide_in, wide_out) in enumerate(pairwise(self._widths)):
            if plan is None:
                total += self._kernel**2 * self._side(layer + 1) ** 2 * wide_in * wide_out
                continue
            tiling = plan.tilings[layer]
            total += tiling.num_tiles * sum(tile_multiply_adds(tiling.size, self._kernel, wide_in, wide_out))
            total += sum(tiling.pairs.counts) * wide_in * wide_out
        return total

    def _side(self, layer: int) -> int:
        padding = (self._kernel - 1) * len(self._weights)
        return len(self._valid) + padding - layer * (self._kernel - 1)

    def _option(self, size: int, training: bool, *, keeps: bool, num_maps: int, learning: bool) -> _Option:
        kernel, step, products, bands = self._kernel, size - self._kernel + 1, num_products(size), size // 2 + 1
        work, kept, once, per_map, workers = 0.0, 0, 0, 0, num_workers(torch.device("cpu"), bands)
        for layer, tiling in enumerate(self._tilings_of(size, training)):
            wide_in, wide_out = self._widths[layer : layer + 2]
            pairs = wide_in * wide_out
            rows = tiling.num_tiles * num_maps + _PACKING_ROWS + (0 if keeps else _SPECTRUM_ROWS)
            multiplied, transformed = tile_multiply_adds(size, kernel, wide_in, wide_out)
            work += rows * multiplied + _TRANSFORM * tiling.num_tiles * num_maps * transformed
            work += _PAIR * sum(tiling.pairs.counts) * num_maps * pairs + bands * _BAND_OVERHEAD
            kept += products * pairs
            # The kernel and its gradient in another order, along the rows, and the spectra of a band for each worker.
            once = max(once, (1 + learning) * (kernel**2 + size * kernel + 3 * size * workers) * pairs)
            floats = (2 + learning) * size**2 * wide_in + (size + step) * step * wide_out
            per_map = max(per_map, tiling.num_tiles * (floats + 3 * size * workers * (wide_in + wide_out)))
        return _Option(size, keeps, work, once + keeps * kept, per_map)

    def _tilings_of(self, size: int, training: bool) -> list[Tiling]:
        key = (training, size)
        if key not in self._tilings:
            cells = self._cells_of(training)
            self._tilings[key] = [
                Tiling.make(before, after, self._kernel, size, least_pairs=num_products(size) * _PAIRS_PER_PRODUCT)
                for before, after in pairwise(cells)
            ]
        return self._tilings[key]

    def _cells_of(self, training: bool) -> list[Tensor]:
        if training not in self._cells:
            occupied = torch.ones_like(self._valid) if self._filled else self._valid
            self._cells[training] = working_cells(
                occupied, self._valid, self._kernel, len(self._weights), training=training
            )
        return self._cells[training]

    def _make(self, option: _Option, training: bool, device: torch.device, maps_at_once: int) -> Plan:
        cells = self._cells_of(training)
        edge = (self._side(0) - len(self._valid)) // 2
        inside = slice(edge, edge + len(self._valid))
        weights = [
            torch.cat([weight.flatten()[mask.flatten()], weight.new_zeros(1)])[:, None, None]
            for weight, mask in zip(self._weights, cells[1:], strict=True)
        ]
        return Plan(
            tilings=tuple(tiling.to(device) for tiling in self._tilings_of(option.size, training)),
            inputs=cells[0][inside, inside].flatten().nonzero()[:, 0].to(device),
            weights=tuple(weight.to(device) for weight in weights),
            outputs=self._valid[cells[-1]].nonzero()[:, 0].to(device),
            sides=tuple(self._side(layer + 1) for layer in range(len(self._weights))),
            keeps_spectra=option.keeps_spectra,
            maps_at_once=maps_at_once,
        )


@cache
def total_memory() -> int:
    """Bytes of this machine's memory; a guess where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return _MEMORY_IF_UNKNOWN
