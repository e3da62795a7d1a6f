"""Timing two ways of doing the same."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Figures = dict[str, Any]
"""What a measurement found: name -> figure."""


def seconds(work: Callable[[], object]) -> float:
    """Time that a call takes; on a GPU, until it is done."""
    _finish()
    started = time.perf_counter()
    work()
    _finish()
    return time.perf_counter() - started


def in_turn(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Median seconds of each of several calls, which take turns.

    Args:
        repeats: rounds, after one that does not count.
        works: the calls.
    """
    for work in works:
        work()
    rounds = [[seconds(work) for work in works] for _ in range(repeats)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def relative_distance(found: Tensor, expected: Tensor) -> float:
    """Length of the difference over that of the expected values."""
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


def multiply_adds_per_second(device: torch.device) -> float:
    """Rate of this machine in float32, in a large product of matrices: the roof over all that is measured."""
    size = 2048
    a, b, out = (torch.rand(size, size, device=device) for _ in range(3))
    return size**3 / in_turn(5, lambda: torch.mm(a, b, out=out))[0]


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(rows: list[Figures]) -> str:
    """Rows as a plain table for the terminal; they have the same figures."""
    names = list(rows[0])
    cells = [names, *([_shown(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    )


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 1e-2 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
