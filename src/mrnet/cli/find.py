"""``mrnet find``"""

import argparse
import json
from pathlib import Path

from mrnet.cli.common import Subparsers, positive
from mrnet.demo import DEFAULT_OUT
from mrnet.errors import CheckpointError


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "find",
        help="find the moments of a video that a sentence describes",
        description="Prints the best moments.",
    )
    parser.add_argument("video", type=Path, help="video file")
    parser.add_argument("query", help="a sentence, in quotes")
    parser.add_argument("-k", type=positive, default=5, help="how many moments (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help=f"checkpoint or training run (default: that of `mrnet demo`, {DEFAULT_OUT}/run)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    checkpoint = arguments.checkpoint or DEFAULT_OUT / "run"
    if arguments.checkpoint is None and not checkpoint.exists():
        raise CheckpointError("no checkpoint: give one with --checkpoint, or run `mrnet demo` here first")
    from mrnet.predictor import Predictor

    moments = Predictor.load(checkpoint).find(arguments.video, arguments.query, arguments.k)
    if arguments.json:
        document = {
            "video": str(arguments.video),
            "query": arguments.query,
            "moments": [moment._asdict() for moment in moments],
        }
        print(json.dumps(document, indent=2))
    else:
        for rank, moment in enumerate(moments, start=1):
            print(f"{rank}.  {moment.start_s:7.2f} s - {moment.end_s:7.2f} s   score {moment.score:.3f}")
    return 0
