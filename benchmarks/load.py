"""The proposal head's routes on a quiet machine, and beside a process that keeps one core busy."""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.timing import Figures, seconds
from mrnet.config.recipes import load_recipe
from mrnet.model.fast.routes import Route
from mrnet.model.head import ProposalHead
from mrnet.temporal import valid_cells

ROUTES: tuple[Route, ...] = ("dense", "tiled", "auto")
_SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


class Small(NamedTuple):
    """Sizes of the small maps."""

    clips: int
    counts: tuple[int, ...]
    width: int
    maps: int


SMALL = Small(clips=24, counts=(11, 6), width=96, maps=48)


def bench_load(recipes: Sequence[str], repeats: int, budget: int | None) -> list[Figures]:
    """Seconds of each route, quiet and beside a busy process, samples of all taking turns.

    Forward and back of 48 small maps, and of the demo's head; forward of one map of each recipe. ``others`` is how many
    cores all other processes used at the time, the busy one aside: figures count only where it is near 0. On Linux.
    """
    valid = valid_cells(SMALL.clips, list(SMALL.counts))
    small = _heads(valid, False, budget, dim=SMALL.width, hidden=SMALL.width, kernel=3, layers=3)
    rows = [_row(f"{SMALL.maps} small maps, there and back", small, SMALL.maps, repeats, _step)]
    for recipe in recipes:
        config = load_recipe(recipe).model
        heads = _heads(
            valid_cells(config.num_clips, config.pooling_counts),
            config.boundary == "concat",
            budget,
            dim=config.dim,
            hidden=config.head_hidden,
            kernel=config.head_kernel,
            layers=config.head_layers,
        )
        rows.append(_row(f"{recipe}, one map", heads, 1, repeats, _forward))
        if recipe == "demo":
            rows.append(_row(f"{recipe}, 32 maps there and back", heads, 32, repeats, _step))
    return rows


def _heads(
    valid: Tensor, filled: bool, budget: int | None, *, dim: int, hidden: int, kernel: int, layers: int
) -> dict[Route, ProposalHead]:
    """One by each route, of the same weights."""
    heads = {}
    for route in ROUTES:
        torch.manual_seed(0)
        heads[route] = ProposalHead(
            valid=valid, filled=filled, dim=dim, hidden=hidden, kernel=kernel, layers=layers, route=route,
            memory_budget=budget,
        )  # fmt: skip
    return heads


def _step(head: ProposalHead, maps: Tensor) -> None:
    head.train().zero_grad()
    iou, contrastive = head(maps.requires_grad_())
    (iou.sum() + contrastive.square().sum()).backward()


@torch.inference_mode()
def _forward(head: ProposalHead, maps: Tensor) -> None:
    head.eval()(maps)


def _row(
    name: str,
    heads: dict[Route, ProposalHead],
    num_maps: int,
    repeats: int,
    work: Callable[[ProposalHead, Tensor], None],
) -> Figures:
    dense = heads["dense"]
    maps = torch.randn(num_maps, dense.iou.out_channels, *dense.valid.shape) * dense.valid
    for head in heads.values():
        work(head, maps)
    times: dict[tuple[Route, bool], list[float]] = {
        (route, busy): [] for route in ROUTES for busy in (False, True)
    }
    others: list[float] = []
    with _busy_process() as process:
        for _ in range(repeats):
            for route, head in heads.items():
                for busy in (False, True):
                    process.send_signal(signal.SIGCONT if busy else signal.SIGSTOP)
                    before = _cpu_s_of_others(process.pid)
                    taken = seconds(partial(work, head, maps))
                    times[route, busy].append(taken)
                    others.append((_cpu_s_of_others(process.pid) - before) / taken)
    row: Figures = {"what": name}
    for route in ROUTES:
        quiet, beside = (statistics.median(times[route, busy]) for busy in (False, True))
        row |= {f"{route}_quiet_s": quiet, f"{route}_busy_s": beside, f"{route}_ratio": beside / quiet}
    return row | {"others": statistics.median(others)}


@contextlib.contextmanager
def _busy_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that spins, stopped at first; it ends with this one."""
    process = subprocess.Popen([sys.executable, "-c", _SPIN])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _cpu_s_of_others(busy: int) -> float:
    """CPU time so far of all processes but this one and a child of it."""
    everything = Path("/proc/stat").read_text(encoding="ascii").split()
    child = Path(f"/proc/{busy}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    user, nice, system, _, _, irq, softirq = map(int, everything[1:8])
    ticks = user + nice + system + irq + softirq - int(child[11]) - int(child[12])
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()
