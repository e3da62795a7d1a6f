"""A training run on disk, always whole.

    RUN/run.json                          configuration, history, names of the last and best epoch
    RUN/checkpoints/epoch-0007/           a native checkpoint, plus optimizer.safetensors and, where the
                                          checkpoint's weights are averages, unaveraged.safetensors
    RUN/tensorboard/

An epoch's folder appears complete or not at all, and ``run.json``, replaced atomically after it, says
which ones count. Only the last and the best are kept.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mrnet.config.parse import first_problem, parse_config
from mrnet.config.run import RunConfig
from mrnet.config.spec import Calibration, ModelSpec
from mrnet.data.sources import check_provenance
from mrnet.errors import CheckpointError, ConfigError, OutputError, TrainingError
from mrnet.files import check_new, make_directory, new_directory, remove_left_in, write_text
from mrnet.weights.native import (
    CHECKPOINTS,
    RUN_FILE,
    WEIGHTS_FILE,
    check_weights,
    load_spec,
    load_tensors,
    read_json,
    save_tensors,
    weight_shapes,
    write_checkpoint,
)

_OPTIMIZER_FILE = "optimizer.safetensors"
_UNAVERAGED_FILE = "unaveraged.safetensors"


@dataclass
class Run:
    """State of a run between epochs.

    Attributes:
        directory: the run's folder.
        config: what it trains.
        spec: what its checkpoints say.
        history: a record per finished epoch, ``{"epoch": 1, "loss": ..., "val": {...}, ...}``.
        best: name of the best epoch's folder.
        last: name of the last finished epoch's folder.
        pca: file of the PCA that its video features went through, to be kept in every checkpoint.
    """

    directory: Path
    config: RunConfig
    spec: ModelSpec
    history: list[dict[str, Any]] = field(default_factory=list)
    best: str | None = None
    last: str | None = None
    pca: Path | None = None

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.history)

    @property
    def checkpoints(self) -> Path:
        return self.directory / CHECKPOINTS

    @property
    def tensorboard(self) -> Path:
        return self.directory / "tensorboard"

    @classmethod
    def start(cls, directory: Path, config: RunConfig, spec: ModelSpec) -> "Run":
        """Begin a run in a new or empty folder.

        Raises:
            OutputError: the folder holds something already, or cannot be made.
        """
        if (directory / RUN_FILE).is_file():
            raise OutputError(
                f"{directory} holds a run already: continue it with --resume, or choose another --out"
            )
        run = cls(directory, config, spec)
        if directory.is_dir():  # a start that was killed half-way is none
            remove_left_in(directory)
        check_new(directory)
        run.write()  # first: from then on there is a run, which can be resumed
        make_directory(run.checkpoints)
        return run

    def discard(self) -> None:
        """Undo :meth:`start`, where no epoch was finished."""
        (self.directory / RUN_FILE).unlink(missing_ok=True)
        for folder in (self.checkpoints, self.tensorboard):
            shutil.rmtree(folder, ignore_errors=True)

    @classmethod
    def resume(cls, directory: Path, config: RunConfig, spec: ModelSpec) -> "Run":
        """Pick a run up after its last finished epoch.

        Args:
            directory: the run's folder.
            config: what to train.
            spec: what its checkpoints will say.

        Raises:
            TrainingError: there is no run.
            ConfigError: ``config`` is not the run's.
            CheckpointError: the run is damaged.
            FeatureShapeError: the features are not made as those that the run began with.
        """
        path, document = directory / RUN_FILE, _read_run(directory)
        saved = parse_config(document.get("config"), source=str(path))
        refuse_changes(saved, config, path)
        run = cls(directory, saved, spec)
        run._take(document, path)
        if run.last is not None:
            begun = load_spec(run.checkpoints / run.last).provenances
            for modality, found in spec.provenances.items():
                check_provenance(found, begun.get(modality), modality)
        make_directory(run.checkpoints)  # a kill may have come before it
        for partial in run.checkpoints.glob(".epoch-*"):  # left by a kill
            shutil.rmtree(partial, ignore_errors=True)
        run._prune()
        return run

    def _take(self, document: dict[str, object], path: Path) -> None:
        """Take history, best and last epoch out of ``run.json``, once they are known to fit what is there.

        Raises:
            CheckpointError: they do not.
        """
        try:
            state = _State.model_validate({key: value for key, value in document.items() if key != "config"})
        except ValidationError as error:
            raise CheckpointError(
                f"{path}: {first_problem(_State, error)}: restore it, or start the run again"
            ) from None
        names = [f"epoch-{number:04d}" for number in range(1, len(state.history) + 1)]
        numbers = [record.epoch for record in state.history]
        if numbers != list(range(1, len(numbers) + 1)) or state.last != (names[-1] if names else None):
            raise CheckpointError(
                f"{path}: its last epoch is {state.last!r}, which is not what its history of {len(names)} epochs says: "
                "restore it, or start the run again"
            )
        select_by = self.config.evaluation.select_by
        if any(record.val is not None and select_by not in record.val for record in state.history):
            raise CheckpointError(f"{path}: its history lacks {select_by!r}: restore it, or start the run again")
        if state.best not in (names if names else (None,)):
            raise CheckpointError(
                f"{path}: its best epoch is {state.best!r}, which is none of its {len(names)}: restore it, or start "
                "the run again"
            )
        for name in {state.best, state.last} - {None}:
            if not (self.checkpoints / str(name) / WEIGHTS_FILE).is_file():
                raise CheckpointError(
                    f"{self.checkpoints / str(name)} is gone or damaged: restore it, or train again"
                )
        self.history, self.best, self.last = list(document["history"]), state.best, state.last  # type: ignore[call-overload]

    def write(self) -> None:
        """Replace ``run.json``."""
        document = {
            "best": self.best,
            "last": self.last,
            "history": self.history,
            "config": self.config.model_dump(mode="json"),
        }
        write_text(self.directory / RUN_FILE, json.dumps(document, indent=2) + "\n")

    def save_epoch(
        self,
        record: dict[str, Any],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel | None = None,
        *,
        best: bool,
        calibration: Calibration | None = None,
    ) -> None:
        """Save weights, what their scores mean, and optimiser of a finished epoch, then make it count.

        Where weights are averaged, the average is what the checkpoint answers with.
        """
        name = f"epoch-{record['epoch']:04d}"
        target = self.checkpoints / name
        if target.exists():  # finished, but killed before run.json said so
            shutil.rmtree(target)
        with new_directory(target) as temporary:
            spec = self.spec.model_copy(update={"calibration": calibration})
            answering = model if average is None else average.module
            write_checkpoint(temporary, spec, self.config, answering.state_dict(), self.pca)
            if average is not None:
                save_tensors(temporary / _UNAVERAGED_FILE, model.state_dict())
            save_tensors(temporary / _OPTIMIZER_FILE, dict(_optimizer_tensors(model, optimizer)))
        self.history.append(record)
        self.last = name
        if best:
            self.best = name
        self.write()
        self._prune()

    def load_last(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: AveragedModel | None = None
    ) -> None:
        """Put the last finished epoch's weights, their average and the optimiser's state in place."""
        if self.last is None:
            return
        folder = self.checkpoints / self.last
        _load_weights(model, folder / (WEIGHTS_FILE if average is None else _UNAVERAGED_FILE))
        if average is not None:
            _load_weights(average.module, folder / WEIGHTS_FILE)
            average.n_averaged.fill_(1)  # more than none: the next step is averaged in, not copied
        saved = load_tensors(folder / _OPTIMIZER_FILE)
        for name, parameter in model.named_parameters():
            prefix = f"{name}|"
            state = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
            if state:
                if any(value.shape not in (parameter.shape, ()) for value in state.values()):
                    raise CheckpointError(
                        f"{folder / _OPTIMIZER_FILE}: what it holds of {name!r} has another shape than the weight: "
                        "restore it, or start the run again"
                    )
                device = parameter.device
                optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(device) for key, value in state.items()
                }

    def _prune(self) -> None:
        for folder in self.checkpoints.glob("epoch-*"):
            if folder.name not in (self.best, self.last):
                shutil.rmtree(folder, ignore_errors=True)


class _Record(BaseModel):
    """Of a finished epoch, as far as a resumed run goes by it."""

    epoch: int
    val: dict[str, float] | None


class _State(BaseModel):
    history: list[_Record]
    best: str | None
    last: str | None


def _load_weights(model: nn.Module, path: Path) -> None:
    weights = load_tensors(path)
    check_weights(weight_shapes(model), weights, str(path))
    model.load_state_dict(weights)


def load_run_config(directory: Path) -> RunConfig:
    """What a run trains.

    Raises:
        TrainingError: there is no run.
    """
    return parse_config(_read_run(directory).get("config"), source=str(directory / RUN_FILE))


def load_history(directory: Path) -> list[dict[str, Any]]:
    """A record for each finished epoch of a run.

    Raises:
        TrainingError: there is no run.
        CheckpointError: it is damaged.
    """
    history = _read_run(directory).get("history")
    if not isinstance(history, list):
        raise CheckpointError(f"{directory / RUN_FILE} holds no history: restore it, or start the run again")
    return history


def _read_run(directory: Path) -> dict[str, object]:
    path = directory / RUN_FILE
    if not path.is_file():
        raise TrainingError(f"{directory} holds no run to resume: leave out --resume to start one")
    return read_json(path)


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            yield f"{name}|{key}", value


def refuse_changes(saved: RunConfig, wanted: RunConfig, path: Path) -> None:
    """A resumed run trains what it began with.

    Raises:
        ConfigError: naming the first field that differs.
    """
    before, after = (config.model_dump(mode="json") for config in (saved, wanted))
    for section, values in before.items():
        if not isinstance(values, dict):
            values, other = {"": values}, {"": after[section]}
        else:
            other = after[section]
        for key, value in values.items():
            if other[key] != value:
                name = f"{section}.{key}".rstrip(".")
                raise ConfigError(
                    f"{path} was begun with {name}={value!r}, not {other[key]!r}: resume without changing it, "
                    "or start a new run"
                )
