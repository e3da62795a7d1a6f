"""Where networks run: on which device, and on how many threads of a processor."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TypeVar, cast

import torch

from mrnet.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")


def choose_device(device: str | None) -> torch.device:
    """The device of this name; if left out CUDA where there is one, then MPS, then the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used here ({said}); use another, cpu for one") from None


def num_workers(device: torch.device, count: int) -> int:
    """Threads for :func:`side_by_side` to divide so many items among: as many as torch has in this thread.

    Args:
        device: where the items' tensors are; one thread keeps any but a processor busy.
        count: of items.
    """
    return max(min(torch.get_num_threads(), count), 1) if device.type == "cpu" else 1


def side_by_side(work: Callable[[int, T], R], items: Sequence[T], workers: int) -> list[R]:
    """Do items on single threads next to each other, not one after the other on all of torch's threads.

    Threads that divide an operation wait for each other at its end, and long for one whose core has other work; where
    operations are short, most of the time goes into that. Here they wait once, when no item is left. Torch's threads
    are divided here alone, so that no more of them run than torch was told to have. Which thread does an item does
    not change its result.

    Args:
        work: called with the number of a worker and an item. A worker does one item at a time; its torch operations
            have an equal part of this thread's torch threads, and this thread's gradient and inference modes.
        items: taken in order.
        workers: from :func:`num_workers`.

    Returns:
        what each item gave.
    """
    if workers == 1:
        return [work(0, item) for item in items]
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    results: list[R | None] = [None] * len(items)
    todo = iter(range(len(items)))  # whose next is atomic

    def work_through(worker: int) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            for index in todo:
                results[index] = work(worker, items[index])

    pool = _pool(workers, torch.get_num_threads() // workers)
    running = [pool.submit(work_through, worker) for worker in range(workers)]
    wait(running)
    for one in running:
        one.result()
    return cast(list[R], results)


@lru_cache(maxsize=8)
def _pool(count: int, threads: int) -> ThreadPoolExecutor:
    """Threads whose torch operations have so many threads each."""
    whole, all_here = torch.get_num_threads(), threading.Barrier(count)

    def start() -> None:
        torch.get_num_threads()  # which a thread sets for itself when it first asks
        torch.set_num_threads(threads)

    pool = ThreadPoolExecutor(count, "mrnet", initializer=start)
    wait([pool.submit(all_here.wait) for _ in range(count)])
    torch.set_num_threads(whole)  # of this thread, and of all that start later, as those above have set it too
    return pool


if hasattr(os, "register_at_fork"):  # a child has the pools but not their threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
