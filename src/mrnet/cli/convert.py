"""``mrnet convert``"""

import argparse
from pathlib import Path

from mrnet.cli.common import Subparsers


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "convert",
        help="turn a released checkpoint into a native one",
        description="Turns a released .pth and its config.yml into a folder with safetensors and JSON.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="FILE.pth")
    parser.add_argument("--config", type=Path, required=True, metavar="CONFIG.yml")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrnet.weights.released import convert_checkpoint

    convert_checkpoint(arguments.checkpoint, arguments.config, arguments.out)
    print(arguments.out)
    return 0
