"""Follow whole trainings that the released implementation recorded, step by step, in float64.

Everything goes through what users get: the importer, the data as it lies in its released layout, the model, the
losses, the steps of the training loop and the evaluation.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from checks import Check, relative_difference, released_metrics, scaled_error, without_dropout
from mrnet.config.data import DataConfig
from mrnet.data.dataset import MomentDataset, load_batches
from mrnet.data.sources import open_source
from mrnet.errors import CheckpointError, DataError
from mrnet.evaluation.run import evaluate_predictions, predict
from mrnet.model.fast.routes import Route
from mrnet.model.mrnet import MRNet
from mrnet.retrieval.trained import TrainedScorer
from mrnet.training.trainer import Trainer
from mrnet.weights.native import build_model, load_tensors, read_json
from mrnet.weights.released import import_released

TOLERANCE = 1e-6
WEIGHT_TOLERANCE = 1e-5

LOSSES = ("iou", "video", "sentence", "sparsity", "total")


def trace_checks(directory: Path, route: Route) -> Iterator[Check]:
    """Every training in ``directory/traces``, on the data in ``directory/data``; says how long each one took.

    Args:
        directory: holds ``traces/NAME/`` (``trace.json``, ``initial.safetensors``, ``final.safetensors``) and
            ``data/SETTING/``.
        route: of the proposal convolutions.

    Raises:
        MRNetError: something of it is missing or malformed.
    """
    for folder in sorted(path for path in (directory / "traces").iterdir() if path.is_dir()):
        started = time.perf_counter()
        trace: dict[str, Any] = read_json(folder / "trace.json")
        missing = {"setting", "config", "steps", "epochs"} - trace.keys()
        if missing:
            raise CheckpointError(f"{folder / 'trace.json'} has no {min(missing)!r}: get the trace again")
        with _float64_on_one_thread():
            checks = _follow(folder, trace, directory / "data", route)
        yield from checks
        print(f"      {folder.name}: {len(trace['steps'])} steps, {time.perf_counter() - started:.1f} s")


def _follow(folder: Path, trace: dict[str, Any], data: Path, route: Route) -> list[Check]:
    name = folder.name
    imported = import_released(trace["config"], load_tensors(folder / "initial.safetensors"), source=name)
    config = without_dropout(imported.config)
    config = config.model_copy(update={"data": _released_layout(data, trace["setting"])})
    source = open_source(config.data)
    train_set = source.dataset(source.split("train"), config.model, imported.spec.provenances)
    test_set = source.dataset(source.split("test"), config.model, imported.spec.provenances)
    model = build_model(config.model, imported.weights, source=name, route=route)
    assert isinstance(model, MRNet)
    _take_float32_features(model)
    trainer = Trainer(model, config, Accelerator(cpu=True))
    scorer = TrainedScorer(model, config.decode, "joint")

    batches = load_batches(train_set, [_indices(train_set, step["vids"]) for step in trace["steps"]])
    metrics = {record["epoch"]: record["metrics"] for record in trace["epochs"]}
    errors: dict[str, list[float]] = defaultdict(list)
    for epoch, steps in groupby(trace["steps"], key=lambda step: int(step["epoch"])):
        trainer.begin_epoch(epoch)
        for expected in steps:
            record = trainer.step(next(batches))
            for loss in LOSSES:
                errors[f"loss: {loss}"].append(relative_difference(record.losses[loss], expected[loss]))
            errors["gradient norm"].append(relative_difference(record.norm, expected["norm"]))
            errors["learning rate"].append(relative_difference(record.lr, expected["lr"]))
        predictions = predict(scorer, test_set, config.decode.nms_threshold)
        found = evaluate_predictions(predictions, test_set.records, config.evaluation)
        found = released_metrics(found, config.evaluation.tious)
        for metric, value in metrics.get(epoch, {}).items():
            errors[metric].append(relative_difference(found[metric], value))

    final = import_released(trace["config"], load_tensors(folder / "final.safetensors"), source=name).weights
    state = model.state_dict()
    worst = {quantity: torch.tensor(each).max().item() for quantity, each in errors.items()}  # lets NaN through
    differences = torch.tensor([scaled_error(state[key], weight) for key, weight in final.items()])
    return [
        *(Check(name, quantity, error, TOLERANCE) for quantity, error in worst.items()),
        Check(name, "final weights", differences.max().item(), WEIGHT_TOLERANCE),
    ]


def _indices(dataset: MomentDataset, video_ids: list[str]) -> list[int]:
    places = {record.video_id: index for index, record in enumerate(dataset.records)}
    missing = [video_id for video_id in video_ids if video_id not in places]
    if missing:
        raise DataError(f"the trace trained on video {missing[0]!r}, which its data does not have: get it again")
    return [places[video_id] for video_id in video_ids]


def _released_layout(data: Path, setting: str) -> DataConfig:
    """Where the files of a released dataset lie: annotations, ``text/``, and the features of the videos.

    A setting like ``tacos+linear`` is trained on the data of ``tacos``.

    Raises:
        DataError: they are not there.
    """
    folder = data / setting.partition("+")[0]
    if not folder.is_dir():
        raise DataError(f"{folder} is not there: traces/ and data/ belong into one folder")
    videos = [path for path in folder.iterdir() if path.suffix != ".json" and path.name != "text"]
    if len(videos) != 1:
        raise DataError(f"{folder} should hold video features, text/ and annotations, but nothing else")
    train, test = (str(folder / f"{split}_audio_new.json") for split in ("train", "test"))
    return DataConfig(
        train=train, val=test, test=test, video_features=str(videos[0]), text_features=str(folder / "text")
    )


def _take_float32_features(model: MRNet) -> None:
    """Features are read and resampled in float32, as the released code does; the network takes them as float64."""
    for encoder in (model.clip_encoder, model.query_encoder):
        encoder.register_forward_pre_hook(lambda _, inputs: tuple(x.double() for x in inputs))


@contextmanager
def _float64_on_one_thread() -> Iterator[None]:
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
