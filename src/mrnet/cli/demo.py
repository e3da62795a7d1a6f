"""``mrnet demo``"""

import argparse
from pathlib import Path

from mrnet.cli.common import add_set
from mrnet.demo import DEFAULT_OUT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Renders a small SYNTHETIC benchmark of real .mp4 files, extracts features from the decoded "
        "pixels, trains a small MRNet from scratch, evaluates it beside the baselines and answers a typed "
        "query. Needs no download and no GPU. Run again after an interruption, it goes on where it stopped."
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the benchmark and the training (default: 0)")
    add_set(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrnet.demo.story import run_demo

    print(run_demo(arguments.out, arguments.seed, arguments.overrides))
    return 0
