"""How far long work has come: a bar on a terminal, elsewhere a line at most every half minute.

Both are drawn when something is done, in the thread that does it: with no thread of their own there is none that
cannot begin for want of memory, for which Python would wait for ever.
"""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, NoReturn, Self, TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)

EVERY_S = 30.0
"""Least seconds between two lines, where there is no terminal."""

T = TypeVar("T")


class Progress:
    """Counts work, for the person who waits.

        with Progress(len(videos), "encoding", "video") as progress:
            for video in videos:
                ...
                progress.update()

    Args:
        total: how much there is to do; ``None`` where only :meth:`reach` will say, before which nothing is shown.
        what: the work, as in ``"training"``.
        unit: of which there are ``total``.
        quiet: say nothing, as all but one of several processes do.
    """

    def __init__(self, total: int | None, what: str, unit: str, *, quiet: bool = False) -> None:
        self._what, self._unit, self._quiet = what, unit, quiet
        self._bar: tqdm[NoReturn] | None = None
        self._total, self._done, self._notes = 0, 0, ""
        if total is not None:
            self._begin(total)

    def _begin(self, total: int) -> None:
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        if is_terminal and not self._quiet:
            self._bar = tqdm(total=total, desc=self._what, unit=self._unit, leave=False)
        self._total, self._started_s = total, time.monotonic()
        self._next_s = inf if self._quiet or is_terminal else self._started_s + EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def update(self, **notes: Any) -> None:
        """One more is done.

        Args:
            notes: shown beside the count, such as ``epoch=3``.
        """
        if notes:
            self._notes = ", ".join(f"{name} {value}" for name, value in notes.items())
        self._show(self._done + 1)

    def reach(self, done: float, total: float) -> None:
        """So much is done by now, of so much."""
        if not total:
            return
        if not self._total:
            self._begin(max(round(total), 1))
        self._show(round(done))

    def _show(self, done: int) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._notes, refresh=False)
            self._bar.update(done - self._done)
        self._done = done
        if time.monotonic() >= self._next_s:
            log.info("%s", self.line())
            self._next_s = time.monotonic() + EVERY_S
        if done >= self._total:
            self._close()

    def line(self) -> str:
        """``"training: 120 of 480 steps, 2.5 steps/s, 0:02:24 left, epoch 3"``"""
        passed_s = max(time.monotonic() - self._started_s, 1e-9)
        rate = self._done / passed_s
        left = _clock((self._total - self._done) / rate) if self._done else "?"
        speed = f"{rate:.3g} {self._unit}s/s" if rate >= 1 or not rate else f"{1 / rate:.3g} s a {self._unit}"
        notes = f", {self._notes}" if self._notes else ""
        return f"{self._what}: {self._done} of {self._total} {self._unit}s, {speed}, {left} left{notes}"


def track(items: Iterable[T], total: int, what: str, unit: str) -> Iterator[T]:
    """The items, counted as they are done; arguments as of :class:`Progress`."""
    with Progress(total, what, unit) as progress:
        for item in items:
            yield item
            progress.update()


def _clock(seconds: float) -> str:
    minutes, whole = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{whole:02d}"
