"""``mrnet evaluate``"""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from mrnet.cli.common import add_data, add_encoder, add_memory_budget, add_set, data_overlay
from mrnet.config.recipes import complete
from mrnet.config.run import RunConfig
from mrnet.errors import ConfigError
from mrnet.types import AskedProtocol, QueryKind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Scores a checkpoint on a split (--checkpoint), a file of predictions against annotations (--predictions and "
        "--annotations), or what is found without training (--untrained, --annotations and --features)."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="checkpoint or training run")
    what.add_argument("--predictions", type=Path, metavar="P.jsonl", help="QVHighlights-style JSON lines")
    what.add_argument("--untrained", action="store_true", help="the scorer without training")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")

    model = parser.add_argument_group("with --checkpoint")
    model.add_argument("--split", choices=["val", "test"], default="test", help="which of data.* (default: test)")
    model.add_argument(
        "--protocol",
        choices=["single", "joint", "both", "shuffled"],
        default="both",
        help="single: every query alone; joint: all queries of a video together, which leaks their order; both "
        "(default); shuffled: together in an order that is drawn, which shows what the leak was worth",
    )
    model.add_argument(
        "--queries",
        choices=get_args(QueryKind),
        help="which kind to ask (default: each kind that the model was trained on)",
    )
    add_data(parser)
    add_set(parser)
    add_encoder(parser)
    add_memory_budget(parser)
    model.add_argument(
        "--out", type=Path, help="folder for report.json and predictions (default: CHECKPOINT/SPLIT)"
    )

    untrained = parser.add_argument_group("with --untrained")
    untrained.add_argument("--features", type=Path, metavar="F", help="features of the videos, or their folder")
    untrained.add_argument(
        "--backbone", metavar="NAME", help="encoder of the videos (default: that of F, else the packaged one)"
    )

    given = parser.add_argument_group("with --predictions, or --untrained")
    given.add_argument("--annotations", type=Path, metavar="A", help="annotations of the split that is scored")
    given = parser.add_argument_group("with --predictions")
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
    if arguments.untrained:
        return _evaluate_untrained(arguments)
    return _score_predictions(arguments) if arguments.predictions else _evaluate_checkpoint(arguments)


def _evaluate_untrained(arguments: argparse.Namespace) -> int:
    for option in ("annotations", "features"):
        if getattr(arguments, option) is None:
            raise ConfigError(f"--untrained needs --annotations and --features: add --{option}")
    from mrnet.evaluation.untrained import evaluate_untrained

    report, _ = evaluate_untrained(arguments.annotations, arguments.features, arguments.backbone)
    rows = {"untrained": report["metrics"]["single"]} | _titled(report["baselines"], "single")
    _print(report if arguments.json else None, rows)
    if not arguments.json:
        print(f"{report['backbones']['video']} {report['sees']}")
    return 0


def _evaluate_checkpoint(arguments: argparse.Namespace) -> int:
    config = _settings(arguments)
    protocols: list[AskedProtocol] = ["single", "joint"] if arguments.protocol == "both" else [arguments.protocol]
    from mrnet.evaluation.report import evaluate_checkpoint, write_evaluation

    evaluations = evaluate_checkpoint(
        arguments.checkpoint,
        config,
        arguments.split,
        protocols,
        None if arguments.queries is None else [arguments.queries],
        trusted=arguments.encoders,
        memory_budget=arguments.memory_budget,
    )
    out: Path = arguments.out or arguments.checkpoint / arguments.split
    several = len(evaluations) > 1
    rows: dict[str, dict[str, float]] = {}
    reports: dict[str, dict[str, Any]] = {}
    for kind, evaluation in evaluations.items():
        path = write_evaluation(out / kind if several else out, evaluation)
        report = reports[kind] = evaluation.report
        rows |= {
            f"model, {kind}, {name}" if several else f"model, {name}": values
            for name, values in report["metrics"].items()
        }
    if not rows:
        print(f"the answers of this split are withheld: nothing is scored; predictions are in {out}")
        return 0
    document = reports if several else report
    _print(document if arguments.json else None, rows | _titled(report["baselines"], arguments.protocol))
    if not arguments.json:
        print(f"report: {out if several else path}")
    return 0


def _settings(arguments: argparse.Namespace) -> RunConfig:
    """What the checkpoint was trained with, as far as evaluation may change it: with other data, for one."""
    from mrnet.weights.native import find_run_config

    changeable = ("data", "decode", "evaluation", "train")
    for override in arguments.overrides:
        if override.partition("=")[0].split(".")[0] not in changeable:
            raise ConfigError(
                f"--set {override}: of a checkpoint's configuration only data.*, decode.*, evaluation.* and "
                "train.* can be changed"
            )
    overlay = data_overlay(arguments)
    if overlay is not None:
        overlay = {key: tree for key, tree in overlay.items() if key in changeable}
    tree = find_run_config(arguments.checkpoint).model_dump(mode="json")
    return complete(tree, str(arguments.checkpoint), arguments.overrides, overlay)


def _score_predictions(arguments: argparse.Namespace) -> int:
    from mrnet.config.run import EvaluationConfig
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
    titles = {
        "constant": "best constant moment",
        "rank_only": "rank only (for joint)",
        "random_segment": "random segment",
    }
    shown = [name for name in baselines if name != "rank_only" or protocol in ("joint", "both")]
    return {titles[name]: baselines[name] for name in shown}


def _print(document: dict[str, Any] | None, rows: dict[str, dict[str, float]]) -> None:
    from mrnet.evaluation.run import metric_table

    print(metric_table(rows) if document is None else json.dumps(document, indent=2))
