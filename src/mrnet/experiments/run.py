"""Run an experiment: every variant with every seed, a process a core, each left out that is there already."""

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mrnet.config.parse import parse_config
from mrnet.config.run import RunConfig
from mrnet.data.sources import DataSource, open_source
from mrnet.engines import TrainedEngine
from mrnet.errors import ConfigError, MRNetError, TrainingError
from mrnet.evaluation.predictions import Prediction
from mrnet.evaluation.report import evaluate_checkpoint
from mrnet.evaluation.run import answer_baseline
from mrnet.experiments.definition import (
    BASELINES,
    EXPERIMENT_FILE,
    BegunExperiment,
    Experiment,
    NetworkName,
    PlannedRun,
    read_begun,
)
from mrnet.experiments.references.clip_regressor import ClipRegressor
from mrnet.experiments.references.detr import Detr
from mrnet.experiments.references.parts import Reference
from mrnet.experiments.references.tan import Tan
from mrnet.experiments.references.training import train_reference
from mrnet.experiments.result import RESULT_FILE, Result, read_result, score, write_results
from mrnet.experiments.trained import SplitName, Trained
from mrnet.features.store.writer import write_store
from mrnet.files import make_directory, write_text
from mrnet.processes import begin_worker
from mrnet.provenance import Provenance
from mrnet.retrieval.trained import TrainedScorer
from mrnet.training.loop import train
from mrnet.training.state import load_run_config, refuse_changes
from mrnet.types import AskedProtocol
from mrnet.version import __version__, git_commit
from mrnet.weights.native import RUN_FILE, build_model, load_checkpoint

log = logging.getLogger(__name__)

_BLANK_FILE = "blank.h5"
_REFERENCES: dict[NetworkName, type[Reference]] = {"clip-regressor": ClipRegressor, "2d-tan": Tan, "detr": Detr}


@dataclass(frozen=True)
class _Work:
    """One run, for a process.

    Attributes:
        experiment: whose it is.
        planned: what to train.
        folder: of the run.
        splits: to score.
    """

    experiment: Experiment
    planned: PlannedRun
    folder: Path
    splits: tuple[SplitName, ...]


def run_experiment(
    experiment: Experiment,
    planned: Sequence[PlannedRun],
    out: Path,
    *,
    test: bool = False,
    jobs: int | None = None,
) -> list[str]:
    """Train what is not trained yet, score it on the validation split, and on the test split where asked to.

        OUT/experiment.json
        OUT/VARIANT/seed-0/             a training run, with result.json beside run.json
        OUT/constant/result.json        and of the other baseline

    Args:
        experiment: what it is about.
        planned: from :func:`mrnet.experiments.definition.plan`.
        out: folder of the experiment, new or of an earlier call, which is gone on with.
        test: whether to score the test split too.
        jobs: processes, each with one thread; as many as there are cores if left out.

    Returns:
        what failed, a line each; the other runs are done all the same.

    Raises:
        ConfigError, DataError, FeatureError: the data cannot be read, or what is in ``out`` is of other settings or of
            other data.
        OutputError: ``out`` cannot be written.
        TrainingError: a process died.
    """
    splits: tuple[SplitName, ...] = ("val", "test") if test else ("val",)
    work = [_Work(experiment, one, out / one.folder, splits) for one in planned]
    todo = [one for one in work if not _is_done(one)]
    begun = _begun(experiment, planned, out / EXPERIMENT_FILE)
    source = _open_source(planned[0].config)
    for split in splits:
        source.split(split)
    make_directory(out)
    write_text(out / EXPERIMENT_FILE, begun.model_dump_json(indent=2) + "\n")
    _answer_baselines(experiment, planned[0].config, source, out, splits)
    if any(one.planned.blind for one in todo):
        blank = _write_blank(source, out / _BLANK_FILE)
        todo = [_blinded(one, blank) if one.planned.blind else one for one in todo]
    log.info("%d of %d runs to do", len(todo), len(work))
    failures: list[str] = []
    for count, (one, outcome) in enumerate(_in_processes(todo, jobs or os.cpu_count() or 1), start=1):
        log.info("%d/%d  %s: %s", count, len(todo), one.planned.folder.as_posix(), outcome)
        if isinstance(outcome, MRNetError):
            failures.append(f"{one.planned.folder.as_posix()}: {outcome}")
    return failures


def _is_done(work: _Work) -> bool:
    """Whether a run has all the results that are wanted.

    Raises:
        ConfigError: what is there is of other settings.
    """
    planned, path, done = work.planned, work.folder / RESULT_FILE, False
    wanted = planned.config
    if path.is_file():
        result = read_result(path)
        found = (result.network, result.blind, parse_config(result.config, str(path)))
        if found != (planned.network, planned.blind, wanted.without_paths()):
            raise ConfigError(
                f"{path} is of other settings than the experiment's: remove {work.folder}, or choose another --out"
            )
        done = set(work.splits) <= set(result.splits)
    path = work.folder / RUN_FILE
    if path.is_file():
        saved = load_run_config(work.folder)
        if planned.blind:  # whose features are the experiment's own
            wanted, saved = (_with_features(config, None) for config in (wanted, saved))
        refuse_changes(saved, wanted, path)
    return done


def _begun(experiment: Experiment, planned: Sequence[PlannedRun], path: Path) -> BegunExperiment:
    """The experiment with where its data are, those of variants that were done by earlier calls among them.

    Raises:
        ConfigError: a variant had other data then.
    """
    begun = dict(read_begun(path).data) if path.is_file() else {}
    for one in planned:
        before, now = begun.setdefault(one.variant, one.config.data), one.config.data
        for key, value in before:
            if getattr(now, key) != value:
                raise ConfigError(
                    f"{path}: variant {one.variant} was begun with data.{key}={value!r}, not {getattr(now, key)!r}: "
                    "go on without changing it, or choose another --out"
                )
    return BegunExperiment(**dict(experiment), data=begun)


def _with_features(config: RunConfig, path: Path | None) -> RunConfig:
    data = config.data.model_copy(update={"video_features": None if path is None else str(path)})
    return config.model_copy(update={"data": data})


def _open_source(config: RunConfig) -> DataSource:
    if len(config.data.query_kinds) > 1:
        raise ConfigError("an experiment asks one kind of query: set data.query_kinds to it")
    return open_source(config.data)


def _write_blank(source: DataSource, path: Path) -> Path:
    """A store like that of the videos in which all rows are the same."""
    store, rate = source.videos, source.videos.provenance
    dim = store.read(store.ids()[0]).shape[1]
    rows = ((video_id, np.ones_like(store.read(video_id))) for video_id in store.ids())
    write_store(path, rows, Provenance(backbone="blank", dim=dim, rows_per_s=rate.rows_per_s if rate else None))
    return path


def _blinded(work: _Work, blank: Path) -> _Work:
    return replace(work, planned=replace(work.planned, config=_with_features(work.planned.config, blank)))


def _answer_baselines(
    experiment: Experiment, config: RunConfig, source: DataSource, out: Path, splits: Sequence[SplitName]
) -> None:
    for name, kind in BASELINES.items():
        path = out / name / RESULT_FILE
        settings = {"evaluation": config.evaluation.model_dump(mode="json")}
        found = read_result(path) if path.is_file() else None
        there = {} if found is None or found.config != settings else found.splits
        if set(splits) <= set(there):
            continue
        scored = {}
        for split in splits:
            records = source.split(split)
            predictions = answer_baseline(kind, source.split("train"), records, config.evaluation.tious)
            scored[split] = score({"single": predictions}, records, config.evaluation)
        result = Result(
            experiment=config.name,
            reference=experiment.reference,
            variant=name,
            network=None,
            seed=None,
            commit=git_commit(),
            version=__version__,
            config=settings,
            splits=dict(scored),
            cost=None,
        )
        make_directory(path.parent)
        write_results(path, [result])


def _in_processes(work: Sequence[_Work], jobs: int) -> Iterator[tuple[_Work, str | MRNetError]]:
    """What came of each, as it is done."""
    pool = ProcessPoolExecutor(min(jobs, len(work)) or 1, get_context("spawn"), _begin_process)
    try:
        futures = {pool.submit(_do, one): one for one in work}
        for future in as_completed(futures):
            yield futures[future], future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise TrainingError(
            "a process of the experiment ended before its time, for want of memory perhaps: run the same command "
            "again to go on, with fewer --jobs"
        ) from None
    finally:
        for child in active_children():  # none is left but where this was interrupted
            child.terminate()
        pool.shutdown(cancel_futures=True)


def _begin_process() -> None:
    begin_worker()
    tqdm.set_lock(threading.RLock())  # its own, which all processes share, would outlive one that is ended
    torch.set_num_threads(1)
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for progress, of which there is one line a run


def _do(work: _Work) -> str | MRNetError:
    """Train, measure and write the result of one run; what it was, in a few words, or what was wrong."""
    planned, config = work.planned, work.planned.config
    try:
        source = _open_source(config)
        reference = _REFERENCES.get(planned.network)
        trained = _train_mrnet(work) if reference is None else train_reference(reference, config, source)
        scored = {
            split: score(trained.answers(split), source.split(split), config.evaluation) for split in work.splits
        }
        questions = source.dataset(source.split("val"), config.model, {})
        cost = trained.cost(questions, config.decode.nms_threshold)
    except MRNetError as error:
        return error
    result = Result(
        experiment=config.name,
        reference=work.experiment.reference,
        variant=planned.variant,
        network=planned.network,
        blind=planned.blind,
        seed=config.train.seed,
        commit=git_commit(),
        version=__version__,
        config=config.without_paths().model_dump(mode="json"),
        splits=dict(scored),
        cost=cost,
    )
    write_results(work.folder / RESULT_FILE, [result])
    metrics = ", ".join(f"{name} {value:.1f}" for name, value in scored["val"].metrics["single"].items())
    return f"val {metrics}; {cost.seconds:.0f} s, best epoch {cost.best_epoch} of {cost.epochs}"


def _train_mrnet(work: _Work) -> Trained:
    config = work.planned.config
    run = train(config, work.folder, resume=(work.folder / RUN_FILE).is_file(), cpu=True)
    checkpoint = load_checkpoint(work.folder)
    spec = checkpoint.spec
    network = checkpoint.build()
    plain = build_model(spec.model, checkpoint.weights, str(checkpoint.folder), route="dense").requires_grad_(
        False
    )
    protocols: list[AskedProtocol] = ["single"]
    if config.train.protocol == "joint":
        protocols += ["joint", "shuffled"]

    def answers(split: SplitName) -> Mapping[AskedProtocol, list[Prediction]]:
        (evaluation,) = evaluate_checkpoint(work.folder, config, split, protocols, device="cpu").values()
        return evaluation.predictions

    assert run.best is not None
    return Trained(
        network=network,
        scorer=TrainedEngine(network, spec).scorer,
        counted=TrainedScorer(plain, spec.decode),
        answers=answers,
        seconds=sum(record["seconds"] for record in run.history),
        epochs=run.epoch,
        best_epoch=int(run.best.removeprefix("epoch-")),
    )
