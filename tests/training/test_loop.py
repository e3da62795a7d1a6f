"""Training: resuming to the bit, stopping cleanly, selecting on validation."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrnet.config.run import RunConfig
from mrnet.config.spec import Calibration, VideoLengths
from mrnet.errors import CheckpointError, ConfigError, FeatureError, OutputError, TrainingError
from mrnet.evaluation.absence import Outcomes
from mrnet.features.encoders.hashed_words import HashedWords
from mrnet.files import alone_in
from mrnet.predictor import Predictor
from mrnet.training.loop import Start, train
from mrnet.training.state import Run
from mrnet.training.trainer import Trainer
from mrnet.weights.native import load_checkpoint
from tests.conftest import TINY, as_overrides, merge


@pytest.fixture
def config(tiny: Callable[..., RunConfig], dataset_files: dict[str, str]) -> Callable[..., RunConfig]:
    def make(**changes: Any) -> RunConfig:
        with_dropout = {"dropout": 0.3, "clip_dropout": 0.3} | changes.pop("model", {})
        return tiny(data=dataset_files | changes.pop("data", {}), model=with_dropout, **changes)

    return make


def tensors(run: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    last = json.loads((run / "run.json").read_text())["last"]
    return load_file(run / "checkpoints" / last / name)


def assert_same_to_the_bit(first: Path, second: Path) -> None:
    for name in ("model.safetensors", "optimizer.safetensors"):
        expected, found = tensors(first, name), tensors(second, name)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert torch.equal(value, found[key]), f"{name}: {key}"


def interrupt_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Run.save_epoch

    def save_then_stop(self: Run, record: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        save(self, record, *args, **kwargs)
        if record["epoch"] == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save_epoch", save_then_stop)


def assert_resumed_as_if_never_interrupted(
    config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config, folder / "whole", cpu=True)
    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder / "parts", cpu=True)
    train(config, folder / "parts", resume=True, cpu=True)
    assert_same_to_the_bit(folder / "whole", folder / "parts")


@pytest.mark.parametrize("epoch", [1, 2])
def test_resumed_run_ends_at_the_same_bits(
    epoch: int, config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(config(), tmp_path / "whole", cpu=True)
    with monkeypatch.context() as patch:
        interrupt_after(epoch, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config(), tmp_path / "parts", cpu=True)
    resumed = train(config(), tmp_path / "parts", resume=True, cpu=True)
    assert_same_to_the_bit(tmp_path / "whole", tmp_path / "parts")
    assert resumed.best == whole.best
    without_time = [
        [{key: value for key, value in record.items() if key != "seconds"} for record in run.history]
        for run in (whole, resumed)
    ]
    assert without_time[0] == without_time[1]


def test_killed_run_resumes_to_the_same_bits(dataset_files: dict[str, str], tmp_path: Path) -> None:
    """SIGKILL at some moment of some epoch, twice; nothing to tidy up by hand."""
    overrides = tiny_overrides(dataset_files, epochs=12)
    command = [sys.executable, "-m", "mrnet", "train", "--recipe", "demo", "--cpu", *overrides]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    run = tmp_path / "killed"
    for finished in (1, 4):
        resume = ["--resume"] if run.exists() else []
        process = subprocess.Popen(
            [*command, "--out", str(run), *resume], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if (run / "run.json").exists() and len(
                json.loads((run / "run.json").read_text())["history"]
            ) >= finished:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        Predictor.load(run, device="cpu")  # what is there is whole
    subprocess.run([*command, "--out", str(run), "--resume"], check=True, capture_output=True)
    assert_same_to_the_bit(tmp_path / "whole", run)
    assert not list(run.rglob(".*"))


def tiny_overrides(dataset_files: dict[str, str], epochs: int) -> list[str]:
    return as_overrides(
        merge(
            TINY,
            {"data": dataset_files, "train": {"epochs": epochs}, "model": {"attention": "all"}, "name": "demo"},
        )
    )


@pytest.mark.parametrize("protocol", ["single", "joint"])
def test_two_processes_reach_the_result_of_one(
    protocol: str, dataset_files: dict[str, str], tmp_path: Path
) -> None:
    """Batch norm, the contrastive losses and the gradients are those of the whole batch."""
    overrides = [*tiny_overrides(dataset_files, epochs=2), "--set", f"train.protocol={protocol}"]
    arguments = ["train", "--recipe", "demo", "--cpu", *overrides, "--set", "train.lr=0.01"]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, "-m", "mrnet", *arguments, "--out", str(one)], check=True, capture_output=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "mrnet"]
    done = subprocess.run(
        [*torchrun, *arguments, "--out", str(two)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    expected, found = tensors(one), tensors(two)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=2e-4, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    first, second = (json.loads((run / "run.json").read_text())["history"] for run in (one, two))
    for a, b in zip(first, second, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", cpu=True)
    monkeypatch.undo()
    kept = tensors(tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "epoch-0001" / "model.safetensors"
    broken = {**kept, "query_iou.bias": torch.full((8,), float("nan"))}
    from safetensors.torch import save_file

    save_file(broken, path)
    with pytest.raises(TrainingError, match=r"not finite in epoch 2 \(iou nan.* videos v\d, v\d, v\d: the last"):
        train(config(), tmp_path / "run", resume=True, cpu=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["last"] == "epoch-0001"


def test_gradient_that_is_not_finite_never_reaches_the_weights(
    config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match="the gradient is not finite in epoch 1"):
        train(config(), tmp_path / "run", cpu=True)
    assert not (tmp_path / "run").exists()  # there is nothing to go on from


def test_features_that_fail_late_leave_no_run(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    settings = config()
    last = json.loads(Path(settings.data.train[0]).read_text()).popitem()[0]
    with h5py.File(str(settings.data.video_features), "r+") as file:
        file[last][0, 0] = np.nan
    (tmp_path / "run").mkdir()
    with pytest.raises(FeatureError, match="holds NaN or infinity"):
        train(settings, tmp_path / "run", cpu=True)
    assert list((tmp_path / "run").iterdir()) == []


def test_two_at_once_are_one(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"):
        for resume in (False, True):
            with pytest.raises(OutputError, match="another process is writing here"):
                train(config(), tmp_path / "run", resume=resume, cpu=True)
    assert not (tmp_path / "run").exists()


def test_drawn_queries_survive_a_resume(
    config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = config(train={"max_queries": 1})
    assert_resumed_as_if_never_interrupted(drawn, tmp_path, monkeypatch)


def test_checkpoint_is_selected_on_validation(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    changed = config(evaluation={"select_by": "mIoU"}, train={"epochs": 5})
    run = train(changed, tmp_path / "run", cpu=True)
    scores = [record["val"]["mIoU"] for record in run.history]
    assert run.best == f"epoch-{scores.index(max(scores)) + 1:04d}"
    assert {path.name for path in run.checkpoints.iterdir()} == {run.best, "epoch-0005"}


def test_learning_rate_and_scalars(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    run = train(config(), tmp_path / "run", cpu=True)
    assert [record["lr"] for record in run.history] == pytest.approx([0.01, 0.01, 0.001])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    written = [event.value for event in events.Scalars("loss/total")]
    assert written == pytest.approx([record["loss"]["total"] for record in run.history], rel=1e-5)
    assert {"val/mIoU", "lr", "loss/sparsity"} <= set(events.Tags()["scalars"])


def test_training_lowers_the_loss(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    quiet = config(model={"dropout": 0.0, "clip_dropout": 0.0}, train={"epochs": 25, "full_loss_epochs": 25})
    history = train(quiet, tmp_path / "run", cpu=True).history
    assert history[-1]["loss"]["iou"] < 0.7 * history[0]["loss"]["iou"]


def test_sentences_are_encoded_once_whoever_reads_them(
    config: Callable[..., RunConfig],
    dataset_files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes that read begin anew in each epoch: what they would encode, they would encode again."""
    log, encode = tmp_path / "encoded.jsonl", HashedWords.encode

    def write_down(self: HashedWords, inputs: Sequence[list[str]]) -> Any:
        with log.open("a") as file:
            file.writelines(json.dumps([os.getpid(), words]) + "\n" for words in inputs)
        return encode(self, inputs)

    monkeypatch.setattr(HashedWords, "encode", write_down)
    settings = {"data": {"text_features": None}, "model": {"query_dim": HashedWords.dim}}
    train(config(train={"epochs": 2, "workers": 2}, **settings), tmp_path / "run", cpu=True)
    encoded = [json.loads(line) for line in log.read_text().splitlines()]
    splits = [json.loads(Path(dataset_files[split]).read_text()) for split in ("train", "val")]
    sentences = [text for split in splits for video in split.values() for text in video["sentences"]]
    assert {pid for pid, _ in encoded} == {os.getpid()}
    assert sorted(" ".join(words) for _, words in encoded) == sorted(sentences)


def test_taken_folder_is_refused(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(
        OutputError, match="run already exists and is not empty: choose another place or remove it"
    ):
        train(config(), tmp_path / "run", cpu=True)
    with pytest.raises(TrainingError, match="holds no run to resume: leave out --resume"):
        train(config(), tmp_path / "run", resume=True, cpu=True)
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep"
    train(config(train={"epochs": 1, "milestones": []}), tmp_path / "other", cpu=True)
    with pytest.raises(
        OutputError, match="other holds a run already: continue it with --resume, or choose another"
    ):
        train(config(), tmp_path / "other", cpu=True)


def test_resuming_with_another_configuration_is_refused(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    train(config(), tmp_path / "run", cpu=True)
    with pytest.raises(ConfigError, match=r"was begun with train\.lr=0\.01, not 0\.5: resume without changing it"):
        train(config(train={"lr": 0.5}), tmp_path / "run", resume=True, cpu=True)


def test_features_of_another_width_are_refused_before_anything_is_written(
    config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    from mrnet.errors import FeatureShapeError

    with pytest.raises(FeatureShapeError, match=r"has features of width 6, but model\.video_dim is 7"):
        train(config(model={"video_dim": 7}), tmp_path / "run", cpu=True)
    assert not (tmp_path / "run").exists()


def test_every_second_epoch_is_scored_and_the_last(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    run = train(config(train={"epochs": 5, "validate_every": 2}), tmp_path / "run", cpu=True)
    assert [record["val"] is not None for record in run.history] == [False, True, False, True, True]
    scores = {record["epoch"]: record["val"]["R@1,IoU=0.5"] for record in run.history if record["val"]}
    best = max(scores, key=lambda epoch: (scores[epoch], -epoch))
    assert run.best == f"epoch-{best:04d}"
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("val/mIoU")] == [2, 4, 5]


def test_of_all_videos_the_last_epoch_is_kept(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    everything = config(data={"val": [], "val_fraction": 0})
    run = train(everything, tmp_path / "run", cpu=True)
    assert [record["val"] for record in run.history] == [None, None, None]
    assert run.best == run.last == "epoch-0003"
    assert [path.name for path in run.checkpoints.iterdir()] == ["epoch-0003"]


@pytest.mark.parametrize("fewest", [1, 10**6])
def test_the_best_checkpoint_is_calibrated_where_validation_allows(
    fewest: int, config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = Calibration(bias=1.0, weights=(2, 0, 0, 0, 0), footage="the split")
    asked: list[int] = []

    def fit(outcomes: Outcomes, footage: str) -> Calibration | None:
        asked.append(int(outcomes.first.sum()))
        assert footage == f"the validation split of {config().name}"
        return fitted if len(outcomes.right) >= fewest else None

    monkeypatch.setattr("mrnet.training.loop.fit_calibration", fit)
    run = train(config(), tmp_path / "run", cpu=True)
    assert asked  # of each epoch that was the best so far
    spec = load_checkpoint(tmp_path / "run").spec
    assert spec.calibration == (fitted if fewest == 1 else None)
    assert run.spec.calibration is None  # each checkpoint has its own


def test_one_validation_video_allows_no_calibration(
    config: Callable[..., RunConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mrnet")
    whole = json.loads(Path(config().data.val[0]).read_text())
    (tmp_path / "one.json").write_text(json.dumps(dict(list(whole.items())[:1])))
    train(config(data={"val": str(tmp_path / "one.json")}), tmp_path / "run", cpu=True)
    assert load_checkpoint(tmp_path / "run").spec.calibration is None
    assert [message for message in caplog.messages if "probabilities" in message] == [
        "no probabilities: they are fitted on queries of other videos, and validation has one video alone"
    ]


def test_a_checkpoint_says_how_long_its_training_videos_were(
    config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    tree = json.loads(Path(config().data.train[0]).read_text())
    durations_s = sorted(video["duration"] for video in tree.values())
    train(config(train={"epochs": 1, "milestones": []}), tmp_path / "run", cpu=True)
    lengths = load_checkpoint(tmp_path / "run").spec.trained_lengths
    assert lengths == VideoLengths(usual_s=durations_s[3], longest_s=durations_s[6])


def test_fine_tuning_begins_with_the_weights_of_a_checkpoint(
    config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_checkpoint(train(config(), tmp_path / "first", cpu=True).directory)
    begun: list[dict[str, torch.Tensor]] = []

    def stop(trainer: Any, epoch: int) -> None:  # noqa: ARG001
        begun.append({name: weight.clone() for name, weight in trainer.network.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "begin_epoch", stop)
    for name, start in {"whole": Start(first), "fresh": Start(first, ["query_encoder"])}.items():
        with pytest.raises(KeyboardInterrupt):
            train(config(train={"seed": 9}), tmp_path / name, start=start, cpu=True)
    whole, fresh = begun
    assert all(torch.equal(whole[name], weight) for name, weight in first.weights.items())
    changed = {name for name, weight in first.weights.items() if not torch.equal(fresh[name], weight)}
    assert changed == {"query_encoder.weight", "query_encoder.bias"}


def test_a_checkpoint_that_does_not_fit_is_refused(config: Callable[..., RunConfig], tmp_path: Path) -> None:
    first = load_checkpoint(train(config(), tmp_path / "first", cpu=True).directory)
    wider = config(model={"ffn_dim": 24})
    with pytest.raises(
        CheckpointError, match=r"'transformer\.layers\.0\.ffn\.0\.weight' has shape \[16, 8\].*with --fresh PART$"
    ):
        train(wider, tmp_path / "run", start=Start(first), cpu=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_trains(precision: str, config: Callable[..., RunConfig], tmp_path: Path) -> None:
    run = train(config(train={"precision": precision}), tmp_path / "run")
    assert run.epoch == 3


def test_a_resumed_run_goes_on_averaging(
    config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged = config(train={"averaging": 0.9})
    assert_resumed_as_if_never_interrupted(averaged, tmp_path, monkeypatch)
    last = sorted((tmp_path / "whole" / "checkpoints").iterdir())[-1]
    answering, trained = (load_file(last / f"{name}.safetensors") for name in ("model", "unaveraged"))
    assert not torch.equal(answering["query_iou.weight"], trained["query_iou.weight"])
