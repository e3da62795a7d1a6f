"""Short work that takes the processor: one thread for each kind of it, and few waiting."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from mrnet.web.refusals import Busy

T = TypeVar("T")


class Turns:
    """Runs calls one at a time, in a thread of their own: among many threads, each would keep memory for them.

    The process does not wait for it at its end.

    Args:
        most_waiting: calls that may wait, the one that runs among them; more are refused.
        what: they make, for the message of the refusal.
    """

    def __init__(self, most_waiting: int, what: str) -> None:
        self._most_waiting, self._what = most_waiting, what
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"mrnet-{what}", daemon=True)
        self._waiting = 0

    async def run(self, call: Callable[[], T]) -> T:
        """What a call returns, once it had its turn.

        Raises:
            Busy: too many wait.
        """
        if self._waiting >= self._most_waiting:
            raise Busy(f"too many wait for {self._what} already; ask again soon", 2)
        if self._thread.ident is None:
            self._thread.start()
        self._waiting += 1
        try:
            result: Future[T] = Future()
            self._calls.put((call, result))
            return await asyncio.wrap_future(result)
        finally:
            self._waiting -= 1

    def _work(self) -> None:
        while True:
            call, result = self._calls.get()
            if not result.set_running_or_notify_cancel():
                continue
            try:
                made = call()
            except BaseException as error:
                result.set_exception(error)
            else:
                result.set_result(made)
