"""A whole training run: prepare, epoch after epoch, finish each with a checkpoint."""

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrnet.config.run import RunConfig
from mrnet.config.spec import Calibration, ModelSpec, VideoLengths
from mrnet.data.dataset import Batch, MomentDataset, epoch_batches, load_batches, part_of
from mrnet.data.sources import DataSource, open_source
from mrnet.evaluation.absence import FEWEST_VIDEOS, ask_absent, fit_calibration
from mrnet.evaluation.run import evaluate_predictions, predict
from mrnet.files import alone_in
from mrnet.model.ensemble import make_network
from mrnet.progress import Progress
from mrnet.retrieval.trained import TrainedScorer
from mrnet.retrieval.windows import WindowedScorer
from mrnet.training.curves import Curves
from mrnet.training.state import Run
from mrnet.training.trainer import Trainer, make_accelerator
from mrnet.weights.native import Checkpoint, load_initial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Weights that a training begins with, in place of random ones.

    Attributes:
        checkpoint: theirs.
        fresh: parts of the network that begin anew all the same.
    """

    checkpoint: Checkpoint
    fresh: Collection[str] = ()


@dataclass
class _Job:
    """What a run works with.

    Attributes:
        config: what is trained.
        run: its state on disk.
        trainer: the network and its optimiser.
        train_set: to learn from.
        val_set: to select a checkpoint by; ``None`` where no videos are held out.
        curves: of training, on the main process.
    """

    config: RunConfig
    run: Run
    trainer: Trainer
    train_set: MomentDataset
    val_set: MomentDataset | None
    curves: Curves | None = None

    @property
    def is_main(self) -> bool:
        return bool(self.trainer.accelerator.is_main_process)


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    start: Start | None = None,
    cpu: bool = False,
    memory_budget: int | None = None,
) -> Run:
    """Train a model, or continue to train it.

    Every epoch ends with a checkpoint, and every ``train.validate_every``-th with a score on the validation split; the
    best one is the result, or the last one where no videos are held out. Under ``torchrun`` the processes divide every
    batch and reach the result of one process.

    Args:
        config: what to train.
        out: folder of the run.
        resume: continue the run that ``out`` holds.
        start: weights to begin with; random ones if left out.
        cpu: do not use an accelerator.
        memory_budget: bytes that speed may cost, see :class:`mrnet.model.head.ProposalHead`.

    Raises:
        ConfigError, DataError, FeatureError, VideoError: something is missing or inconsistent.
        CheckpointError: the run to resume, or the checkpoint to start from, is damaged or does not fit.
        OutputError: ``out`` is taken, or cannot be written.
        TrainingError: the loss or its gradient is not finite.
    """
    job = _prepare(config, out, start=start, cpu=cpu, memory_budget=memory_budget)
    with alone_in(out) if job.is_main else nullcontext():
        _begin(job, resume=resume)
        try:
            _run(job)
        except Exception:
            if job.is_main and not resume and not job.run.epoch:
                job.run.discard()  # so that the same command can be given again
            raise
        finally:
            if job.curves is not None:
                job.curves.close()
    return job.run


def _run(job: _Job) -> None:
    """Every epoch that there is to do."""
    config, run, trainer = job.config, job.run, job.trainer
    if trainer.accelerator.num_processes == 1:  # of several, each would need a copy of its own
        job.train_set.resample_once(run.directory)
    if config.train.workers:
        job.train_set.encode_once()
    # Now that the weights are where they will stay.
    run.load_last(trainer.network, trainer.optimizer, trainer.average)
    job.curves = Curves(run.tensorboard, run.epoch + 1) if job.is_main else None
    epochs, batch_size = config.train.epochs, config.train.batch_size
    steps = (epochs - run.epoch) * -(-len(job.train_set) // batch_size)
    with Progress(steps, "training", "step", quiet=not job.is_main) as progress:
        for epoch in range(run.epoch + 1, epochs + 1):
            started = time.perf_counter()
            losses = _run_epoch(job, epoch, progress)
            _finish_epoch(job, epoch, losses, started)


def _prepare(config: RunConfig, out: Path, *, start: Start | None, cpu: bool, memory_budget: int | None) -> _Job:
    """What a run needs, before anything is written."""
    accelerator = make_accelerator(config.train, cpu=cpu)
    with accelerator.main_process_first():  # which encodes raw videos, if there are any
        source = open_source(config.data)
    train_set = source.dataset(source.split("train"), config.model, {})
    held_out = config.data.val or config.data.val_fraction
    val_set = source.dataset(source.split("val"), config.model, {}) if held_out else None
    spec = _specification(config, source, train_set)
    torch.manual_seed(config.train.seed)
    network = make_network(config.model, memory_budget=memory_budget)
    if start is not None:
        load_initial(network, start.checkpoint, start.fresh)
    run = Run(out, config, spec, pca=source.pca)
    return _Job(config, run, Trainer(network, config, accelerator), train_set, val_set)


def _begin(job: _Job, *, resume: bool) -> None:
    """Start the run on disk, or pick it up."""
    run = job.run
    if resume:
        job.run = Run.resume(run.directory, run.config, run.spec)
    elif job.is_main:  # the others keep its state to themselves
        job.run = Run.start(run.directory, run.config, run.spec)
    job.run.pca = run.pca
    job.trainer.accelerator.wait_for_everyone()
    if job.is_main and job.val_set is not None and len(job.val_set.records) < FEWEST_VIDEOS:
        log.info(
            "no probabilities: they are fitted on queries of other videos, and validation has one video alone"
        )


def _specification(config: RunConfig, source: DataSource, train_set: MomentDataset) -> ModelSpec:
    """What a checkpoint of the run will say."""
    return ModelSpec(
        name=config.name,
        model=config.model,
        decode=config.decode,
        query_widths=dict(source.query_widths),
        provenances=dict(source.provenances),
        trained_lengths=_lengths(train_set),
    )


def _lengths(train_set: MomentDataset) -> VideoLengths:
    durations_s = [record.duration_s for record in train_set.records]
    usual_s, longest_s = (np.quantile(durations_s, part, method="higher") for part in (0.5, 0.99))
    return VideoLengths(usual_s=float(usual_s), longest_s=float(longest_s))


def _run_epoch(job: _Job, epoch: int, progress: Progress) -> dict[str, float]:
    """The mean losses of an epoch, by name."""
    train, accelerator = job.config.train, job.trainer.accelerator
    job.trainer.begin_epoch(epoch)
    totals: dict[str, float] = {}
    batches = epoch_batches(len(job.train_set), train.batch_size, train.seed, epoch)
    drawn = job.train_set.draw(train.max_queries, train.seed, epoch)
    for indices, batch in zip(batches, _local_batches(job, drawn, batches), strict=True):
        divided = 1 < accelerator.num_processes <= len(indices)
        record = job.trainer.step(batch, divided=divided)
        for name, value in record.losses.items():
            totals[name] = totals.get(name, 0.0) + value / len(batches)
        progress.update(epoch=epoch, loss=f"{record.losses['total']:.3f}")
    accelerator.wait_for_everyone()
    return totals


def _local_batches(job: _Job, dataset: MomentDataset, batches: list[list[int]]) -> Iterator[Batch]:
    accelerator = job.trainer.accelerator
    local = [part_of(batch, accelerator.process_index, accelerator.num_processes) for batch in batches]
    for batch in load_batches(dataset, local, job.config.train.workers):
        yield batch.to(accelerator.device)


def _finish_epoch(job: _Job, epoch: int, losses: dict[str, float], started: float) -> None:
    """On the main process: score, save and report the epoch."""
    if job.curves is not None:
        config, run = job.config, job.run
        due = epoch % config.train.validate_every == 0 or epoch == config.train.epochs
        metrics = _validate(job) if due and job.val_set is not None else None
        record = {
            "epoch": epoch,
            "loss": losses,
            "val": metrics,
            "lr": job.trainer.lr,
            "seconds": round(time.perf_counter() - started, 3),
        }
        # The first epoch is the best until one is scored: a run that is cut short can be used.
        best = job.val_set is None or run.best is None or _is_best(record, run.history, config)
        calibration = _calibrate(job) if best and metrics is not None else None
        trainer = job.trainer
        run.save_epoch(
            record, trainer.network, trainer.optimizer, trainer.average, best=best, calibration=calibration
        )
        job.curves.add(epoch, _values(record))
        score = (
            f"  val {config.evaluation.select_by} {metrics[config.evaluation.select_by]:.2f}" if metrics else ""
        )
        log.info(
            "epoch %d/%d  loss %.4f%s%s",
            epoch, config.train.epochs, losses["total"], score, "  (best)" if best and metrics else "",
        )  # fmt: skip
    job.trainer.accelerator.wait_for_everyone()


def _validate(job: _Job) -> dict[str, float]:
    assert job.val_set is not None
    decode = job.config.decode
    whole = TrainedScorer(job.trainer.result, decode, job.config.train.protocol)
    scorer = WindowedScorer(whole, job.run.spec.trained_lengths)
    predictions = predict(scorer, job.val_set, decode.nms_threshold)
    return evaluate_predictions(predictions, job.val_set.records, job.config.evaluation)


def _calibrate(job: _Job) -> Calibration | None:
    """Of the scores for queries asked one by one, on the validation split; a small one allows none.

    Every video is asked whole: the few that are asked in windows would not teach what many windows do to probabilities.
    """
    assert job.val_set is not None
    if len(job.val_set.records) < FEWEST_VIDEOS:
        return None
    decode = job.config.decode
    scorer = TrainedScorer(job.trainer.result, decode)
    outcomes = ask_absent(scorer, job.val_set, decode.nms_threshold, job.config.train.seed)
    return fit_calibration(outcomes, f"the validation split of {job.config.name}")


def _is_best(record: dict[str, Any], history: list[dict[str, Any]], config: RunConfig) -> bool:
    key = config.evaluation.select_by
    if record["val"] is None:
        return False
    return all(record["val"][key] > earlier["val"][key] for earlier in history if earlier["val"] is not None)


def _values(record: dict[str, Any]) -> dict[str, float]:
    """Of an epoch, as its curves are called."""
    parts = {
        f"{group}/{name}": value for group in ("loss", "val") for name, value in (record[group] or {}).items()
    }
    return {**parts, "lr": record["lr"]}
