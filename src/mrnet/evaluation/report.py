"""The report on a checkpoint: every kind of query and protocol that is asked for, on one split."""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mrnet.config.run import RunConfig
from mrnet.data.sources import DataSource, open_source
from mrnet.device import choose_device
from mrnet.errors import ConfigError
from mrnet.evaluation.absence import report_absence
from mrnet.evaluation.order import Shuffled
from mrnet.evaluation.predictions import Prediction, write_predictions
from mrnet.evaluation.run import evaluate
from mrnet.files import make_directory, write_text
from mrnet.model.ensemble import Network
from mrnet.retrieval.scorer import Scorer
from mrnet.retrieval.trained import EncodedVideo, TrainedScorer
from mrnet.retrieval.windows import WindowedScorer
from mrnet.types import AskedProtocol, QueryKind, QueryProtocol, VideoRecord
from mrnet.version import __version__, git_commit
from mrnet.weights.native import Checkpoint, load_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint on one kind of query of a split.

    Attributes:
        report: ready for JSON; its ``metrics`` are empty for a split whose answers are withheld.
        predictions: protocol -> ranked moments of every query.
        records: the split.
    """

    report: dict[str, Any]
    predictions: dict[AskedProtocol, list[Prediction]]
    records: Sequence[VideoRecord]


def evaluate_checkpoint(
    path: Path,
    config: RunConfig,
    split: Literal["val", "test"] = "test",
    protocols: Sequence[AskedProtocol] = ("single", "joint"),
    kinds: Sequence[QueryKind] | None = None,
    *,
    trusted: Collection[str] | None = None,
    device: str | None = None,
    memory_budget: int | None = None,
) -> dict[QueryKind, Evaluation]:
    """Evaluate a checkpoint under some protocols, beside the baselines.

    Args:
        path: a checkpoint folder, or a training run.
        config: where the split lies, how moments are decoded, what is reported.
        split: which of ``data.*``.
        protocols: which.
        kinds: of queries; each that the model takes if left out.
        trusted: encoders that may be loaded, as of :func:`mrnet.features.registry.make_backbone`.
        device: where the model runs; the best there is if left out.
        memory_budget: bytes that speed may cost, see :class:`mrnet.model.head.ProposalHead`.

    Raises:
        CheckpointError: nothing there, or damaged.
        ConfigError: the split is not named, or the model does not take such queries.
        DataError, FeatureError: the split cannot be read.
    """
    checkpoint = load_checkpoint(path)
    taken = checkpoint.spec.query_kinds
    kinds = kinds or taken
    foreign = [kind for kind in kinds if kind not in taken]
    if foreign:
        raise ConfigError(f"the model takes {taken[0]} queries alone: it cannot be asked {foreign[0]} ones")
    asked = config.data.model_copy(update={"query_kinds": list(kinds)})
    source = open_source(asked, trusted, checkpoint.spec.query_widths)
    model = checkpoint.build(memory_budget=memory_budget).to(choose_device(device))
    if not config.data.train:
        log.info("no baselines: they are fitted on training annotations, and data.train is not set")
    return {kind: _evaluate_kind(checkpoint, model, source, config, split, protocols, kind) for kind in kinds}


def _evaluate_kind(
    checkpoint: Checkpoint,
    model: Network,
    source: DataSource,
    config: RunConfig,
    split: Literal["val", "test"],
    protocols: Sequence[AskedProtocol],
    kind: QueryKind,
) -> Evaluation:
    spec = checkpoint.spec
    records = source.split(split, [kind])
    dataset = source.dataset(records, spec.model, spec.provenances)
    train = source.split("train", [kind]) if config.data.train else []

    def asked(protocol: QueryProtocol) -> WindowedScorer[EncodedVideo]:
        scorer = TrainedScorer(model, config.decode, protocol)
        return WindowedScorer(scorer, spec.trained_lengths)

    scorers: dict[str, Scorer[Any]] = {
        protocol: Shuffled(asked("joint"), config.train.seed) if protocol == "shuffled" else asked(protocol)
        for protocol in protocols
    }
    report, predictions = evaluate(scorers, dataset, train, config)
    if spec.calibration is not None and report["metrics"]:
        nms_threshold = config.decode.nms_threshold
        report["absence"] = report_absence(asked("single"), dataset, nms_threshold, spec.calibration)
    head = {
        "checkpoint": str(checkpoint.folder),
        "split": split,
        "query_kind": kind,
        "protocols": list(protocols),
    }
    tail = {
        "seed": config.train.seed,
        "commit": git_commit(),
        "version": __version__,
        "spec": spec.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
    }
    by_protocol = {protocol: predictions[protocol] for protocol in protocols}
    return Evaluation(head | report | tail, by_protocol, dataset.records)


def write_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Write ``report.json`` and ``predictions.PROTOCOL.jsonl`` into a folder; returns the path of the report.

    Raises:
        OutputError, DataError: they cannot be written.
    """
    make_directory(folder)
    for protocol, ranked in evaluation.predictions.items():
        write_predictions(folder / f"predictions.{protocol}.jsonl", ranked)
    path = folder / "report.json"
    write_text(path, json.dumps(evaluation.report, indent=2) + "\n")
    return path
