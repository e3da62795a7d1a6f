"""The longer run: ``python -m tests.fuzz --cases 10000``, and one case again: ``python -m tests.fuzz stores 17``."""

import argparse
import os
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

from tests.fuzz.inputs import Inputs
from tests.fuzz.kinds import KINDS
from tests.fuzz.pool import faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Hostile input of every kind.")
    parser.add_argument("kind", nargs="?", choices=[*KINDS, []], help="only these")
    parser.add_argument("number", nargs="?", type=int, help="only this one")
    parser.add_argument("--cases", type=int, default=1000, help="how many, over all kinds (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first of each kind (default: 0)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = [arguments.kind] if arguments.kind else list(KINDS)
    count = 1 if arguments.number is not None else -(-arguments.cases // len(kinds))
    first = arguments.first if arguments.number is None else arguments.number
    cases = [(kind, first + number) for number in range(count) for kind in kinds]
    found: Counter[str] = Counter()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mrnet-fuzz-inputs-") as folder:
        os.environ["MRNET_CACHE"] = str(Path(folder) / "cache")
        inputs = Inputs.make(Path(folder))
        for (kind, number), fault in islice(faults(inputs, cases, arguments.seed), len(cases)):
            if fault:
                found[fault] += 1
                print(f"{kind} {number}: {fault}", flush=True)
    print(
        f"{len(cases)} cases in {time.monotonic() - started:.0f} s, {sum(found.values())} faults of {len(found)} sorts"
    )
    return 1 if found else 0


raise SystemExit(main())
