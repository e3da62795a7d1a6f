"""A command in a process of its own that something happens to at a chosen step, as whoever runs it would see it.

A step is anything that the command does to files below a folder: opening one to write, making, renaming, removing.
Each is announced to the process before it is done, so that the fault comes between two of them, at every one in turn.
"""

import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mrnet.cli import main

_LIMIT_S = 120
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STEPS = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"})

Fault = Callable[[int], None]
"""Called before each step with its number, from 0 on."""


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        status: of its exit; ``None`` where it was killed, for it took too long perhaps.
        err: what it printed on standard error.
    """

    status: int | None
    err: str

    def is_refusal(self) -> bool:
        """Whether it ended with one line of what is wrong, after warnings perhaps, and without a traceback."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("mrnet: error: ")]
        return self.status == 2 and errors == lines[-1:] and "Traceback" not in self.err


class Running:
    """A command under way, in a process forked off this one."""

    def __init__(
        self, words: list[str], folder: Path, fault: Fault | None = None, limits: dict[int, int] | None = None
    ) -> None:
        self._err, theirs = os.pipe()  # no file, which a limit on files would cut off
        self.pid = os.fork()
        if not self.pid:
            _be(words, folder, fault, limits or {}, theirs)
        os.close(theirs)

    def stopped(self) -> bool:
        """Wait until it has stopped itself; False where it came to its end before."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self._ended = status
        return False

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    _ended: int | None = None

    def outcome(self) -> Outcome:
        """Wait for its end, which is made for it when the time is up."""
        watch = threading.Timer(_LIMIT_S, os.kill, (self.pid, signal.SIGKILL))
        watch.start()
        with os.fdopen(self._err, errors="replace") as said:
            err = said.read()
        ended = self._ended if self._ended is not None else os.waitpid(self.pid, 0)[1]
        watch.cancel()
        return Outcome(None if os.WIFSIGNALED(ended) else os.waitstatus_to_exitcode(ended), err)


def kill_at(step: int) -> Fault:
    """Ended by the system, as for want of memory or of power, before this step."""

    def fault(number: int) -> None:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


def stop_at(step: int) -> Fault:
    def fault(number: int) -> None:
        if number == step:
            os.kill(os.getpid(), signal.SIGSTOP)

    return fault


def fail_from(step: int, number_of_error: int) -> Fault:
    """From this step on no step can be done: the disk is full, the folder may not be written."""

    def fault(number: int) -> None:
        if number >= step:
            raise OSError(number_of_error, os.strerror(number_of_error))

    return fault


def _be(words: list[str], folder: Path, fault: Fault | None, limits: dict[int, int], err: int) -> None:
    """Become the command; does not return."""
    status = 70
    with contextlib.suppress(BaseException):
        os.dup2(err, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.chdir(folder)
        torch.set_num_threads(1)
        for kind, most in limits.items():
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
        if fault is not None:
            sys.addaudithook(_counting(folder.resolve(), fault))
        status = _status(words)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _status(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 70


def _counting(folder: Path, fault: Fault) -> Callable[[str, tuple[Any, ...]], None]:
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        is_step = event in _STEPS or (event == "open" and bool((arguments[2] or 0) & _WRITES))
        if is_step and _is_below(arguments[0], folder):
            number, count = count, count + 1
            fault(number)

    return hook


def _is_below(path: Any, folder: Path) -> bool:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(str(folder))  # noqa: PTH100
