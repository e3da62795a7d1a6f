"""The extraction pipeline of one machine: threads prepare sources, the caller's thread encodes batches."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np

from mrnet.errors import MRNetError, VideoCutOffError
from mrnet.features.backbone import Backbone, Rows, join_rows
from mrnet.media.cores import share_cores

Source = str | Path
Outcome = Rows | str
"""The rows of a source, or why there are none."""
Outcomes = Generator[tuple[str, Outcome], None, None]
"""Id and outcome of each source, in the order they come to be known."""

# How often a thread that waits looks whether to stop, and how long the end waits for threads at work.
_POLL_S, _GRACE_S = 0.1, 1.0


@dataclass(slots=True)
class _Event:
    """What a thread tells of a source: an input, or that there are no more, and why if something failed."""

    source_id: str
    item: Any = None
    ends: bool = False
    error: Exception | None = None


@dataclass(slots=True)
class _State:
    """A source under way: its rows and room for more, how many of its inputs are in the batch, whether more come."""

    rows: Rows | None = None
    count: int = 0
    waiting: int = 0
    ended: bool = False
    reason: str = ""

    def take(self, rows: Rows) -> None:
        """Keep rows in one piece: many small ones, made between batches, would break up the memory that those need."""
        total = self.count + len(rows)
        if self.rows is None or total > len(self.rows):
            kept, self.rows = self.rows, np.empty((2 * total, rows.shape[1]), np.float32)
            if kept is not None:
                self.rows[: self.count] = kept[: self.count]
        self.rows[self.count : total] = rows
        self.count = total

    def outcome(self, backbone: Backbone) -> Outcome:
        if self.reason:
            return self.reason
        if self.rows is None:
            return "there is nothing in it to encode"
        return join_rows(backbone.kind, [self.rows[: self.count]])


def encode_all(
    sources: Mapping[str, Source],
    backbone: Backbone,
    workers: int,
    *,
    take_cut_off: bool = False,
    watch: Callable[[str, int], None] | None = None,
) -> Outcomes:
    """Encode sources; batches are filled across them, and one that fails stops no other.

    Memory does not grow with the length of a source, its rows aside.

    Args:
        sources: id -> file or sentence, started in this order.
        backbone: the encoder.
        workers: number of threads.
        take_cut_off: whether of a video that ends before its time there are the rows up to there, and no failure.
        watch: is told, several times a second, how many rows there are of which source; what it raises ends everything.

    Raises:
        MemoryError: as it says.
    """
    states = {source_id: _State() for source_id in sources}
    batch: list[tuple[str, Any]] = []
    running = len(sources)
    with _Preparation(sources, backbone.prepare, workers, ahead=workers + backbone.batch_size) as preparation:
        while running:
            event = preparation.next()
            if event is None:
                if watch is not None:
                    for source_id, state in states.items():
                        watch(source_id, state.count)
                continue
            state = states[event.source_id]
            touched = [event.source_id]
            if isinstance(event.error, MemoryError):
                raise event.error
            if event.ends:
                running -= 1
                state.ended = True
                some = (
                    take_cut_off and isinstance(event.error, VideoCutOffError) and (state.count or state.waiting)
                )
                if event.error is not None and not some:
                    state.reason = _reason(event.error)
            else:
                state.waiting += 1
                batch.append((event.source_id, event.item))
            if len(batch) == backbone.batch_size or not running:
                for source_id, outcome in _encode(backbone, batch):
                    touched.append(source_id)
                    states[source_id].waiting -= 1
                    if isinstance(outcome, str):
                        states[source_id].reason = outcome
                        preparation.drop(source_id)
                    else:
                        states[source_id].take(outcome)
                batch = []
            for source_id in dict.fromkeys(touched):
                state = states[source_id]
                if watch is not None:
                    watch(source_id, state.count)
                if state.ended and not state.waiting:
                    del states[source_id]
                    yield source_id, state.outcome(backbone)


def _encode(backbone: Backbone, batch: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Outcome]]:
    """Rows of each input, or why it has none: if a batch fails, its sources are tried one by one."""
    try:
        encoded = backbone.encode([item for _, item in batch]) if batch else []
        outcomes = [(source_id, rows) for (source_id, _), rows in zip(batch, encoded, strict=True)]
    except MemoryError:
        raise
    except Exception as error:
        by_source = [list(inputs) for _, inputs in groupby(sorted(batch, key=itemgetter(0)), itemgetter(0))]
        if len(by_source) > 1:
            for inputs in by_source:
                yield from _encode(backbone, inputs)
        else:
            yield from ((source_id, _reason(error)) for source_id, _ in batch)
    else:
        yield from outcomes


def _reason(error: Exception) -> str:
    """Why a source failed: our own errors say it themselves, of others the kind helps too."""
    if isinstance(error, MRNetError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _Preparation:
    """Threads that prepare sources and queue what there is to encode, up to a number of inputs ahead."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        prepare: Callable[[Source], Iterator[Any]],
        workers: int,
        ahead: int,
    ) -> None:
        self._todo = deque(sources.items())
        self._prepare = prepare
        self._events: queue.Queue[_Event] = queue.Queue(ahead)
        self._dropped: set[str] = set()
        self._left, self._lock = len(sources), threading.Lock()  # sources that have not ended
        self._stop = threading.Event()
        # Daemons: one that is deep in a decoder must not hold up the end of the process.
        count = min(workers, len(sources))
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline_s = time.monotonic() + _GRACE_S
        for thread in self._threads:
            thread.join(max(deadline_s - time.monotonic(), 0.0))

    def next(self) -> _Event | None:
        """The next event; ``None`` where there is none yet, to look after other things."""
        try:
            return self._events.get(timeout=_POLL_S)
        except queue.Empty:
            return None

    def drop(self, source_id: str) -> None:
        """No more inputs of this source are wanted."""
        self._dropped.add(source_id)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                source_id, source = self._todo.popleft()
            except IndexError:
                return
            share_cores(min(len(self._threads), self._left))
            error = None
            try:
                for item in self._prepare(source):
                    if source_id in self._dropped or not self._put(_Event(source_id, item)):
                        break
            except Exception as caught:
                error = caught
            with self._lock:
                self._left -= 1
            self._put(_Event(source_id, ends=True, error=error))

    def _put(self, event: _Event) -> bool:
        """Queue an event; False if it is time to stop."""
        while not self._stop.is_set():
            try:
                self._events.put(event, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False
