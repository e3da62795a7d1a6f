"""Who decodes on how many of the processor's cores."""

import contextlib
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar

_sharing: ContextVar[int] = ContextVar("_sharing", default=1)


def share_cores(count: int) -> None:
    """Say that ``count`` videos, that of this thread among them, are decoded at a time or soon will be."""
    _sharing.set(count)


class Cores:
    """Shares out the processor's cores: one video that is decoded alone gets all, each of many gets one.

    Threads within a decoder cost time and memory, so they are for cores that would idle.
    """

    def __init__(self, count: int) -> None:
        self._count = self._free = count
        # Entered again where garbage is collected, and with it a video given up half-way, by a thread that holds it.
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def lend(self) -> Iterator[int]:
        """This thread's share of the cores, as far as it is free; one at least."""
        with self._lock:
            count = max(min(self._count // _sharing.get(), self._free), 1)
            self._free -= count
        try:
            yield count
        finally:
            with self._lock:
                self._free += count


CORES = Cores(os.cpu_count() or 1)
