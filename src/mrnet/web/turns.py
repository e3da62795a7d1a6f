"""Short work that takes the processor: one thread for each kind of it, and few waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mrnet.web.refusals import Busy

T = TypeVar("T")


class Turns:
    """Runs calls one at a time, in a thread of their own: among many threads, each would keep memory for them.

    Args:
        most_waiting: calls that may wait, the one that runs among them; more are refused.
        what: they make, for the message of the refusal.
    """

    def __init__(self, most_waiting: int, what: str) -> None:
        self._most_waiting, self._what = most_waiting, what
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mrnet-{what}")
        self._waiting = 0

    async def run(self, call: Callable[[], T]) -> T:
        """What a call returns, once it had its turn.

        Raises:
            Busy: too many wait.
        """
        if self._waiting >= self._most_waiting:
            raise Busy(f"too many wait for {self._what} already; ask again soon", 2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        finally:
            self._waiting -= 1
