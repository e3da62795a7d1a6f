"""What processes give each other, in two processes."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from mrnet.training.distributed import all_reduce, gather, gather_moments


def _run(rank: int, work: Any, rendezvous: str, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        results[rank] = work(rank)
    finally:
        dist.destroy_process_group()


def in_two_processes(work: Any, folder: Path) -> list[Any]:
    """What a function of the rank gives in each of two processes."""
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    with context.Manager() as manager:
        results = manager.dict()
        processes = [
            context.Process(target=_run, args=(rank, work, str(folder / "rendezvous"), results)) for rank in (0, 1)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        return [results[0], results[1]]


def _sum(rank: int) -> list[list[float]]:
    x = torch.tensor([1.0, 2.0]) * (rank + 1)
    x.requires_grad_()
    total = all_reduce(x)
    (total * torch.tensor([1.0, 10.0]) * (rank + 1)).sum().backward()
    assert x.grad is not None
    return [total.tolist(), x.grad.tolist()]


def test_a_sum_and_its_gradient_are_of_both(tmp_path: Path) -> None:
    # Either total is 1 + 2 times the values; the loss weighs it by 1 in one process and by 2 in the other.
    assert in_two_processes(_sum, tmp_path) == [[[3.0, 6.0], [3.0, 30.0]]] * 2


def _gather(rank: int) -> list[Any]:
    rows = torch.full((rank + 1, 2), float(rank))
    rows.requires_grad_()
    found = gather(rows)
    (found.sum() * (rank + 1)).backward()
    assert rows.grad is not None
    return [found.tolist(), gather(torch.tensor([rank, rank])).tolist(), rows.grad.tolist()]


def test_rows_are_gathered_in_order_of_process(tmp_path: Path) -> None:
    first, second = in_two_processes(_gather, tmp_path)
    rows = [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
    assert first == [rows, [0, 0, 1, 1], [[3.0, 3.0]]]
    assert second == [rows, [0, 0, 1, 1], [[3.0, 3.0], [3.0, 3.0]]]


def _moments(rank: int) -> list[Any]:
    return gather_moments(torch.arange(2.0 * (rank + 1)).view(1, rank + 1, 2) + 10 * rank).tolist()


def test_moments_are_padded_to_the_widest_of_both(tmp_path: Path) -> None:
    expected = [[[0.0, 1.0], [0.0, 1.0]], [[10.0, 11.0], [12.0, 13.0]]]
    assert in_two_processes(_moments, tmp_path) == [expected, expected]
