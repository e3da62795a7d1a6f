"""One case, and what must be true of its outcome, whatever it is."""

import contextlib
import io
import math
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrnet.cli import main

LIMIT_S = 20
"""Longer than any case may take; most take some hundredths."""


@dataclass
class Case:
    """A command on hostile input, or whatever else is to be judged as one.

    Attributes:
        words: of the command line.
        outputs: names of what it may make in its folder where it succeeds.
        refused: whether success would be wrong; ``False`` where that depends on what chance has made of the input.
        printed: whether it may print what it has found before it refuses to write it to a file.
        check: looks at what a command that succeeded has printed and made; raises ``AssertionError``.
        partly: whether that is looked at after exit status 1 too, which says that some of the input was left out.
        mended: whether a refusal may come after some of its outputs are mended: it need not leave everything as it was.
        run: in place of a command, what gives an exit status.
    """

    words: list[str]
    outputs: tuple[str, ...] = ()
    refused: bool = False
    printed: bool = False
    check: Callable[[str], None] = field(default=lambda _: None)
    partly: bool = False
    mended: bool = False
    run: Callable[[], int] | None = None


class HangError(BaseException):
    """The time is up."""


def judge(case: Case, folder: Path) -> str:
    """What is wrong with the outcome of a case, in a line; empty if nothing is.

    Args:
        case: the command.
        folder: the working folder, with its input.
    """
    before = tree(folder)
    out, err = Terminal(), Terminal()
    try:
        with time_limit(LIMIT_S), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command(case.words) if case.run is None else case.run()
    except HangError:
        return "hang"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"traceback: {type(error).__name__} at {Path(frame.filename).name}:{frame.name}: {str(error)[:100]!r}"
        )
    printed, told = out.text(), err.text()
    after = tree(folder)
    lost = [
        name for name, content in before.items() if after.get(name) != content and not made(name, case.outputs)
    ]
    if lost:
        return f"lost or changed: {lost[0]}"
    errors = [line for line in told.splitlines() if line.startswith(("mrnet: error: ", "mrnet "))]
    if status == 2:
        left = sorted(after.keys() - before.keys())
        if left and not (case.mended and all(made(name, case.outputs) for name in left)):
            return f"left behind by a refusal: {left[0]}"
        if len(errors) != 1 or (printed and not case.printed) or not told.endswith(errors[0] + "\n"):
            return f"a refusal of {len(told.splitlines())} lines: {told[:200]!r}"
        return "a refusal of too many letters" if len(errors[0]) > 2000 else ""
    if status not in (0, 1):
        return f"status {status}"
    if errors:
        return f"status {status} with an error: {errors[0][:200]!r}"
    new = [name for name in after.keys() - before.keys() if not made(name, case.outputs)]
    if new:
        return f"left behind: {sorted(new)[0]}"
    if status == 0 and case.refused:
        return "accepted"
    if status == 0 or case.partly:
        try:
            case.check(printed)
        except Exception as error:
            return f"accepted, and yet {type(error).__name__}: {str(error)[:150]!r}"
    return ""


def command(words: list[str]) -> int:
    """Exit status of the command."""
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink()
    }


def made(name: str, outputs: tuple[str, ...]) -> bool:
    return any(name == output or name.startswith(f"{output}/") for output in outputs)


def all_finite(value: Any) -> bool:
    """Whether no number in nested lists and objects is NaN or infinite."""
    if isinstance(value, dict):
        return all(map(all_finite, value.values()))
    if isinstance(value, list):
        return all(map(all_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


class Terminal(io.TextIOWrapper):
    """Takes what is printed, as strictly as a terminal does."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined, no-any-return]


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises :class:`HangError` in the block when the time is up; deaf code is for whoever runs this process to end."""

    def up(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
