"""Many cases in processes of their own, so that one that hangs or brings its process down is told like any other."""

import os
import resource
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import torch

from mrnet.features.cache import FOLDER_VARIABLE
from tests.forks import FORKS
from tests.fuzz.inputs import Inputs
from tests.fuzz.judge import LIMIT_S, judge
from tests.fuzz.kinds import KINDS

# Of address space; a command of these tests needs less than half.
_MEMORY = 12 * 2**30

Numbered = tuple[str, int]
"""Kind and number of a case."""


def faults(inputs: Inputs, cases: Sequence[Numbered], seed: int) -> Iterator[tuple[Numbered, str]]:
    """Every case with what is wrong with its outcome, as they are done; empty where nothing is.

    Args:
        inputs: what is spoilt.
        cases: which.
        seed: with a case's kind and number, all that it depends on.
    """
    left = list(cases)
    while left:
        ours, theirs = FORKS.Pipe(duplex=False)
        cache = os.environ[FOLDER_VARIABLE]
        process = FORKS.Process(target=_work, args=(theirs, inputs, left, seed, cache), daemon=True)
        process.start()
        theirs.close()
        while left:
            told = None
            try:
                if ours.poll(2 * LIMIT_S):
                    told = ours.recv()
            except EOFError:
                told = None
            if told is None:
                hung = process.is_alive()
                process.kill()
                process.join()
                told = "hang, deaf to signals" if hung else f"the process ended with {process.exitcode}"
                yield left.pop(0), told
                break
            yield left.pop(0), told
        process.join(1)
        process.kill()
        ours.close()


def one(inputs: Inputs, case: Numbered, seed: int) -> str:
    """What is wrong with the outcome of a case, run in this process."""
    kind, number = case
    random = Random(f"{seed} {kind} {number}")
    with tempfile.TemporaryDirectory(prefix="mrnet-fuzz-") as name:
        before = Path.cwd()
        os.chdir(name)
        try:
            made = KINDS[kind](inputs, Path(name), random)
            return judge(made, Path(name))
        finally:
            os.chdir(before)


def _work(told: Connection, inputs: Inputs, cases: Sequence[Numbered], seed: int, cache: str) -> None:
    os.environ[FOLDER_VARIABLE] = cache
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    for case in cases:
        told.send(one(inputs, case, seed))
    told.close()
    time.sleep(0.05)
