"""The ``mrnet`` command.

Exit status: 0 done; 1 some of the data have problems (``data check``, ``features``); 2 something is wrong
with the input, said in one line; 130 interrupted.
"""

import _thread
import argparse
import importlib
import io
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from mrnet.cli.common import Parser
from mrnet.errors import MRNetError, in_a_line, ran_out_of_memory, visible
from mrnet.version import __version__

COMMANDS = {
    "find": "find the moments of a video that a sentence, written or said, describes",
    "index": "take a folder of videos into a library, or bring that up to date",
    "search": "find the moments of a library of videos that a sentence describes",
    "serve": "a page and an HTTP API, to ask videos without a terminal",
    "mcp": "serve find, search and cut to programs that talk to a language model",
    "demo": "render a small synthetic benchmark, train on it, evaluate, and write a report",
    "train": "train a model from a recipe",
    "evaluate": "score a model, or predictions made elsewhere, beside the baselines",
    "experiment": "compare settings: variants of a recipe, each trained with several seeds",
    "backbones": "list the encoders: what is here, what a name would download",
    "features": "encode videos, sentences and speech",
    "data": "check a dataset, or make one of your own videos",
    "cache": "list or remove the encoded videos that `find` keeps",
    "convert": "turn a released checkpoint into a native one",
    "export": "write a trained model as ONNX",
    "config": "say what the fields of the configuration mean",
}
"""Command -> what it does; each has a module of its name, imported when it is asked for."""


class _ProgressAwareHandler(logging.Handler):
    """Writes records to standard error without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        line = self.format(record)
        tqdm.write(line if record.exc_info else visible(line), file=sys.stderr)


def build_parser(commands: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        commands: those whose arguments are wanted; of the others only the name and what they do are known.
    """
    parser = Parser(prog="mrnet", description="Find the moment in a video that a sentence describes.")
    parser.add_argument("--version", action="version", version=f"mrnet {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if name in commands:
            importlib.import_module(f"mrnet.cli.{name}").add_arguments(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    _let_all_letters_pass()
    log = logging.getLogger("mrnet")
    log.handlers = [_ProgressAwareHandler()]
    log.setLevel(logging.INFO)
    try:
        with _interrupts_kept():
            asked = [word for word in argv if word in COMMANDS][:1]
            arguments = build_parser(asked).parse_args(argv)
            status: int = arguments.run(arguments)
        if sys.stdout is not None:  # it is where a shell closed it, >&-
            sys.stdout.flush()
        return status
    except MRNetError as error:
        print(f"mrnet: error: {in_a_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mrnet: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        _discard_output()
        return 1
    except OSError as error:  # a full disk, or an output that takes nothing
        print(f"mrnet: error: {in_a_line(str(error))}", file=sys.stderr)
        _discard_output()
        return 2
    except Exception as error:
        if _was_interrupted(error):
            print("mrnet: interrupted", file=sys.stderr)
            return 130
        if not ran_out_of_memory(error):
            raise
        print("mrnet: error: there is not enough memory for this: free some, or ask for less", file=sys.stderr)
        return 2


def _let_all_letters_pass() -> None:
    """Write letters that a terminal lacks, and bytes of names that are no letters, as escapes: failing to print what
    is found would lose it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether a Ctrl-C is behind an error: Python 3.11 makes another of it where a class of a library is defined."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _interrupt_soon() -> None:
    time.sleep(0.01)
    _thread.interrupt_main()


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Python drops a Ctrl-C that comes during a callback of its garbage collector; here it comes anew soon after."""
    usual = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            usual(unraisable)
            return
        while True:
            try:
                _thread.start_new_thread(_interrupt_soon, ())
                return
            except KeyboardInterrupt:
                pass  # on a busy machine it may come before this has ended, and would be dropped here too

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that Python does not fail on it once more at its exit."""
    with suppress(io.UnsupportedOperation, AttributeError):  # it is in memory, or there is none
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
