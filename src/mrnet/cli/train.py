"""``mrnet train``"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mrnet.cli.common import add_data, add_memory_budget, add_set, data_overlay
from mrnet.config.recipes import complete, load_recipe, recipe_names
from mrnet.errors import ConfigError

if TYPE_CHECKING:
    from mrnet.config.run import RunConfig

_RECIPE = "demo"  # whose settings suit a small dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Trains a model, with a checkpoint and a validation score after every epoch. Under torchrun "
        "several processes divide every batch among them."
    )
    settings = parser.add_mutually_exclusive_group()
    settings.add_argument(
        "--recipe", help=f"one of {', '.join(recipe_names())} (with --data: {_RECIPE} by default)"
    )
    settings.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="in its place, a file of settings: YAML as of a checkpoint's recipe.yaml, or a released config.yml",
    )
    add_data(parser)
    add_set(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out after its last epoch")
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with the weights of this checkpoint, and with its settings unless --recipe or --config is given",
    )
    parser.add_argument(
        "--fresh",
        action="append",
        default=[],
        metavar="PART",
        help="with --from: a part that begins anew, e.g. query_encoder; all others must fit (repeatable)",
    )
    add_memory_budget(parser)
    parser.add_argument("--cpu", action="store_true", help="do not use an accelerator")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.resume and arguments.start is not None:
        raise ConfigError("--from begins a run and --resume continues one: leave one of them out")
    if arguments.fresh and arguments.start is None:
        raise ConfigError("--fresh names parts that do not begin with the weights of --from: give --from too")
    config = _config(arguments)
    from mrnet.training.loop import Start, train

    start = None
    if arguments.start is not None:
        from mrnet.weights.native import load_checkpoint

        start = Start(load_checkpoint(arguments.start), arguments.fresh)
    finished = train(
        config,
        arguments.out,
        resume=arguments.resume,
        start=start,
        cpu=arguments.cpu,
        memory_budget=arguments.memory_budget,
    )
    if finished.best is not None:
        print(f"best checkpoint: {finished.checkpoints / finished.best}")
    return 0


def _config(arguments: argparse.Namespace) -> "RunConfig":
    """What to train, by the one option that says so."""
    overlay = data_overlay(arguments)
    if arguments.config is not None:
        from mrnet.weights.released_config import read_settings

        return complete(read_settings(arguments.config), str(arguments.config), arguments.overrides, overlay)
    if arguments.recipe is None and arguments.start is not None:
        from mrnet.weights.native import find_run_config

        tree = find_run_config(arguments.start).model_dump(mode="json")
        return complete(tree, str(arguments.start), arguments.overrides, overlay)
    if arguments.recipe is not None or overlay is not None:
        return load_recipe(arguments.recipe or _RECIPE, arguments.overrides, overlay)
    if arguments.resume and not arguments.overrides:
        from mrnet.training.state import load_run_config

        return load_run_config(arguments.out)
    raise ConfigError(f"say what to train with --recipe: one of {', '.join(recipe_names())}")
