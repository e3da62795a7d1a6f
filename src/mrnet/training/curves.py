"""Training curves, as TensorBoard reads them."""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from mrnet.files import make_directory


class Curves:
    """Values by epoch, written by the thread that trains.

    ``tensorboardX.SummaryWriter`` has two threads for this, for which it waits for ever where there is no memory for
    them to begin in.

    Args:
        folder: of the files, one a run or its resumption; made where it is not there.
        first: epoch to come; values of it and later ones that are there already no longer count.
    """

    def __init__(self, folder: Path, first: int) -> None:
        make_directory(folder)
        self._events = EventsWriter(str(folder / "events"), f".{first:04d}")
        self._events.write_event(Event(step=first, session_log=SessionLog(status=SessionLog.START)))

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Name -> value, which are read from now on."""
        for name, value in values.items():
            self._events.write_event(Event(step=epoch, wall_time=time.time(), summary=scalar(name, value)))
        self._events.flush()

    def close(self) -> None:
        """No more to come."""
        self._events.close()
