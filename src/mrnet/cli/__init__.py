"""The ``mrnet`` command.

Exit status: 0 done; 1 some of the data have problems (``data check``, ``features``); 2 something is wrong
with the input, said in one line; 130 interrupted.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from tqdm import tqdm

from mrnet import __version__
from mrnet.cli import config, convert, data, demo, evaluate, features, find, train
from mrnet.cli.common import Parser
from mrnet.errors import MRNetError


class _ProgressAwareHandler(logging.Handler):
    """Writes records to standard error without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = Parser(prog="mrnet", description="Find the moment in a video that a sentence describes.")
    parser.add_argument("--version", action="version", version=f"mrnet {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (demo, find, train, evaluate, features, convert, data, config):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    handler = _ProgressAwareHandler()
    log = logging.getLogger("mrnet")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    try:
        status: int = arguments.run(arguments)
        if sys.stdout is not None:  # it is where a shell closed it, >&-
            sys.stdout.flush()
        return status
    except MRNetError as error:
        print(f"mrnet: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mrnet: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        _discard_output()
        return 1
    except OSError as error:  # a full disk, or an output that takes nothing
        print(f"mrnet: error: {error}", file=sys.stderr)
        _discard_output()
        return 2


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that Python does not fail on it once more at its exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
