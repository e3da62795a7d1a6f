"""``mrnet convert``"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Turns a released .pth and its config.yml into a folder with safetensors and JSON."
    parser.add_argument("checkpoint", type=Path, metavar="FILE.pth")
    parser.add_argument("--config", type=Path, required=True, metavar="CONFIG.yml")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrnet.weights.released import convert_checkpoint

    convert_checkpoint(arguments.checkpoint, arguments.config, arguments.out)
    print(arguments.out)
    return 0
