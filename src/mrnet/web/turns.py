"""Short work that takes the processor, some at a time and few waiting."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from mrnet.web.refusals import Busy

T = TypeVar("T")


class Turns:
    """Lets calls run in threads, one at a time.

    Args:
        most_waiting: calls that may wait for their turn; more are refused.
        what: they do, for the message of the refusal.
    """

    def __init__(self, most_waiting: int, what: str) -> None:
        self._most_waiting, self._what = most_waiting, what
        self._turn = asyncio.Lock()
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
            async with self._turn:
                return await run_in_threadpool(call)
        finally:
            self._waiting -= 1
