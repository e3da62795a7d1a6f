"""``python -m benchmarks``: the fast paths against the reference paths, in one run, taking turns."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrnet.cli.common import Parser, add_memory_budget, positive
from mrnet.config.recipes import recipe_names
from mrnet.errors import MRNetError

if TYPE_CHECKING:
    from benchmarks.timing import Figures


@dataclass(frozen=True)
class _Bench:
    """What is timed, the rounds of which the median counts, and the recipes whose sizes are taken."""

    help: str
    repeats: int
    recipes: tuple[str, ...] = ()


_RELEASED = ("activitynet", "charades", "tacos")
_BENCHES = {
    "proposal-head": _Bench("one video through the convolutions", 5, _RELEASED),
    "predict": _Bench("features and three queries to ranked moments", 5, _RELEASED),
    "train-step": _Bench("forward and backward, four videos", 1, ("activitynet",)),  # a dense one takes a minute
    "load": _Bench("the convolutions quiet and beside a busy process", 5, ("demo", *_RELEASED)),
    "evaluate": _Bench("17,031 queries: suppression and metrics", 3),
    "batches": _Bench("an epoch's features, read and mapped into memory", 5),
    "library": _Bench("10 to 1,000 made videos indexed and searched", 1),
    "recall": _Bench("what a library's search finds of what asking every video finds, on footage of yours", 1),
    "vectors": _Bench("10,000 to 1,000,000 rows searched one by one, and by an index", 1),
    "features": _Bench("videos to features: decoding, encoding, and both together", 5),
}
_COUNTS = {"library": (10, 100, 1000), "vectors": (10_000, 250_000, 1_000_000)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; returns the exit status."""
    parser = Parser(
        prog="python -m benchmarks",
        description="Times the fast paths against the reference paths, which take turns, and compares their results. "
        "Models have the released sizes and random weights; features, scores and videos are SIMULATED.",
    )
    subparsers = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, bench in _BENCHES.items():
        _add_arguments(subparsers.add_parser(name, help=bench.help), name, bench)
    try:
        return run(parser.parse_args(argv))
    except (MRNetError, OSError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 2


def _add_arguments(parser: argparse.ArgumentParser, name: str, bench: _Bench) -> None:
    parser.add_argument(
        "--repeats", type=positive, default=bench.repeats, help="rounds, of which the median counts"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write JSON to a file, or print it in place of the table",
    )
    if bench.recipes:
        parser.add_argument(
            "--recipe",
            nargs="+",
            choices=recipe_names(),
            default=bench.recipes,
            metavar="NAME",
            help="sizes of these recipes",
        )
        add_memory_budget(parser)
        if name != "load":
            parser.add_argument("--device", help="where models run, e.g. cpu or cuda (default: the best there is)")
    if name in _COUNTS:
        parser.add_argument(
            "--counts", type=positive, nargs="+", default=_COUNTS[name], metavar="N", help="how many, rising"
        )
    if name == "recall":
        parser.add_argument("videos", type=Path, metavar="DIR", help="folder of videos")
        parser.add_argument("--annotations", type=Path, nargs="+", required=True, metavar="FILE", help="queries")
    if name == "features":
        parser.add_argument("--video", type=Path, help="file to measure on, in place of a simulated one")
        parser.add_argument(
            "--seconds",
            type=positive,
            default=60,
            help="length of the simulated video; the file is taken as often as makes up that length",
        )
        parser.add_argument("--backbone", default="efficientnet-lite0", help="registered video backbone")


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
    from benchmarks.data import bench_batches, bench_evaluate
    from benchmarks.features import bench_features
    from benchmarks.library import bench_library, bench_recall, bench_vectors
    from benchmarks.load import bench_load
    from benchmarks.model import bench_predict, bench_proposal_head, bench_train_step
    from mrnet.device import choose_device

    repeats = arguments.repeats
    if arguments.what == "evaluate":
        return [bench_evaluate(repeats)]
    if arguments.what == "batches":
        return [bench_batches(repeats)]
    if arguments.what == "library":
        return bench_library(arguments.counts)
    if arguments.what == "recall":
        return bench_recall(arguments.videos, arguments.annotations)
    if arguments.what == "vectors":
        return bench_vectors(arguments.counts)
    if arguments.what == "features":
        return bench_features(repeats, arguments.backbone, arguments.seconds, arguments.video)
    if arguments.what == "load":
        return bench_load(arguments.recipe, repeats, arguments.memory_budget)
    benches = {"proposal-head": bench_proposal_head, "predict": bench_predict, "train-step": bench_train_step}
    device = choose_device(arguments.device)
    return [
        benches[arguments.what](recipe, repeats, device, arguments.memory_budget) for recipe in arguments.recipe
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
