"""``mrnet evaluate``"""

import argparse
import json
from pathlib import Path
from typing import Any

from mrnet.cli.common import Subparsers, add_memory_budget, add_set
from mrnet.errors import ConfigError


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="score a model, or predictions made elsewhere, beside the baselines",
        description="Scores a checkpoint on a split (--checkpoint), or a file of predictions against annotations "
        "(--predictions and --annotations).",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="checkpoint or training run")
    what.add_argument("--predictions", type=Path, metavar="P.jsonl", help="QVHighlights-style JSON lines")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")

    model = parser.add_argument_group("with --checkpoint")
    model.add_argument("--split", choices=["val", "test"], default="test", help="which of data.* (default: test)")
    model.add_argument(
        "--protocol",
        choices=["single", "joint", "both"],
        default="both",
        help="single: every query alone; joint: all queries of a video together, which leaks their order "
        "(default: both)",
    )
    model.add_argument(
        "--queries",
        choices=["typed", "spoken"],
        help="which kind to ask (default: each kind that the model was trained on)",
    )
    add_set(parser)
    add_memory_budget(parser)
    model.add_argument(
        "--out", type=Path, help="folder for report.json and predictions (default: CHECKPOINT/SPLIT)"
    )

    given = parser.add_argument_group("with --predictions")
    given.add_argument("--annotations", type=Path, metavar="A", help="annotations of the split that was predicted")
    given.add_argument("--train", type=Path, metavar="A", help="training annotations, to add the baselines")
    given.add_argument("--metrics", choices=["recall", "qvhighlights"], default="recall", help="(default: recall)")
    given.add_argument(
        "--tious",
        type=float,
        nargs="+",
        default=[0.3, 0.5, 0.7],
        help="thresholds of recall (default: 0.3 0.5 0.7)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return _score_predictions(arguments) if arguments.predictions else _evaluate_checkpoint(arguments)


def _evaluate_checkpoint(arguments: argparse.Namespace) -> int:
    from mrnet.config import QueryMode, apply_overrides, parse_config
    from mrnet.data.sources import open_source
    from mrnet.device import choose_device
    from mrnet.evaluation.predictions import write_predictions
    from mrnet.evaluation.run import evaluate
    from mrnet.types import QueryKind
    from mrnet.weights.native import (
        build_model,
        load_checkpoint,
        make_directory,
        resolve_checkpoint,
        write_atomically,
    )

    folder = resolve_checkpoint(arguments.checkpoint)
    config, weights = load_checkpoint(folder)
    for override in arguments.overrides:
        if override.partition("=")[0].split(".")[0] not in ("data", "decode", "evaluation", "train"):
            raise ConfigError(
                f"--set {override}: of a checkpoint's configuration only data.*, decode.*, evaluation.* and "
                "train.* can be changed"
            )
    tree = apply_overrides(config.model_dump(mode="json"), arguments.overrides)
    config = parse_config(tree, source=str(folder))
    kinds: list[QueryKind] = config.data.query_kinds if arguments.queries is None else [arguments.queries]
    if not set(kinds) <= set(config.data.query_kinds):
        raise ConfigError(f"--queries {kinds[0]}: the model takes {config.data.query_kinds[0]} queries alone")
    source = open_source(config.data)
    device = choose_device(None)
    model = build_model(config, weights, source=str(folder)).to(device)
    model.proposal_head.memory_budget = arguments.memory_budget
    protocols: list[QueryMode] = ["single", "joint"] if arguments.protocol == "both" else [arguments.protocol]
    out = arguments.out or arguments.checkpoint / arguments.split
    reports: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        dataset = source.dataset(source.split(config.data, arguments.split, [kind]), config)
        train = source.split(config.data, "train", [kind])
        report, predictions = evaluate(
            model, dataset, train, config, device, protocols, split=arguments.split, kind=kind
        )
        report["checkpoint"] = str(folder)
        reports[kind] = report
        place = make_directory(out / kind if len(kinds) > 1 else out)
        for protocol, ranked in predictions.items():
            write_predictions(place / f"predictions.{protocol}.jsonl", ranked)
        write_atomically(place / "report.json", json.dumps(report, indent=2) + "\n")
    if not report["metrics"]:
        print(f"the answers of this split are withheld: nothing is scored; predictions are in {out}")
        return 0
    rows = {
        f"model, {kind}, {name}" if len(kinds) > 1 else f"model, {name}": values
        for kind in kinds
        for name, values in reports[kind]["metrics"].items()
    }
    document = reports if len(kinds) > 1 else report
    _print(document if arguments.json else None, rows | _titled(report["baselines"], arguments.protocol))
    if not arguments.json:
        print(f"report: {place / 'report.json' if len(kinds) == 1 else out}")
    return 0


def _score_predictions(arguments: argparse.Namespace) -> int:
    from mrnet.config import EvaluationConfig
    from mrnet.data.annotations import read_annotations
    from mrnet.evaluation.predictions import read_predictions
    from mrnet.evaluation.qvhighlights import qvhighlights_metrics
    from mrnet.evaluation.run import evaluate_baselines, evaluate_predictions, intervals

    if arguments.annotations is None:
        raise ConfigError("--predictions needs --annotations, the file with the ground truth")
    if any(not 0 <= tiou <= 1 for tiou in arguments.tious):
        raise ConfigError(f"--tious {arguments.tious}: thresholds are between 0 and 1")
    select_by = "mIoU" if arguments.metrics == "recall" else "MR-full-mAP"
    config = EvaluationConfig(metrics=arguments.metrics, tious=arguments.tious, select_by=select_by)
    records = read_annotations(arguments.annotations)
    predictions = read_predictions(arguments.predictions)
    metrics = evaluate_predictions(predictions, records, config)
    document: dict[str, Any]
    if arguments.metrics == "qvhighlights":
        document = dict(qvhighlights_metrics(predictions, records))  # the official layout
    else:
        document = metrics | {"intervals_95": intervals(predictions, records, config, seed=0)}
    rows = {"predictions": metrics}
    if arguments.train is not None:
        document["baselines"] = evaluate_baselines(read_annotations(arguments.train), records, config)
        rows |= _titled(document["baselines"], "both")
    _print(document if arguments.json else None, rows)
    return 0


def _titled(baselines: dict[str, dict[str, float]], protocol: str) -> dict[str, dict[str, float]]:
    titles = {"constant": "best constant moment", "rank_only": "rank only (for joint)"}
    shown = [name for name in baselines if name != "rank_only" or protocol != "single"]
    return {titles[name]: baselines[name] for name in shown}


def _print(document: dict[str, Any] | None, rows: dict[str, dict[str, float]]) -> None:
    from mrnet.evaluation.run import metric_table

    print(metric_table(rows) if document is None else json.dumps(document, indent=2))
