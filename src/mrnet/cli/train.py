"""``mrnet train``"""

import argparse
from pathlib import Path

from mrnet.cli.common import Subparsers, add_memory_budget, add_set
from mrnet.config import load_recipe, recipe_names
from mrnet.errors import ConfigError

_RECIPE = "demo"  # whose settings suit a small dataset


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model from a recipe",
        description="Trains a model, with a checkpoint and a validation score after every epoch. Under torchrun "
        "several processes share every batch.",
    )
    parser.add_argument("--recipe", help=f"one of {', '.join(recipe_names())} (with --data: {_RECIPE} by default)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="dataset of your own, made by `mrnet data init DIR`"
    )
    add_set(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out after its last epoch")
    add_memory_budget(parser)
    parser.add_argument("--cpu", action="store_true", help="do not use an accelerator")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrnet.training.loop import train
    from mrnet.training.state import load_run_config

    if arguments.data is not None:
        from mrnet.data.own import load_dataset_overlay

        overlay = load_dataset_overlay(arguments.data)
        config = load_recipe(arguments.recipe or _RECIPE, arguments.overrides, overlay)
    elif arguments.recipe is not None:
        config = load_recipe(arguments.recipe, arguments.overrides)
    elif arguments.resume and not arguments.overrides:
        config = load_run_config(arguments.out)
    else:
        raise ConfigError(f"say what to train with --recipe: one of {', '.join(recipe_names())}")
    finished = train(
        config, arguments.out, resume=arguments.resume, cpu=arguments.cpu, memory_budget=arguments.memory_budget
    )
    if finished.best is not None:
        print(f"best checkpoint: {finished.checkpoints / finished.best}")
    return 0
