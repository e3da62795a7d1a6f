"""An experiment of tiny models on a tiny dataset."""

from collections.abc import Callable
from typing import Any

import pytest

from mrnet.experiments.definition import Experiment, PlannedRun, plan
from tests.conftest import TINY, merge

QUICK: dict[str, Any] = {
    "model": TINY["model"] | {"layers": 1, "attention": "all"},
    "train": {
        "lr": 0.01,
        "batch_size": 4,
        "epochs": 2,
        "milestones": [],
        "full_loss_epochs": 2,
        "validate_every": 1,
    },
}


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    def make(**changes: Any) -> Experiment:
        tree = {
            "name": "tiny",
            "recipe": "demo",
            "settings": QUICK,
            "seeds": [0, 1],
            "reference": "plain",
            "variants": {"plain": {}, "wide": {"model": {"ffn_dim": 24}}},
        }
        return Experiment.model_validate(merge(tree, changes) | {key: changes[key] for key in changes})

    return make


@pytest.fixture
def planned(dataset_files: dict[str, str]) -> Callable[..., list[PlannedRun]]:
    def make(experiment: Experiment, *overrides: str, only: tuple[str, ...] = ()) -> list[PlannedRun]:
        data = [f"data.{key}={path}" for key, path in dataset_files.items()]
        return plan(experiment, [*data, *overrides], only=only)

    return make
