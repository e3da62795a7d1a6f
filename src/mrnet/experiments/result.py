"""What came of one run, as a line of a results file: enough for every table, and no place on anyone's disk."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from mrnet.config.parse import parse_section
from mrnet.config.run import EvaluationConfig
from mrnet.documents import parse_json
from mrnet.errors import ConfigError, DataError
from mrnet.evaluation.metrics import per_query_hits
from mrnet.evaluation.predictions import Prediction, align
from mrnet.experiments.definition import FileName, NetworkName
from mrnet.files import write_text
from mrnet.types import AskedProtocol, VideoRecord

RESULT_FILE = "result.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scored(_Record):
    """A split, answered.

    Attributes:
        metrics: protocol -> metric -> percent.
        tiou: of the first moment of every query, video by video, under ``single``; rounded down to thousandths, so
            that it passes a threshold where the moment does.
        queries: how many of them each video has.
    """

    metrics: dict[AskedProtocol, dict[str, float]]
    tiou: list[float]
    queries: list[int]


class Cost(_Record):
    """What a run took.

    Attributes:
        parameters: trained numbers.
        multiply_adds: of one query and one video, with plain convolutions.
        ms_per_query: of a processor's time for one query of a video whose features are there, on one thread.
        seconds: of training, and of scoring the validation split while training.
        epochs: trained.
        best_epoch: the one kept, by the validation split.
    """

    parameters: int
    multiply_adds: int
    ms_per_query: float
    seconds: float
    epochs: int
    best_epoch: int


class Result(_Record):
    """One run, or one baseline.

    Attributes:
        experiment: its name.
        reference: the variant that the experiment compares others with.
        variant: its name.
        network: what was trained; ``None`` for a baseline.
        blind: whether it saw no video.
        seed: ``None`` for a baseline.
        commit: of the package, if known.
        version: of the package.
        config: all settings, without paths.
        splits: name -> how it was answered.
        cost: ``None`` for a baseline.
    """

    experiment: FileName
    reference: str
    variant: FileName
    network: NetworkName | None
    blind: bool = False
    seed: int | None
    commit: str | None
    version: str
    config: dict[str, Any]
    splits: dict[str, Scored]
    cost: Cost | None


def score(
    predictions: Mapping[AskedProtocol, Sequence[Prediction]],
    records: Sequence[VideoRecord],
    config: EvaluationConfig,
) -> Scored:
    """Score the answers to a split.

    Args:
        predictions: protocol -> ranked moments of every query; ``single`` is one of them.
        records: the split.
        config: thresholds and ranks of recall.

    Raises:
        DataError: the answers of the split are withheld.
    """
    metrics: dict[AskedProtocol, dict[str, float]] = {}
    tiou: list[float] = []
    for protocol, ranked in predictions.items():
        aligned = align(ranked, records)
        hits = per_query_hits(aligned.predictions, aligned.truth, config.tious, config.ranks)
        metrics[protocol] = {name: round(100 * float(values.mean()), 3) for name, values in hits.items()}
        if protocol == "single":
            # Of a float32 that should be 0.7 and is a little less.
            tiou = (np.floor(hits["mIoU"] * 1000 + 1e-3) / 1000).tolist()
    return Scored(metrics=metrics, tiou=tiou, queries=[len(record.queries) for record in records])


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write results, a line each.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, "".join(result.model_dump_json() + "\n" for result in results))


def read_results(path: Path) -> list[Result]:
    """Read a file of results.

    Raises:
        DataError: it cannot be read, or a line is no result.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); give the folder of an experiment, "
            "or a file of results"
        ) from None
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def read_result(path: Path) -> Result:
    """Read the file of one run, or of one baseline.

    Raises:
        DataError: it cannot be read, or holds anything but one result.
    """
    results = read_results(path)
    if len(results) != 1:
        raise DataError(
            f"{path}: holds {len(results)} results, where there is one: remove it, and run the experiment again"
        )
    return results[0]


def _parse(line: str, where: str) -> Result:
    try:
        return parse_section(Result, parse_json(line), where)
    except (ValueError, ConfigError) as error:
        raise DataError(f"{where}: no result of `mrnet experiment` ({error})") from None
