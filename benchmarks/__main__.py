"""``python -m benchmarks``: the fast paths against the reference paths, in one run, taking turns."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrnet.cli.common import Parser, add_memory_budget, positive
from mrnet.config import recipe_names
from mrnet.errors import MRNetError

if TYPE_CHECKING:
    from benchmarks.timing import Figures

# Of each, the recipes if not given, and the rounds: a dense training step takes a minute.
_BY_RECIPE = {
    "proposal-head": (("activitynet", "charades", "tacos"), 5),
    "predict": (("activitynet", "charades", "tacos"), 5),
    "train-step": (("activitynet",), 1),
}
_OTHERS = {"evaluate": 3, "load": 5}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; returns the exit status."""
    parser = Parser(
        prog="python -m benchmarks",
        description="Times the fast paths against the reference paths, which take turns, and compares their results. "
        "Models have the released sizes and random weights; features and scores are SIMULATED.",
    )
    parser.add_argument("what", choices=[*_BY_RECIPE, *_OTHERS], help="what to time")
    parser.add_argument(
        "--recipe", nargs="+", choices=recipe_names(), metavar="NAME", help="sizes of these recipes"
    )
    parser.add_argument("--repeats", type=positive, help="rounds, of which the median counts")
    parser.add_argument("--device", help="where models run, e.g. cpu or cuda (default: the best there is)")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write JSON to a file, or print it in place of the table",
    )
    add_memory_budget(parser)
    try:
        return run(parser.parse_args(argv))
    except (MRNetError, OSError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace) -> int:
    from benchmarks.timing import table

    rows = _measure(arguments)
    document = json.dumps(_described(arguments.what, rows), indent=2)
    if arguments.json == "-":
        print(document)
        return 0
    print(table(rows))
    if arguments.json is not None:
        Path(arguments.json).write_text(document + "\n", encoding="utf-8")
    return 0


def _measure(arguments: argparse.Namespace) -> "list[Figures]":
    from benchmarks.data import bench_evaluate, bench_load
    from benchmarks.model import bench_predict, bench_proposal_head, bench_train_step
    from mrnet.device import choose_device

    if arguments.what in _OTHERS:
        repeats = arguments.repeats or _OTHERS[arguments.what]
        return [bench_evaluate(repeats) if arguments.what == "evaluate" else bench_load(repeats)]
    benches: dict[str, Callable[..., Figures]] = {
        "proposal-head": bench_proposal_head,
        "predict": bench_predict,
        "train-step": bench_train_step,
    }
    recipes, repeats = _BY_RECIPE[arguments.what]
    device = choose_device(arguments.device)
    return [
        benches[arguments.what](recipe, arguments.repeats or repeats, device, arguments.memory_budget)
        for recipe in arguments.recipe or recipes
    ]


def _described(what: str, rows: "list[Figures]") -> dict[str, Any]:
    """The document: rows, and what they were measured on."""
    import torch

    from mrnet import __version__

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "bench": what,
        "rows": rows,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "version": __version__,
    }


if __name__ == "__main__":
    raise SystemExit(main())
