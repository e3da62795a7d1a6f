"""What an experiment is: a file of variants, and the runs that it asks for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mrnet.config.data import DataConfig
from mrnet.config.parse import parse_section
from mrnet.config.recipes import load_recipe, merge_trees
from mrnet.config.run import RunConfig
from mrnet.documents import parse_json, parse_yaml
from mrnet.errors import ConfigError
from mrnet.evaluation.baselines import BaselineKind

NetworkName = Literal["mrnet", "clip-regressor", "2d-tan", "detr"]
"""What is trained: MRNet, or one of :mod:`mrnet.experiments.references`."""

BASELINES: dict[str, BaselineKind] = {"constant": "constant", "rank-only": "rank_only"}
"""Names, in tables, of what answers without looking; no variant may have one of them."""

EXPERIMENT_FILE = "experiment.json"
"""In the folder of an experiment: what was begun there."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SECTIONS = ("model", "loss", "decode", "train", "data", "evaluation")


def _can_name_a_file(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} cannot name a file: use letters, digits, - _ + and .")
    return name


FileName = Annotated[str, AfterValidator(_can_name_a_file)]
"""Of an experiment or a variant, in whose name files are written."""

Seed = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]


class Variant(BaseModel):
    """One way of doing it: changes of settings, section by section as in a recipe, and what no setting says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str | None = Field(None, description="another recipe than the experiment's")
    network: NetworkName = Field("mrnet", description="what is trained")
    blind: bool = Field(False, description="the features of every video are constant: only the query is seen")
    model: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    decode: dict[str, Any] = {}
    train: dict[str, Any] = {}
    data: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The changes, as a tree."""
        return {section: tree for section in _SECTIONS if (tree := getattr(self, section))}


class Experiment(BaseModel):
    """Variants that are compared, each trained once with every seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="of the experiment, and of the files of its results")
    recipe: str = Field(description="shipped recipe that variants are changes of")
    settings: dict[str, Any] = Field({}, description="changes of the recipe that all variants have, a tree")
    seeds: list[Seed] = Field(
        [0, 1, 2], min_length=1, description="each variant is trained with every one of them"
    )
    reference: str = Field(description="variant that the others are compared with")
    variants: dict[str, Variant] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in (self.name, *self.variants):
            _can_name_a_file(name)
        for name in self.variants:
            if name in BASELINES:
                raise ValueError(
                    f"variant {name!r} has the name of a baseline, which every experiment has: rename it"
                )
        if self.reference not in self.variants:
            raise ValueError(f"reference {self.reference!r} is none of the variants {', '.join(self.variants)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} names one twice")
        return self


class BegunExperiment(Experiment):
    """An experiment as its folder knows it."""

    data: dict[str, DataConfig] = Field({}, description="variant -> where its data are")


@dataclass(frozen=True)
class PlannedRun:
    """One training that an experiment asks for.

    Attributes:
        variant: its name.
        network: what is trained.
        blind: whether it sees no video.
        config: all settings, the seed among them.
    """

    variant: str
    network: NetworkName
    blind: bool
    config: RunConfig

    @property
    def folder(self) -> Path:
        """Where it lies, in the folder of the experiment."""
        return Path(self.variant) / f"seed-{self.config.train.seed}"


def read_experiment(path: Path) -> Experiment:
    """Read the file of an experiment.

    Raises:
        ConfigError: it cannot be read, has an unknown key, or a value that is not allowed.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({reason}); give the YAML file of an experiment") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({error}); see docs/experiments.md for an example") from None
    return parse_section(Experiment, tree, str(path))


def read_begun(path: Path) -> BegunExperiment:
    """Read ``experiment.json`` of an experiment's folder.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        tree = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({reason}); restore it, or choose another folder") from None
    return parse_section(BegunExperiment, tree, str(path))


def plan(
    experiment: Experiment,
    overrides: Sequence[str] = (),
    overlay: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
) -> list[PlannedRun]:
    """The runs of an experiment, the first seed of every variant first.

    Settings come, each over those before it, from the recipe, the dataset, the experiment, the variant and the
    overrides. The seed is the run's, the name the experiment's.

    Args:
        experiment: what to do.
        overrides: as of :func:`mrnet.config.recipes.load_recipe`, for every run; of the data in particular.
        overlay: fields of a dataset, as of :func:`mrnet.config.recipes.load_recipe`.
        only: variants; all of them if left out.

    Raises:
        ConfigError: a variant is unknown, or its settings are not allowed.
    """
    for name in only:
        if name not in experiment.variants:
            raise ConfigError(f"there is no variant {name!r}: choose of {', '.join(experiment.variants)}")
    return [
        PlannedRun(name, variant.network, variant.blind, _configure(experiment, name, seed, overrides, overlay))
        for seed in experiment.seeds
        for name, variant in experiment.variants.items()
        if not only or name in only
    ]


def _configure(
    experiment: Experiment, name: str, seed: int, overrides: Sequence[str], overlay: Mapping[str, Any] | None
) -> RunConfig:
    variant = experiment.variants[name]
    tree = merge_trees(merge_trees(dict(overlay or {}), experiment.settings), variant.settings)
    tree = merge_trees(tree, {"name": experiment.name, "train": {"seed": seed}})
    try:
        config = load_recipe(variant.recipe or experiment.recipe, overrides, tree)
        _can_name_a_file(config.name)
        return config
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"variant {name} of {experiment.name}: {error}") from None


assert set(BASELINES.values()) == set(get_args(BaselineKind))
