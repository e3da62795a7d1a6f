"""Annotation files of every format, taken apart into rows.

A file that cannot be taken apart raises; an entry at fault goes to a `Sink`, and the others go on. What
a row holds is looked at later, alike for every format (:mod:`mrnet.data.annotations`).
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, Protocol, TypeGuard
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from mrnet.documents import parse_json, unescape
from mrnet.errors import DataError, one_line
from mrnet.types import VIDEO_SUFFIXES

Severity = Literal["error", "warning", "note"]

_OWN_FIELDS = ("video", "start", "end", "query")
_VTT_TIME = r"(?:(\d{1,6}):)?([0-5]\d):([0-5]\d\.\d{3})"
_VTT_TIMES = re.compile(rf"{_VTT_TIME}[ \t]*-->[ \t]*{_VTT_TIME}(?:[ \t].*)?")
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\s*")


class Fault(StrEnum):
    """What can be wrong with a row."""

    MALFORMED = "malformed entry"
    DUPLICATE = "duplicate id"
    NO_DURATION = "no duration"
    BAD_DURATION = "bad duration"
    BAD_TIME = "bad time"
    REVERSED = "moment ends before it starts"
    EMPTY_MOMENT = "moment of no length"
    OUTSIDE = "moment outside the video"
    EMPTY_SENTENCE = "empty sentence"
    NO_QUERIES = "video without queries"


class Sink(Protocol):
    """Takes a fault: its kind, how bad it is, where in the file, and what was found."""

    def __call__(self, kind: Fault, severity: Severity, where: str, text: str) -> None: ...


@dataclass(slots=True)
class Row:
    """A query as the file has it; nothing in it has been looked at yet."""

    where: str
    video_id: Any
    moments: Any  # should be [[start, end], …]
    text: Any
    duration: Any = None
    qid: Any = None
    audio: Any = None
    clips: Any = ()
    saliency: Any = ()
    moment_field: str = "timestamps"
    units_per_s: float = 1.0
    published: bool = False
    may_continue: bool = False  # a further moment of a query already seen


def _by_video(content: str, path: Path, sink: Sink) -> Iterator[Row]:
    """JSON, id -> {duration | num_frames and fps, timestamps, sentences[, audios]}."""
    twice: list[str] = []

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):  # json would keep the last one and say nothing
            twice.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found

    try:
        videos = parse_json(content, to_dict)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno}, column {error.colno}: not JSON ({error.msg}); get a whole copy, "
            "or name the file .jsonl if every line is an object of its own"
        ) from error
    if not isinstance(videos, dict):
        raise DataError(f"{path}: is a JSON {type(videos).__name__}; it should be an object, video id -> record")
    for key in twice:
        sink(Fault.DUPLICATE, "error", f'key "{key}"', "there more than once in one object; merge or remove it")
    for video_id, record in videos.items():
        yield from _queries_of_video(video_id, record, sink)


def _queries_of_video(video_id: str, record: Any, sink: Sink) -> Iterator[Row]:
    where = f'video "{video_id}"'
    if not isinstance(record, dict):
        text = f"is {show(record)}; it should be an object with timestamps and sentences"
        sink(Fault.MALFORMED, "error", where, text)
        return
    duration, fps = record.get("duration"), 1.0
    if duration is None and ("fps" in record or "num_frames" in record):
        frames, fps = record.get("num_frames"), record.get("fps", 0.0)
        if not is_number(frames) or not is_number(fps) or fps <= 0:
            text = f"`num_frames` is {show(frames)} and `fps` {show(fps)}; give both, as numbers above 0"
            sink(Fault.BAD_DURATION, "error", where, text)
            return
        duration = frames / fps
    columns: list[list[Any]] = []
    for name in ("timestamps", "sentences", *(["audios"] if "audios" in record else [])):
        column = record.get(name)
        if not isinstance(column, list):
            text = f"`{name}` is {show(column)}; it should be a list, an item for every query"
            sink(Fault.MALFORMED, "error", where, text)
            return
        columns.append(column)
        if len(column) != len(columns[0]):
            text = f"{len(columns[0])} `timestamps` but {len(column)} `{name}`; give one for every query"
            sink(Fault.MALFORMED, "error", where, text)
            return
    if not columns[0]:
        sink(Fault.NO_QUERIES, "warning", where, "has no queries and is left out")
    for index, (moment, sentence, *audio) in enumerate(zip(*columns, strict=True)):
        yield Row(
            f"{where}, query {index}",
            video_id,
            [moment],
            sentence,
            duration,
            audio=audio[0] if audio else None,
            moment_field=f"timestamps[{index}]",
            units_per_s=fps,
            published=True,
        )


def _charades_lines(content: str, path: Path, sink: Sink) -> Iterator[Row]:  # noqa: ARG001
    """Text, a line ``VIDEO start end##sentence``."""
    for where, line in _lines(content):
        head, mark, sentence = line.partition("##")
        parts = head.split()
        if not mark or len(parts) != 3:
            text = f"is {show(line)}; it should read VIDEO start end##sentence"
            sink(Fault.MALFORMED, "error", where, text)
            continue
        yield Row(where, parts[0], [[_to_number(time) for time in parts[1:]]], sentence, published=True)


def _json_lines(content: str, path: Path, sink: Sink) -> Iterator[Row]:  # noqa: ARG001
    """JSON lines, of QVHighlights (``vid``) or with the fields of one's own rows (``video``)."""
    for where, line in _lines(content):
        try:
            record = parse_json(line)
        except json.JSONDecodeError as error:
            text = f"column {error.colno}: not JSON ({error.msg}); a line should be one whole object"
            sink(Fault.MALFORMED, "error", where, text)
            continue
        if not isinstance(record, dict):
            sink(Fault.MALFORMED, "error", where, f"is {show(record)}; a line should be an object")
        elif "vid" not in record:
            yield from _own_row(record, where, sink)
        elif record.get("qid") is None:
            sink(Fault.MALFORMED, "error", where, "has no `qid`; QVHighlights rows need one")
        else:
            yield Row(
                where,
                record["vid"],
                record.get("relevant_windows", []),
                record.get("query"),
                record.get("duration"),
                record["qid"],
                clips=record.get("relevant_clip_ids", []),
                saliency=record.get("saliency_scores", []),
                moment_field="relevant_windows",
            )


def _csv_rows(content: str, path: Path, sink: Sink) -> Iterator[Row]:
    """CSV with a header; columns as in :func:`_own_row`."""
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        header = reader.fieldnames or []
        missing = [name for name in _OWN_FIELDS if name not in header]
        if missing:
            raise DataError(
                f"{path}: line 1: no column {', '.join(missing)} in the header {show(','.join(header))}; "
                "the first line should read video,start,end,query"
            )
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise DataError(f"{path}: line 1: column {show(twice[0])} is there twice; keep one of them")
        for cells in reader:
            where = f"line {reader.line_num}"
            if None in cells or None in cells.values():
                text = f"not {len(header)} cells as in the header; put quotes round a sentence with commas"
                sink(Fault.MALFORMED, "error", where, text)
                continue
            record: dict[str, Any] = {name: cell for name, cell in cells.items() if cell or name == "query"}
            record |= {name: _to_number(record[name]) for name in ("start", "end", "duration") if name in record}
            yield from _own_row(record, where, sink)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.reader.line_num}: not CSV ({error}); check its quotes") from error


def _own_row(record: dict[str, Any], where: str, sink: Sink) -> Iterator[Row]:
    """{video, start, end, query[, duration, qid]}; rows of one video and qid are one query."""
    missing = [f"`{name}`" for name in _OWN_FIELDS if name not in record]
    if missing:
        text = f"no {', '.join(missing)}; a row needs video, start, end and query"
        sink(Fault.MALFORMED, "error", where, text)
        return
    name = record["video"]
    yield Row(
        where,
        without_suffix(name) if isinstance(name, str) else name,
        [[record["start"], record["end"]]],
        record["query"],
        record.get("duration"),
        record.get("qid"),
        moment_field="start, end",
        may_continue=True,
    )


def _web_vtt(content: str, path: Path, sink: Sink) -> Iterator[Row]:
    """WebVTT: every cue is a moment and its query, of the video that the file is named after."""
    lines = re.split("\r\n|\r|\n", content)
    if not re.match(r"WEBVTT(\s|$)", lines[0]):
        raise DataError(f"{path}: line 1: is {show(lines[0])}; a WebVTT file begins with WEBVTT")
    video_id = without_suffix(path.stem)
    for blank, group in groupby(enumerate(lines, start=1), key=lambda numbered: not numbered[1].strip()):
        if blank:
            continue
        numbers, block = zip(*group, strict=True)
        timed = [index for index, line in enumerate(block) if "-->" in line]
        where = f"line {numbers[timed[0] if timed else 0]}"
        if not timed:
            # The lines below WEBVTT may describe the file.
            if numbers[0] > 1 and not re.match(r"(NOTE|STYLE|REGION)(\s|$)", block[0]):
                text = f"{show(block[0])} has no times; write 00:01.000 --> 00:02.500 above the text of a cue"
                sink(Fault.MALFORMED, "error", where, text)
            continue
        times = _VTT_TIMES.fullmatch(block[timed[0]].strip())
        if times is None or len(timed) > 1:
            text = (
                f"is {show(block[timed[0]])}; a cue is one line of times (00:01.000 --> 00:02.500) and then text"
            )
            sink(Fault.BAD_TIME, "error", where, text)
            continue
        ends = [_seconds(*times.groups()[:3]), _seconds(*times.groups()[3:])]
        text = unescape(re.sub("<[^<>]*>", "", " ".join(block[timed[0] + 1 :])))
        yield Row(where, video_id, [ends], one_line(text), moment_field="start, end")


def _seconds(hours: str | None, minutes: str, seconds: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)


def _elan(content: str, path: Path, sink: Sink) -> Iterator[Row]:
    """ELAN: every annotation, of whichever tier, is a moment and its query."""
    if "<!DOCTYPE" in content:
        raise DataError(
            f"{path}: has a DOCTYPE, which ELAN never writes and which may draw in other files; save it from ELAN"
        )
    try:
        document = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not XML ({error}); save it from ELAN again") from error
    if document.tag != "ANNOTATION_DOCUMENT":
        raise DataError(f"{path}: its first element is {show(document.tag)}, not ELAN's; save it from ELAN")
    video_id, origin_ms = _elan_video(document, path)
    slots = {
        slot.get("TIME_SLOT_ID"): time_ms
        for slot in document.iterfind("TIME_ORDER/TIME_SLOT[@TIME_SLOT_ID]")
        if is_number(time_ms := _to_number(slot.get("TIME_VALUE", "")))
    }
    by_id = {found.get("ANNOTATION_ID"): found for found in document.iterfind("TIER/ANNOTATION/*[@ANNOTATION_ID]")}
    for tier in document.iterfind("TIER"):
        for annotation in tier.iterfind("ANNOTATION/*"):
            where = f'tier "{tier.get("TIER_ID")}", annotation "{annotation.get("ANNOTATION_ID")}"'
            aligned = _elan_aligned(annotation, by_id)
            refs = [aligned.get("TIME_SLOT_REF1"), aligned.get("TIME_SLOT_REF2")]
            ends_ms = [slots[ref] for ref in refs if ref in slots]
            if len(ends_ms) < 2:
                text = "its start or its end has no time; align it in ELAN, or remove it"
                sink(Fault.BAD_TIME, "error", where, text)
                continue
            moment = [(time_ms + origin_ms) / 1000 for time_ms in ends_ms]
            query = one_line(annotation.findtext("ANNOTATION_VALUE", ""))
            yield Row(where, video_id, [moment], query, moment_field="start, end")


def _elan_video(document: Element, path: Path) -> tuple[str, float]:
    """The video that an ELAN file annotates, and where in it, in ms, the annotations have their time 0."""
    linked = {}
    for descriptor in document.iterfind("HEADER/MEDIA_DESCRIPTOR"):
        url = descriptor.get("MEDIA_URL") or descriptor.get("RELATIVE_MEDIA_URL") or ""
        linked[PureWindowsPath(unquote(url)).name] = descriptor.get("TIME_ORIGIN", "0")  # of either kind of path
    name = next((name for name in linked if name.lower().endswith(VIDEO_SUFFIXES)), next(iter(linked), ""))
    origin_ms = _to_number(linked.get(name, "0"))
    if not is_number(origin_ms):
        raise DataError(f"{path}: `TIME_ORIGIN` of {show(name)} is {show(origin_ms)}; it should be milliseconds")
    return Path(name).stem or without_suffix(path.stem), origin_ms


def _elan_aligned(annotation: Element, by_id: Mapping[str | None, Element]) -> Element:
    """The annotation whose times this one has: the one that it depends on in the end, or itself."""
    for _ in by_id:  # as often at most: the references may go in a circle
        parent = by_id.get(annotation.get("ANNOTATION_REF"))
        if parent is None:
            break
        annotation = parent
    return annotation


PARSERS: dict[str, Callable[[str, Path, Sink], Iterator[Row]]] = {
    ".json": _by_video,
    ".jsonl": _json_lines,
    ".csv": _csv_rows,
    ".txt": _charades_lines,
    ".vtt": _web_vtt,
    ".eaf": _elan,
}


def _lines(content: str) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, with their places. Not ``splitlines``: sentences may hold U+2028."""
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line.strip()


def without_suffix(name: str) -> str:
    """The id of a video from the name of its file, or from the id itself."""
    return name[: name.rindex(".")] if name.lower().endswith(VIDEO_SUFFIXES) else name


def _to_number(cell: str) -> float | str:
    """A number as people write it, so neither ``1_0`` nor ``nan``; anything else as it is."""
    return float(cell) if _NUMBER.fullmatch(cell) else cell


def is_number(value: Any) -> TypeGuard[float]:
    """Whether this can be a time: a number, and neither NaN nor beyond all use."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def show(value: Any) -> str:
    """A value as JSON has it, shortened to fit a line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
