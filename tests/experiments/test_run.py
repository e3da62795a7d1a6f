"""Whole experiments: done, gone on with, left out where done, and refused."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrnet.experiments.run as runs
from mrnet.errors import ConfigError, DataError, MRNetError, TrainingError
from mrnet.evaluation.report import evaluate_checkpoint
from mrnet.experiments.definition import Experiment, PlannedRun
from mrnet.experiments.report import gather
from mrnet.experiments.result import Result, read_results
from mrnet.experiments.run import run_experiment
from mrnet.features.store.reader import open_store
from mrnet.training.state import Run

Make = Callable[..., Experiment]
Planned = Callable[..., list[PlannedRun]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs are done in this process, which is quicker; their folders are noted."""
    done: list[str] = []

    def in_turn(work: Sequence[Any], jobs: int) -> Iterator[tuple[Any, str | MRNetError]]:  # noqa: ARG001
        for one in work:
            done.append(one.planned.folder.as_posix())
            yield one, runs._do(one)

    monkeypatch.setattr(runs, "_in_processes", in_turn)
    return done


def comparable(results: Sequence[Result]) -> list[Any]:
    return [result.model_copy(update={"cost": None}) for result in results]


def test_variants_and_seeds_in_processes(experiment: Make, planned: Planned, tmp_path: Path) -> None:
    made = experiment()
    out = tmp_path / "out"
    assert run_experiment(made, planned(made), out, test=True, jobs=2) == []
    results = gather([out])
    named = [(result.variant, result.seed) for result in results]
    assert named == [("constant", None), ("rank-only", None), *((v, s) for v in ("plain", "wide") for s in (0, 1))]
    for result in results[2:]:
        folder = out / result.variant / f"seed-{result.seed}"
        config = next(one.config for one in planned(made) if one.folder == folder.relative_to(out))
        assert result.config == config.without_paths().model_dump(mode="json")
        assert str(tmp_path) not in result.model_dump_json()
        for split in ("val", "test"):
            report = evaluate_checkpoint(folder, config, split, ["single"])["text"].report
            assert result.splits[split].metrics["single"] == pytest.approx(report["metrics"]["single"], abs=1e-3)
            assert np.mean(result.splits[split].tiou) * 100 == pytest.approx(
                report["metrics"]["single"]["mIoU"], abs=0.1
            )
            assert results[0].splits[split].metrics["single"] == pytest.approx(
                report["baselines"]["constant"], abs=1e-3
            )
        assert result.cost is not None
        assert (result.cost.epochs, result.cost.best_epoch) in [(2, 1), (2, 2)]
    plain, wide = (result.cost for result in results[2:6:2])
    assert plain is not None
    assert wide is not None
    assert wide.parameters > plain.parameters
    # Of 8 clips and the query, two matrices of 8 rows are wider by 8 columns.
    assert wide.multiply_adds - plain.multiply_adds == 9 * 2 * 8 * 8


def test_finished_runs_are_left_out(experiment: Make, planned: Planned, here: list[str], tmp_path: Path) -> None:
    made = experiment(seeds=[0])
    run_experiment(made, planned(made, only=("wide",)), tmp_path / "out")
    assert here == ["wide/seed-0"]
    run_experiment(made, planned(made), tmp_path / "out")
    assert here == ["wide/seed-0", "plain/seed-0"]
    run_experiment(made, planned(made), tmp_path / "out", test=True)  # which they lack
    assert here[2:] == ["plain/seed-0", "wide/seed-0"]
    assert all(set(result.splits) == {"val", "test"} for result in gather([tmp_path / "out"]))
    whole = gather([tmp_path / "out"])
    for test in (True, False):  # what is there stays there
        run_experiment(made, planned(made), tmp_path / "out", test=test)
        assert gather([tmp_path / "out"]) == whole
    assert len(here) == 4


@pytest.mark.usefixtures("here")
def test_interrupted_run_is_gone_on_with(
    experiment: Make, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = experiment(seeds=[0])
    run_experiment(made, planned(made, only=("plain",)), tmp_path / "whole")
    save = Run.save_epoch

    def save_then_stop(self: Run, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_epoch", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(made, planned(made, only=("plain",)), tmp_path / "parts")
    folder = tmp_path / "parts" / "plain" / "seed-0"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["epoch-0001"]
    assert not (folder / "result.json").exists()
    begun = (folder / "checkpoints" / "epoch-0001").stat().st_ino
    run_experiment(made, planned(made, only=("plain",)), tmp_path / "parts")
    history = json.loads((folder / "run.json").read_text())["history"]
    assert [record["epoch"] for record in history] == [1, 2]
    assert comparable(gather([tmp_path / "parts"])) == comparable(gather([tmp_path / "whole"]))
    kept = folder / "checkpoints" / "epoch-0001"
    assert not kept.exists() or kept.stat().st_ino == begun


def test_blind_sees_no_video(experiment: Make, planned: Planned, here: list[str], tmp_path: Path) -> None:
    made = experiment(seeds=[0], variants={"plain": {}, "no-video": {"blind": True}})
    out = tmp_path / "out"
    run_experiment(made, planned(made), out)
    blank, videos = open_store(out / "blank.h5"), open_store(tmp_path / "videos.h5")
    assert blank.ids() == videos.ids()
    assert all((blank.read(name) == np.ones_like(videos.read(name))).all() for name in blank.ids())
    assert blank.duration_s("v0") == videos.duration_s("v0")
    (result,) = read_results(out / "no-video" / "seed-0" / "result.json")
    assert result.blind
    spec = json.loads((out / "no-video" / "seed-0" / "run.json").read_text())["config"]["data"]
    assert spec["video_features"] == str(out / "blank.h5")
    run_experiment(made, planned(made), out)
    assert here == ["plain/seed-0", "no-video/seed-0"]


def test_reference_networks(experiment: Make, planned: Planned, here: list[str], tmp_path: Path) -> None:
    networks = ["mrnet", "clip-regressor", "2d-tan", "detr"]
    made = experiment(seeds=[0], reference="mrnet", variants={name: {"network": name} for name in networks})
    assert run_experiment(made, planned(made), tmp_path / "out", test=True) == []
    results = gather([tmp_path / "out"])
    assert [result.network for result in results] == [None, None, *networks]
    for result in results[2:]:
        assert result.cost is not None
        assert result.cost.epochs == 2
        assert result.cost.multiply_adds > result.cost.parameters
        assert result.splits["val"] == result.splits["test"]  # which are one file here
    run_experiment(made, planned(made), tmp_path / "out", test=True)
    assert len(here) == 4


def test_a_run_that_fails_lets_the_others_go_on(
    experiment: Make, planned: Planned, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = runs.train

    def fail(config: Any, folder: Path, **kwargs: Any) -> Run:
        if config.model.ffn_dim == 24:
            raise TrainingError("the loss is not finite")
        return train(config, folder, **kwargs)

    monkeypatch.setattr(runs, "train", fail)
    made = experiment(seeds=[0], reference="wide", variants={"wide": {"model": {"ffn_dim": 24}}, "plain": {}})
    failures = run_experiment(made, planned(made), tmp_path / "out")
    assert failures == ["wide/seed-0: the loss is not finite"]
    assert here == ["wide/seed-0", "plain/seed-0"]
    assert [result.variant for result in gather([tmp_path / "out"])] == ["constant", "rank-only", "plain"]


def test_other_settings_are_refused_before_anything_runs(
    experiment: Make, planned: Planned, here: list[str], tmp_path: Path
) -> None:
    made = experiment(seeds=[0])
    out = tmp_path / "out"
    run_experiment(made, planned(made, only=("wide",)), out)
    with pytest.raises(
        ConfigError, match=r"seed-0/result.json is of other settings than the experiment's: remove"
    ):
        run_experiment(made, planned(made, "train.lr=0.5"), out)
    (out / "wide" / "seed-0" / "result.json").unlink()
    with pytest.raises(ConfigError, match=r"was begun with train\.lr=0\.01, not 0\.5"):
        run_experiment(made, planned(made, "train.lr=0.5"), out)
    assert here == ["wide/seed-0"]


@pytest.mark.parametrize("folder", ["plain/seed-0", "constant"])
def test_results_that_are_cut_off(
    folder: str, experiment: Make, planned: Planned, here: list[str], tmp_path: Path
) -> None:
    made = experiment(seeds=[0])
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "result.json").write_text("")
    with pytest.raises(DataError, match=rf"{folder}/result.json: holds 0 results, where there is one: remove it"):
        run_experiment(made, planned(made), tmp_path)
    assert here == []


@pytest.mark.parametrize("change", [{"network": "clip-regressor"}, {"blind": True}])
def test_another_network_is_another_setting(
    change: dict[str, Any], experiment: Make, planned: Planned, here: list[str], tmp_path: Path
) -> None:
    made, changed = experiment(seeds=[0]), experiment(seeds=[0], variants={"plain": {}, "wide": change})
    ffn = "model.ffn_dim=24"  # all other settings are the same
    run_experiment(made, planned(made, ffn, only=("wide",)), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"wide/seed-0/result.json is of other settings than the experiment's"):
        run_experiment(changed, planned(changed, ffn, only=("wide",)), tmp_path / "out")
    assert here == ["wide/seed-0"]


def test_other_data_are_refused_also_where_all_is_done(
    experiment: Make, planned: Planned, here: list[str], dataset_files: dict[str, str], tmp_path: Path
) -> None:
    made = experiment(seeds=[0], variants={"plain": {}, "regressor": {"network": "clip-regressor"}})
    out, other = tmp_path / "out", tmp_path / "other.json"
    run_experiment(made, planned(made), out)
    other.write_bytes(Path(dataset_files["train"]).read_bytes())
    with pytest.raises(ConfigError, match=r"plain/seed-0/run.json was begun with data.train=.*, not .*other.json"):
        run_experiment(made, planned(made, f"data.train={other}"), out)
    message = r"experiment.json: variant regressor was begun with data.train=.*, not .*other.json.*: go on without"
    with pytest.raises(ConfigError, match=message):
        run_experiment(made, planned(made, f"data.train={other}", only=("regressor",)), out)
    assert here == ["plain/seed-0", "regressor/seed-0"]


def test_baselines_are_answered_anew_at_other_thresholds(
    experiment: Make, planned: Planned, here: list[str], tmp_path: Path
) -> None:
    made = experiment(seeds=[0])
    run_experiment(made, planned(made, only=("plain",)), tmp_path / "out")
    run_experiment(made, planned(made, "evaluation.tious=[0.1,0.5]", only=("wide",)), tmp_path / "out")
    constant = gather([tmp_path / "out"])[0]
    assert constant.config["evaluation"]["tious"] == [0.1, 0.5]
    assert "R@1,IoU=0.1" in constant.splits["val"].metrics["single"]
    assert here == ["plain/seed-0", "wide/seed-0"]


def test_the_reference_may_change(experiment: Make, planned: Planned, here: list[str], tmp_path: Path) -> None:
    for reference in ("plain", "wide"):
        made = experiment(seeds=[0], reference=reference)
        run_experiment(made, planned(made), tmp_path / "out")
        assert {result.reference for result in gather([tmp_path / "out"])} == {reference}
    assert here == ["plain/seed-0", "wide/seed-0"]


def test_data_that_are_not_there_are_refused_before_anything_is_written(
    experiment: Make, planned: Planned, tmp_path: Path
) -> None:
    made = experiment()
    with pytest.raises(ConfigError, match=r"data\.test is not set"):
        run_experiment(made, planned(made, "data.test=[]"), tmp_path / "out", test=True)
    assert not (tmp_path / "out").exists()
    both = planned(made, "data.query_kinds=[text,speech]")
    with pytest.raises(ConfigError, match=r"an experiment asks one kind of query: set data.query_kinds to it"):
        run_experiment(made, both, tmp_path / "out")


def test_a_process_that_dies(
    experiment: Make, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_do", print)  # which cannot be sent back here as it is
    monkeypatch.setattr(runs, "_begin_process", exit)
    made = experiment(seeds=[0])
    with pytest.raises(
        TrainingError, match=r"a process of the experiment ended before its time.*run the same command"
    ):
        run_experiment(made, planned(made), tmp_path / "out", jobs=1)
