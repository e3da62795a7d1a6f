"""Files of experiments, and the runs that they ask for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mrnet.config.recipes import load_recipe
from mrnet.errors import ConfigError
from mrnet.experiments.definition import Experiment, plan, read_experiment

TEXT = """
name: why
recipe: demo
settings: {train: {epochs: 12}, model: {layers: 3}}
seeds: [3, 4]
reference: faithful
variants:
  faithful: {}
  lr-1e-3: {train: {lr: 1.0e-4}}
  tacos: {recipe: tacos, model: {layers: 4}}
  no-video: {blind: true}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "why.yaml"
    path.write_text(text)
    return path


def test_settings_come_over_each_other_in_order(tmp_path: Path) -> None:
    experiment = read_experiment(write(tmp_path, TEXT))
    overlay = {"model": {"video_dim": 7, "layers": 9}, "data": {"train": ["own.jsonl"]}}
    runs = plan(experiment, ["data.train=[a.json]", "decode.score_power=0.25"], overlay)
    assert [str(run.folder) for run in runs] == [
        f"{variant}/seed-{seed}" for seed in (3, 4) for variant in ("faithful", "lr-1e-3", "tacos", "no-video")
    ]
    faithful, lower, tacos, blind = runs[:4]
    assert [run.blind for run in runs[:4]] == [False, False, False, True]
    assert [run.config.train.lr for run in runs[:4]] == [1e-3, 1e-4, load_recipe("tacos").train.lr, 1e-3]
    assert [run.config.model.layers for run in runs[:4]] == [3, 3, 4, 3]
    assert tacos.config.model.num_clips == load_recipe("tacos").model.num_clips
    assert lower.config.decode.score_power == 0.25
    assert (faithful.config.name, faithful.config.train.epochs, faithful.config.train.seed) == ("why", 12, 3)
    assert (faithful.config.model.video_dim, faithful.config.data.train) == (7, ["a.json"])
    assert blind.config == faithful.config


def test_only_some_variants(experiment: Callable[..., Experiment]) -> None:
    assert [run.variant for run in plan(experiment(), only=["wide"])] == ["wide", "wide"]
    with pytest.raises(ConfigError, match=r"^there is no variant 'tall': choose of plain, wide$"):
        plan(experiment(), only=["tall"])


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ("seeds", "sedes", "unknown key 'sedes'; known here: name, recipe, settings, seeds, reference, variants"),
        ("blind", "blnd", "unknown key 'variants.no-video.blnd'; known here: recipe, network, blind, model, loss"),
        ("reference: faithful", "reference: fathful", "reference 'fathful' is none of the variants faithful, lr"),
        ("[3, 4]", "[3, 3]", r"seeds \[3, 3\] names one twice"),
        ("[3, 4]", "[]", "seeds: List should have at least 1 item"),
        ("lr-1e-3", "../up", "'../up' cannot name a file: use letters, digits"),
        (
            "lr-1e-3",
            "constant",
            "variant 'constant' has the name of a baseline, which every experiment has: rename",
        ),
        ("variants:", "variants: [", "not YAML"),
    ],
)
def test_refused_files(found: str, put: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.replace(found, put))
    with pytest.raises(ConfigError, match=message) as caught:
        read_experiment(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ("lr: 1.0e-4", "lr: -1", "variant lr-1e-3 of why: .*train.lr: Input should be greater than 0, got -1"),
        ("{lr:", "{rate:", "variant lr-1e-3 of why: .*unknown key 'train.rate'; known here: lr, "),
        ("recipe: tacos", "recipe: taco", "variant tacos of why: unknown recipe 'taco': choose one of"),
    ],
)
def test_refused_settings(found: str, put: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(read_experiment(write(tmp_path, TEXT.replace(found, put))))


def test_results_have_a_name_that_can_name_files(experiment: Callable[..., Experiment]) -> None:
    with pytest.raises(
        ConfigError, match=r"^variant plain of tiny: 'a/b' cannot name a file: use letters, digits"
    ):
        plan(experiment(), ["name=a/b"])
    assert plan(experiment(), ["name=a-b"])[0].config.name == "a-b"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no.yaml: cannot be read \(No such file or directory\); give the YAML"):
        read_experiment(tmp_path / "no.yaml")
