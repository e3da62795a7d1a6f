"""Prediction files: JSON lines in the form of QVHighlights submissions.

A line is ``{"qid", "query", "vid", "pred_relevant_windows": [[start_s, end_s, score], ...],
"pred_saliency_scores": [score of each 2-second clip]}``, the last key optional. The windows are
ranked: the first is the answer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrnet.data.formats import is_number
from mrnet.documents import parse_json
from mrnet.errors import DataError, brief
from mrnet.evaluation.metrics import pad_moments
from mrnet.files import write_text
from mrnet.types import Moment, Query, VideoRecord

_NAMED = 3  # qids spelt out in an error
_MOST_DIGITS = 19  # of a qid that is written as a number


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one query.

    Attributes:
        qid: identifier of the query.
        query: its sentence.
        vid: identifier of its video.
        windows: ranked moments, best first; none at all counts as a miss.
        saliency: a score for each 2-second clip, or ``None``.
    """

    qid: str
    query: str
    vid: str
    windows: tuple[Moment, ...]
    saliency: tuple[float, ...] | None = None


class Aligned(NamedTuple):
    """Predictions and ground truth of the same queries, in the order of the records.

    Attributes:
        predictions: ``(n, k, 2)``, in seconds, best first, padded with NaN.
        truth: ``(n, w, 2)``, in seconds, padded with NaN.
    """

    predictions: NDArray[np.float64]
    truth: NDArray[np.float64]


def read_predictions(path: Path) -> list[Prediction]:
    """Read a prediction file.

    Args:
        path: a file of JSON lines; blank lines are skipped.

    Raises:
        DataError: the file is missing, unreadable or empty; or a line is not JSON, lacks a key,
            repeats a qid, or holds a window that is not three finite numbers, start before end.
    """
    try:
        # Not splitlines(): it would also cut at separators that are legal inside a JSON string.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such prediction file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); give a file of JSON lines") from None

    predictions: list[Prediction] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        prediction = _parse(line, where)
        if prediction.qid in line_of:
            raise DataError(
                f"{where}: qid {prediction.qid} was already on line {line_of[prediction.qid]}; "
                "keep one line a query"
            )
        line_of[prediction.qid] = number
        predictions.append(prediction)
    if not predictions:
        raise DataError(f"{path}: the prediction file is empty; it needs one JSON line a query")
    return predictions


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write a prediction file; an earlier file stays whole until the new one is complete.

    Args:
        path: where to write.
        predictions: one a query.

    Raises:
        DataError: a number is NaN or infinite.
        OutputError: the file cannot be written.
    """
    write_text(path, "".join(f"{_line(prediction)}\n" for prediction in predictions))


def in_order(predictions: Sequence[Prediction], records: Sequence[VideoRecord]) -> list[Prediction]:
    """Put predictions in the order of the records' queries.

    Raises:
        DataError: some query has no prediction, some prediction has no query, or one is of another video.
    """
    by_qid = {prediction.qid: prediction for prediction in predictions}
    wanted = [query.qid for record in records for query in record.queries]
    missing = [qid for qid in wanted if qid not in by_qid]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(wanted)} annotated queries have no prediction: {_some(missing)}; "
            "predict the whole split"
        )
    known = set(wanted)
    extra = [qid for qid in by_qid if qid not in known]
    if extra:
        raise DataError(
            f"{len(extra)} of {len(by_qid)} predictions match no annotated query: {_some(extra)}; "
            "give the annotations of the split that was predicted"
        )
    ranked = [by_qid[qid] for qid in wanted]
    videos = [record.video_id for record in records for _ in record.queries]
    for prediction, video_id in zip(ranked, videos, strict=True):
        if prediction.vid != video_id:
            raise DataError(
                f"qid {prediction.qid} is predicted in video {prediction.vid!r}, but annotated in {video_id!r}; give "
                "the annotations of the split that was predicted"
            )
    return ranked


def queries_with_answers(records: Sequence[VideoRecord]) -> list[Query]:
    """The records' queries, flat, once every one of them is known to have a moment.

    Raises:
        DataError: some query has none.
    """
    queries = [query for record in records for query in record.queries]
    withheld = [query.qid for query in queries if not query.moments]
    if withheld:
        raise DataError(
            f"{len(withheld)} of {len(queries)} queries have no ground-truth moment: {_some(withheld)}; "
            "this split's answers are withheld; evaluate another, or submit the predictions to its server"
        )
    return queries


def align(predictions: Sequence[Prediction], records: Sequence[VideoRecord]) -> Aligned:
    """Arrays for :func:`mrnet.evaluation.metrics.recall_metrics`, matched by qid.

    Args:
        predictions: in any order.
        records: the annotations; their queries, flat, give the order of the arrays.

    Raises:
        DataError: queries and predictions are not the same set, or ground truth is withheld.
    """
    queries = queries_with_answers(records)
    ranked = in_order(predictions, records)
    return Aligned(
        predictions=pad_moments([[window[:2] for window in prediction.windows] for prediction in ranked]),
        truth=pad_moments([query.moments for query in queries]),
    )


def _parse(line: str, where: str) -> Prediction:
    try:
        row = parse_json(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); write one object a line"
        ) from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: got a JSON {type(row).__name__}, not an object; write one object a line")
    for key in ("qid", "query", "vid", "pred_relevant_windows"):
        if key not in row:
            raise DataError(
                f"{where}: key {key!r} is missing; a line needs qid, query, vid, pred_relevant_windows"
            )
    qid = row["qid"]
    if isinstance(qid, bool) or not isinstance(qid, int | str):
        raise DataError(f"{where}: qid is {brief(qid)}; give a whole number or text")
    for key in ("query", "vid"):
        if not isinstance(row[key], str):
            raise DataError(f"{where}: {key} is {brief(row[key])}; give text")
    windows = row["pred_relevant_windows"]
    if not isinstance(windows, list):
        raise DataError(f"{where}: pred_relevant_windows is not a list; give [[start_s, end_s, score], ...]")
    return Prediction(
        qid=str(qid),
        query=row["query"],
        vid=row["vid"],
        windows=tuple(_window(window, rank, where) for rank, window in enumerate(windows, start=1)),
        saliency=_saliency(row.get("pred_saliency_scores"), where),
    )


def _window(window: object, rank: int, where: str) -> Moment:
    if not isinstance(window, list) or len(window) != 3 or not all(map(is_number, window)):
        raise DataError(
            f"{where}: window {rank} is {brief(window)}; give three finite numbers [start_s, end_s, score]"
        )
    start_s, end_s, score = map(float, window)
    if end_s < start_s:
        raise DataError(
            f"{where}: window {rank} ends at {end_s:g} s, before its start at {start_s:g} s; swap them"
        )
    return Moment(start_s, end_s, score)


def _saliency(scores: object, where: str) -> tuple[float, ...] | None:
    if scores is None:
        return None
    if not isinstance(scores, list) or not scores or not all(map(is_number, scores)):
        raise DataError(
            f"{where}: pred_saliency_scores is not a list of finite numbers; give one a clip, or leave the key out"
        )
    return tuple(map(float, scores))


def _line(prediction: Prediction) -> str:
    qid = prediction.qid
    is_integer = qid.isdecimal() and len(qid) < _MOST_DIGITS and str(int(qid)) == qid
    row: dict[str, Any] = {
        "qid": int(qid) if is_integer else qid,
        "query": prediction.query,
        "vid": prediction.vid,
        "pred_relevant_windows": [list(window[:3]) for window in prediction.windows],
    }
    if prediction.saliency is not None:
        row["pred_saliency_scores"] = list(prediction.saliency)
    try:
        return json.dumps(row, allow_nan=False, ensure_ascii=False)
    except ValueError:
        raise DataError(f"qid {qid}: a predicted number is NaN or infinite; check the model's scores") from None


def _some(qids: Sequence[str]) -> str:
    named = ", ".join(qids[:_NAMED])
    return f"qid {named}, ..." if len(qids) > _NAMED else f"qid {named}"
