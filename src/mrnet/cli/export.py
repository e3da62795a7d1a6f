"""``mrnet export``"""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes a trained model as ONNX, for `mrnet find --runtime onnx` and for programs without PyTorch, and checks "
        "that it gives the same numbers."
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint or training run")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrnet.weights.onnx import export_checkpoint

    difference = export_checkpoint(arguments.checkpoint, arguments.out)
    print(f"checked: differs from PyTorch by {difference:.1e} at most", file=sys.stderr)
    print(arguments.out)
    return 0
