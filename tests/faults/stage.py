"""A job in a process of its own that something happens to at a chosen step, as whoever runs it would see it.

A step is anything that the job does to files below its folder: opening one to write, making, renaming, removing. Each
is announced to the process before it is done, so that the fault comes between two of them, at every one in turn. Python
announces its own; what LanceDB and SQLite do is announced here, a call or a changed row a step.
"""

import contextlib
import functools
import os
import resource
import sys
import threading
import traceback
from collections.abc import Callable
from ctypes import c_longlong
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from signal import SIGCONT, Signals
from typing import Any

from mrnet.features.cache import FOLDER_VARIABLE
from mrnet.web.records import Records
from tests.faults.jobs import Job
from tests.forks import FORKS

_LIMIT_S = 120
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STEPS = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"})
_ANNOUNCED = "tests.faults.step"
_OF_TABLES = ("add", "delete", "_do_merge", "create_index", "optimize")


@dataclass(frozen=True)
class Fault:
    """What happens at a step, and at all that follow.

    Attributes:
        step: which, from 0 on.
        signal: that the process gets before it: ended, as for want of power, or stopped for a while.
        error: number of the error that is all that comes of a step: the disk is full, the folder may not be written.
    """

    step: int
    signal: Signals | None = None
    error: int | None = None

    def strike(self, number: int) -> None:
        """Called before each step with its number.

        Raises:
            OSError: as said.
        """
        if self.signal is not None and number == self.step:
            os.kill(os.getpid(), self.signal)
        if self.error is not None and number >= self.step:
            raise OSError(self.error, os.strerror(self.error))


@dataclass(frozen=True)
class Limits:
    """What the system grants.

    Attributes:
        file_bytes: size of any file.
        more_bytes: of memory, beside what the process has when it begins.
    """

    file_bytes: int | None = None
    more_bytes: int | None = None

    def take_effect(self) -> None:
        """From here on, in this process."""
        if self.file_bytes is not None:
            _limit(resource.RLIMIT_FSIZE, self.file_bytes)
        if self.more_bytes is not None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            _limit(resource.RLIMIT_AS, used + self.more_bytes)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        status: of its exit; ``None`` where it was killed, for it took too long perhaps.
        err: what it printed on standard error.
        steps: how many there were.
    """

    status: int | None
    err: str
    steps: int

    def is_refusal(self) -> bool:
        """Whether it ended with one line of what is wrong, after warnings perhaps, and without a traceback."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("mrnet: error: ")]
        return self.status == 2 and errors == lines[-1:] and "Traceback" not in self.err


class Running:
    """A job under way."""

    def __init__(self, job: Job, fault: Fault | None = None, limits: Limits | None = None) -> None:
        self._said, err = FORKS.Pipe(duplex=False)  # no file, which a limit on files would cut off
        self._steps = FORKS.RawValue("q")
        self._process = FORKS.Process(
            target=_be, args=(job, job.words, fault, limits or Limits(), err, self._steps), daemon=True
        )
        self._process.start()
        err.close()

    def go_on(self) -> None:
        """After it was stopped."""
        assert self._process.pid is not None
        os.kill(self._process.pid, SIGCONT)

    def stopped(self) -> bool:
        """Wait until it has stopped itself; False where it came to its end before."""
        state = Path(f"/proc/{self._process.pid}/stat")
        while self._process.is_alive():
            with contextlib.suppress(FileNotFoundError):
                if state.read_text().rpartition(")")[2].split()[0] == "T":
                    return True
            self._process.join(0.02)
        return False

    def outcome(self) -> Outcome:
        """Wait for its end, which is made for it when the time is up."""
        watch = threading.Timer(_LIMIT_S, self._process.kill)
        watch.start()
        with os.fdopen(os.dup(self._said.fileno()), errors="replace") as said:
            err = said.read()
        self._process.join()
        watch.cancel()
        status = self._process.exitcode
        assert status is not None
        return Outcome(None if status < 0 else status, err, self._steps.value)


def _be(
    job: Job, words: list[str], fault: Fault | None, limits: Limits, err: Connection, steps: c_longlong
) -> None:
    """Become the job; does not return."""
    status = 70
    with contextlib.suppress(BaseException):
        os.dup2(err.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.environ[FOLDER_VARIABLE] = str(job.folder / "cache")
        os.chdir(job.folder)
        _announce_tables()
        _announce_records()
        limits.take_effect()
        sys.addaudithook(_counting(job.folder.resolve(), fault, steps))
        status = _status(job, words)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _status(job: Job, words: list[str]) -> int:
    try:
        return job.run(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 70


def _limit(kind: int, most: int) -> None:
    resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def _counting(folder: Path, fault: Fault | None, steps: c_longlong) -> Callable[[str, tuple[Any, ...]], None]:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        is_change = event in _STEPS or (event == "open" and bool((arguments[2] or 0) & _WRITES))
        if event == _ANNOUNCED or (is_change and _is_below(arguments[0], folder)):
            number, steps.value = steps.value, steps.value + 1
            if fault is not None:
                fault.strike(number)

    return hook


def _announce_tables() -> None:
    """LanceDB writes from Rust."""
    from lancedb.db import LanceDBConnection
    from lancedb.table import LanceTable

    for owner, names in ((LanceDBConnection, ("create_table",)), (LanceTable, _OF_TABLES)):
        for name in names:
            setattr(owner, name, _announced(getattr(owner, name)))


def _announced(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def announced(*arguments: Any, **named: Any) -> Any:
        sys.audit(_ANNOUNCED)
        return call(*arguments, **named)

    return announced


def _announce_records() -> None:
    """SQLite says in the midst of a statement that it is about to change a row."""
    usual = Records.__init__

    def opened(records: Records, path: Path) -> None:
        usual(records, path)
        records._db.create_function("step", 0, lambda: sys.audit(_ANNOUNCED))
        for table in ("videos", "jobs"):
            for change in ("INSERT", "UPDATE", "DELETE"):
                records._db.execute(
                    f"CREATE TEMP TRIGGER {table}_{change} BEFORE {change} ON main.{table} BEGIN SELECT step(); END"
                )

    Records.__init__ = opened  # type: ignore[method-assign]


def _is_below(path: Any, folder: Path) -> bool:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(str(folder))  # noqa: PTH100
