"""A run on disk: what counts, what is kept, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mrnet.config.run import RunConfig
from mrnet.errors import CheckpointError, ConfigError, FeatureShapeError, OutputError, TrainingError
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.training.state import Run, load_history, load_run_config, refuse_changes
from mrnet.weights.native import load_tensors, save_tensors
from tests.conftest import spec_of


@pytest.fixture
def config(tiny: Callable[..., RunConfig]) -> RunConfig:
    return tiny()


@pytest.fixture
def learner(config: RunConfig) -> tuple[MRNet, torch.optim.Optimizer]:
    """A network after one step, so that its optimiser has a state."""
    torch.manual_seed(0)
    network = MRNet(config.model)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network.query_iou(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    return network, optimizer


def record(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "loss": {"total": 1.0 / epoch}, "val": None}


def test_the_last_and_the_best_are_kept(config: RunConfig, learner: Any, tmp_path: Path) -> None:
    run = Run.start(tmp_path / "run", config, spec_of(config))
    for epoch in (1, 2, 3):
        run.save_epoch(record(epoch), *learner, best=epoch == 1)
    assert (run.best, run.last, run.epoch) == ("epoch-0001", "epoch-0003", 3)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["epoch-0001", "epoch-0003"]
    assert load_history(run.directory) == [record(1), record(2), record(3)]
    assert load_run_config(run.directory) == config


def test_weights_and_optimiser_come_back(config: RunConfig, learner: Any, tmp_path: Path) -> None:
    network, optimizer = learner
    Run.start(tmp_path / "run", config, spec_of(config)).save_epoch(record(1), network, optimizer, best=True)
    torch.manual_seed(1)
    other = MRNet(config.model)
    fresh = torch.optim.AdamW(other.parameters(), lr=0.1)
    Run.resume(tmp_path / "run", config, spec_of(config)).load_last(other, fresh)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )
    saved, found = optimizer.state[network.query_iou.weight], fresh.state[other.query_iou.weight]
    assert saved.keys() == found.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert all(torch.equal(saved[key], found[key]) for key in saved)
    assert other.query_encoder.weight not in fresh.state  # it had no gradient


def test_what_a_kill_left_goes(config: RunConfig, learner: Any, tmp_path: Path) -> None:
    run = Run.start(tmp_path / "run", config, spec_of(config))
    run.save_epoch(record(1), *learner, best=True)
    (run.checkpoints / ".epoch-0002.mrnet-tmp").mkdir()
    (run.checkpoints / "epoch-0002").mkdir()  # complete, but run.json does not count it
    Run.resume(tmp_path / "run", config, spec_of(config))
    assert [path.name for path in run.checkpoints.iterdir()] == ["epoch-0001"]


def test_refusals(config: RunConfig, tmp_path: Path) -> None:
    spec = spec_of(config)
    with pytest.raises(TrainingError, match=r"none holds no run to resume: leave out --resume to start one$"):
        Run.resume(tmp_path / "none", config, spec)
    run = Run.start(tmp_path / "run", config, spec)
    with pytest.raises(
        OutputError, match=r"run holds a run already: continue it with --resume, or choose another"
    ):
        Run.start(tmp_path / "run", config, spec)
    document = json.loads((run.directory / "run.json").read_text())
    (run.directory / "run.json").write_text(json.dumps({"config": document["config"]}))
    with pytest.raises(
        CheckpointError, match=r"run\.json: history: Field required \(and 2 more\): restore it, or start"
    ):
        Run.resume(tmp_path / "run", config, spec)
    with pytest.raises(CheckpointError, match=r"run\.json holds no history: restore it"):
        load_history(run.directory)


def test_a_start_that_was_killed_is_none(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.mrnet-tmp.json").write_text("{")
    run = Run.start(tmp_path / "run", config, spec_of(config))
    assert sorted(path.name for path in run.directory.iterdir()) == ["checkpoints", "run.json"]
    run.checkpoints.rmdir()  # as if killed before it was made
    assert Run.resume(tmp_path / "run", config, spec_of(config)).epoch == 0
    assert run.checkpoints.is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"best": "epoch-0007"}, "its best epoch is 'epoch-0007', which is none of its 2"),
        ({"best": "../../elsewhere"}, "its best epoch is '../../elsewhere', which is none of its 2"),
        ({"best": None}, "its best epoch is None, which is none of its 2"),
        ({"best": 3}, "best: Input should be a valid string, got 3"),
        ({"last": "epoch-0001"}, "its last epoch is 'epoch-0001', which is not what its history of 2 epochs says"),
        ({"last": None}, "its last epoch is None, which is not what its history of 2 epochs says"),
        ({"history": []}, "its last epoch is 'epoch-0002', which is not what its history of 0 epochs says"),
        ({"history": None}, "history: Input should be a valid list, got None"),
        ({"history": [{"epoch": 1, "val": None}, {"epoch": 3, "val": None}]}, "its last epoch is 'epoch-0002'"),
        ({"history": [{"epoch": 1, "val": {}}, {"epoch": 2, "val": None}]}, "its history lacks 'R@1,IoU=0.5'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_goes(
    config: RunConfig, learner: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    run = Run.start(tmp_path / "run", config, spec_of(config))
    for epoch in (1, 2):
        run.save_epoch(record(epoch), *learner, best=epoch == 1)
    path = run.directory / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError) as caught:
        Run.resume(run.directory, config, spec_of(config))
    assert message in str(caught.value)
    assert sorted(folder.name for folder in run.checkpoints.iterdir()) == ["epoch-0001", "epoch-0002"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_weights_of_another_shape_are_refused(config: RunConfig, learner: Any, tmp_path: Path, file: str) -> None:
    run = Run.start(tmp_path / "run", config, spec_of(config))
    run.save_epoch(record(1), *learner, best=True)
    path = run.checkpoints / "epoch-0001" / file
    save_tensors(path, {name: weight.unsqueeze(0) for name, weight in load_tensors(path).items()})
    with pytest.raises(CheckpointError, match="shape"):
        Run.resume(run.directory, config, spec_of(config)).load_last(*learner)


def test_the_first_field_that_differs_is_named(tiny: Callable[..., RunConfig]) -> None:
    refuse_changes(tiny(), tiny(), Path("run.json"))
    with pytest.raises(ConfigError, match=r"^run\.json was begun with model\.layers=2, not 3: resume without"):
        refuse_changes(tiny(), tiny(model={"layers": 3}, train={"lr": 1.0}), Path("run.json"))


def test_features_of_another_encoder_are_not_resumed_with(config: RunConfig, learner: Any, tmp_path: Path) -> None:
    video, text = (Provenance(backbone=name, dim=6, revision="1") for name in ("eye", "reader"))
    spec = spec_of(config, video=video, text=text)
    Run.start(tmp_path / "run", config, spec).save_epoch(record(1), *learner, best=True)
    for other in (video.model_copy(update={"revision": "2"}), Provenance(backbone="owl", dim=6, revision="1")):
        with pytest.raises(FeatureShapeError) as caught:
            Run.resume(tmp_path / "run", config, spec_of(config, video=other, text=text))
        assert str(caught.value).startswith(
            f"the video features come from {other.label}, the model was trained on 'eye' revision 1: point "
            "data.video_features at features of that backbone"
        )
    assert Run.resume(tmp_path / "run", config, spec).epoch == 1
