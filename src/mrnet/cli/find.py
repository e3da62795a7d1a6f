"""``mrnet find``"""

import argparse
import json
from pathlib import Path

from mrnet.cli.common import add_encoder, add_memory_budget, positive
from mrnet.demo import DEFAULT_RUNS
from mrnet.errors import CheckpointError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Prints the best moments."
    parser.add_argument("video", type=Path, help="video file")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("query", nargs="?", help="a sentence, in quotes")
    asked.add_argument(
        "--speech", type=Path, metavar="FILE", help="in its place, a sound file of someone saying it"
    )
    parser.add_argument("-k", type=positive, default=5, help="how many moments (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help=f"checkpoint or training run (default: that of `mrnet demo`, {DEFAULT_RUNS['text']} or, with --speech, "
        f"{DEFAULT_RUNS['speech']})",
    )
    add_encoder(parser)
    add_memory_budget(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    checkpoint = arguments.checkpoint or DEFAULT_RUNS["text" if arguments.speech is None else "speech"]
    if arguments.checkpoint is None and not checkpoint.exists():
        raise CheckpointError("no checkpoint: give one with --checkpoint, or run `mrnet demo` here first")
    from mrnet.predictor import Predictor

    predictor = Predictor.load(checkpoint, trusted=arguments.encoders, memory_budget=arguments.memory_budget)
    moments = predictor.find(arguments.video, arguments.query, arguments.k, speech=arguments.speech)
    if arguments.json:
        document = {
            "video": str(arguments.video),
            "query": arguments.query if arguments.speech is None else str(arguments.speech),
            "moments": [moment._asdict() for moment in moments],
        }
        print(json.dumps(document, indent=2))
    else:
        for rank, moment in enumerate(moments, start=1):
            print(f"{rank}.  {moment.start_s:7.2f} s - {moment.end_s:7.2f} s   score {moment.score:.3f}")
    return 0
