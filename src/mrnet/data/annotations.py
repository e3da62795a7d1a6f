"""Annotations of every format, read into the same records.

A file is parsed once, row by row; every fault goes to a `Sink`, which either raises at the first
error (:func:`read_annotations`) or collects them all (:func:`mrnet.data.check.check_dataset`).

Benchmark files by video (ActivityNet, TACoS, Charades-STA) are read as published, odd moments
included, so that query counts match the literature. Row files (QVHighlights, your own) are held to
more: a moment which is empty, reversed or outside its video is an error there.
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from mrnet.errors import DataError
from mrnet.types import VIDEO_SUFFIXES, Query, Span, VideoRecord

Severity = Literal["error", "warning", "note"]
Durations = Callable[[str], float | None]

# Published durations carry float noise: 113.25999999999999 for a moment that ends at 113.26.
_ROUNDING_S = 1e-6
_OWN_FIELDS = ("video", "start", "end", "query")


class Kind(StrEnum):
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

    def __call__(self, kind: Kind, severity: Severity, where: str, text: str) -> None: ...


@dataclass(slots=True)
class ScannedVideo:
    """A video as scanned: its length in seconds (``None`` if unknown) and its queries by qid."""

    duration_s: float | None
    queries: dict[str, Query] = field(default_factory=dict)


@dataclass(slots=True)
class _Row:
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


def read_annotations(path: Path, *, durations: Durations | None = None) -> list[VideoRecord]:
    """Read an annotation file of any known format.

    Args:
        path: ``.json`` (id -> record: ActivityNet, Charades-STA, TACoS), ``.jsonl`` (QVHighlights, or
            rows of video, start, end, query), ``.csv`` (such rows), ``.txt`` (Charades-STA).
        durations: length in seconds of a video whose file gives none, ``None`` if unknown.

    Returns:
        Videos in file order. Times in seconds, clamped to [0, duration]; sentences stripped of
        surrounding blanks; a moment published end first is turned round.

    Raises:
        DataError: the file is missing, of no known format, or an entry cannot be used.
    """

    def refuse(kind: Kind, severity: Severity, where: str, text: str) -> None:  # noqa: ARG001
        if severity == "error":
            raise DataError(f"{path}: {where}: {text}")

    records = [
        VideoRecord(video_id, video.duration_s, tuple(sorted(video.queries.values(), key=_first_start)))
        for video_id, video in scan(path, refuse, durations).items()
        if video.duration_s is not None and video.queries
    ]
    if not records:
        raise DataError(f"{path}: holds no queries; give a file with at least one")
    return records


def scan(path: Path, sink: Sink, durations: Durations | None = None) -> dict[str, ScannedVideo]:
    """Parse a file, handing every fault to ``sink``; what is at fault is left out of the result.

    Raises:
        DataError: the file as a whole cannot be read; and whatever ``sink`` raises.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise DataError(f'{path}: unknown format "{path.suffix}"; name it {", ".join(_PARSERS)}')
    try:
        # Spreadsheets put a byte order mark before UTF-8; "-sig" takes it off.
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the annotation file") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line}: not UTF-8 text; save the file as UTF-8") from error
    table = _Table(sink, durations)
    for row in parse(content, path, sink):
        table.add(row)
    return table.videos


class _Table:
    """Looks at rows and files those without errors under their videos."""

    def __init__(self, sink: Sink, durations: Durations | None) -> None:
        self.videos: dict[str, ScannedVideo] = {}
        self._sink = sink
        self._durations = durations
        self._stated: dict[str, Any] = {}
        self._video_of: dict[str, str] = {}

    def add(self, row: _Row) -> None:
        if not isinstance(row.video_id, str) or not row.video_id:
            self._fault(row, Kind.MALFORMED, f"the video id is {_show(row.video_id)}; it should be a name")
            return
        video = self._video(row)
        moments = self._moments(row, video.duration_s)
        if not isinstance(row.text, str) or not row.text.strip():
            self._fault(row, Kind.EMPTY_SENTENCE, f"the sentence is {_show(row.text)}; write one")
        elif moments is not None and self._extras_are_sound(row):
            self._file_query(row, video, moments)

    def _fault(self, row: _Row, kind: Kind, text: str, severity: Severity = "error") -> None:
        self._sink(kind, severity, row.where, text)

    def _video(self, row: _Row) -> ScannedVideo:
        video = self.videos.get(row.video_id)
        if video is None:
            self._stated[row.video_id] = row.duration
            video = self.videos[row.video_id] = ScannedVideo(self._duration(row))
        stated = self._stated[row.video_id]
        # "is not" first: a NaN, already reported, differs from itself.
        if row.duration is not None and row.duration is not stated and row.duration != stated:
            text = f"`duration` is {_show(row.duration)}, but {_show(stated)} in the first row of this video"
            self._fault(row, Kind.BAD_DURATION, f"{text}; make them the same")
        return video

    def _duration(self, row: _Row) -> float | None:
        stated = row.duration
        if stated is None and self._durations is not None:
            stated = self._durations(row.video_id)
        if stated is None:
            text = f'the length of "{row.video_id}" is unknown; give its `duration` in seconds'
            self._fault(row, Kind.NO_DURATION, text)
            return None
        if not _is_number(stated) or stated <= 0:
            text = f'`duration` of "{row.video_id}" is {_show(stated)}; it should be seconds, above 0'
            self._fault(row, Kind.BAD_DURATION, text)
            return None
        return float(stated)

    def _moments(self, row: _Row, duration_s: float | None) -> tuple[Span, ...] | None:
        """The moments in seconds, inside the video; ``None`` if one has an error."""
        if not isinstance(row.moments, list):
            text = f"`{row.moment_field}` is {_show(row.moments)}; it should be a list of [start, end]"
            self._fault(row, Kind.MALFORMED, text)
            return None
        spans = [self._moment(row, pair, duration_s) for pair in row.moments]
        sound = tuple(span for span in spans if span is not None)
        return sound if len(sound) == len(spans) else None

    def _moment(self, row: _Row, pair: Any, duration_s: float | None) -> Span | None:
        found = f"`{row.moment_field}` is {_show(pair)}{' (frames)' if row.units_per_s != 1.0 else ''}"
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_number(time) for time in pair):
            self._fault(row, Kind.BAD_TIME, f"{found}; it should be a start and an end, two finite numbers")
            return None
        start, end = (time / row.units_per_s for time in pair)
        odd: Severity = "warning" if row.published else "error"
        length = math.inf if duration_s is None else duration_s
        usable = row.published
        if end < start:
            self._fault(row, Kind.REVERSED, f"{found}: it ends before it starts; correct it", odd)
            start, end = end, start
        elif end == start:
            self._fault(row, Kind.EMPTY_MOMENT, f"{found}: it has no length; correct it", odd)
        elif start >= length or end <= 0:
            text = f"{found}: no part of it is within the {length:g} s of the video; are these seconds?"
            self._fault(row, Kind.OUTSIDE, text, odd)
        else:
            usable = True
            if start < 0 or end > length + _ROUNDING_S:
                text = f"{found}: it reaches out of the {length:g} s of the video and is cut to it"
                self._fault(row, Kind.OUTSIDE, text, "warning")
        return Span(min(max(start, 0.0), length), min(max(end, 0.0), length)) if usable else None

    def _extras_are_sound(self, row: _Row) -> bool:
        wrong = None
        if row.audio is not None and (not isinstance(row.audio, str) or not row.audio):
            wrong = f"`audios` holds {_show(row.audio)}; it should be the name of a sound file"
        elif row.qid is not None and type(row.qid) not in (str, int):
            wrong = f"`qid` is {_show(row.qid)}; it should be a number or a name"
        elif not _are_integers(row.clips):
            wrong = f"`relevant_clip_ids` is {_show(row.clips)}; it should be a list of clip numbers"
        elif not isinstance(row.saliency, list | tuple) or not all(map(_are_integers, row.saliency)):
            wrong = f"`saliency_scores` is {_show(row.saliency)}; it should be a list of lists of ratings"
        elif len(row.clips) != len(row.saliency):
            counts = f"{len(row.clips)} `relevant_clip_ids` but {len(row.saliency)} `saliency_scores`"
            wrong = f"{counts}; give a list of ratings for every clip"
        if wrong is not None:
            self._fault(row, Kind.MALFORMED, wrong)
        return wrong is None

    def _file_query(self, row: _Row, video: ScannedVideo, moments: tuple[Span, ...]) -> None:
        qid = f"{row.video_id}#{len(video.queries)}" if row.qid is None else str(row.qid)
        text = row.text.strip()
        seen = video.queries.get(qid)
        if row.may_continue and row.qid is not None and seen is not None and seen.text == text:
            video.queries[qid] = replace(seen, moments=seen.moments + moments)
        elif qid in self._video_of:
            other = f'video "{self._video_of[qid]}"' if seen is None else f"the sentence {_show(seen.text)}"
            text = f'qid "{qid}" was used before, for {other}; give every query its own'
            self._fault(row, Kind.DUPLICATE, text)
        else:
            self._video_of[qid] = row.video_id
            saliency = tuple(tuple(ratings) for ratings in row.saliency)
            video.queries[qid] = Query(text, moments, qid, row.audio, tuple(row.clips), saliency)


def _by_video(content: str, path: Path, sink: Sink) -> Iterator[_Row]:
    """JSON, id -> {duration | num_frames and fps, timestamps, sentences[, audios]}."""
    twice: list[str] = []

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):  # json would keep the last one and say nothing
            twice.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found

    try:
        videos = json.loads(content, object_pairs_hook=to_dict)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno}, column {error.colno}: not JSON ({error.msg}); get a whole copy, "
            "or name the file .jsonl if every line is an object of its own"
        ) from error
    if not isinstance(videos, dict):
        raise DataError(f"{path}: is a JSON {type(videos).__name__}; it should be an object, video id -> record")
    for key in twice:
        sink(Kind.DUPLICATE, "error", f'key "{key}"', "there more than once in one object; merge or remove it")
    for video_id, record in videos.items():
        yield from _queries_of_video(video_id, record, sink)


def _queries_of_video(video_id: str, record: Any, sink: Sink) -> Iterator[_Row]:
    where = f'video "{video_id}"'
    if not isinstance(record, dict):
        text = f"is {_show(record)}; it should be an object with timestamps and sentences"
        sink(Kind.MALFORMED, "error", where, text)
        return
    duration, fps = record.get("duration"), 1.0
    if duration is None and ("fps" in record or "num_frames" in record):
        frames, fps = record.get("num_frames"), record.get("fps", 0.0)
        if not _is_number(frames) or not _is_number(fps) or fps <= 0:
            text = f"`num_frames` is {_show(frames)} and `fps` {_show(fps)}; give both, as numbers above 0"
            sink(Kind.BAD_DURATION, "error", where, text)
            return
        duration = frames / fps
    columns: list[list[Any]] = []
    for name in ("timestamps", "sentences", *(["audios"] if "audios" in record else [])):
        column = record.get(name)
        if not isinstance(column, list):
            text = f"`{name}` is {_show(column)}; it should be a list, an item for every query"
            sink(Kind.MALFORMED, "error", where, text)
            return
        columns.append(column)
        if len(column) != len(columns[0]):
            text = f"{len(columns[0])} `timestamps` but {len(column)} `{name}`; give one for every query"
            sink(Kind.MALFORMED, "error", where, text)
            return
    if not columns[0]:
        sink(Kind.NO_QUERIES, "warning", where, "has no queries and is left out")
    for index, (moment, sentence, *audio) in enumerate(zip(*columns, strict=True)):
        yield _Row(
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


def _charades_lines(content: str, path: Path, sink: Sink) -> Iterator[_Row]:  # noqa: ARG001
    """Text, a line ``VIDEO start end##sentence``."""
    for where, line in _lines(content):
        head, mark, sentence = line.partition("##")
        parts = head.split()
        if not mark or len(parts) != 3:
            text = f"is {_show(line)}; it should read VIDEO start end##sentence"
            sink(Kind.MALFORMED, "error", where, text)
            continue
        yield _Row(where, parts[0], [[_to_number(time) for time in parts[1:]]], sentence, published=True)


def _json_lines(content: str, path: Path, sink: Sink) -> Iterator[_Row]:  # noqa: ARG001
    """JSON lines, of QVHighlights (``vid``) or with the fields of one's own rows (``video``)."""
    for where, line in _lines(content):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            text = f"column {error.colno}: not JSON ({error.msg}); a line should be one whole object"
            sink(Kind.MALFORMED, "error", where, text)
            continue
        if not isinstance(record, dict):
            sink(Kind.MALFORMED, "error", where, f"is {_show(record)}; a line should be an object")
        elif "vid" not in record:
            yield from _own_row(record, where, sink)
        elif record.get("qid") is None:
            sink(Kind.MALFORMED, "error", where, "has no `qid`; QVHighlights rows need one")
        else:
            yield _Row(
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


def _csv_rows(content: str, path: Path, sink: Sink) -> Iterator[_Row]:
    """CSV with a header; columns as in :func:`_own_row`."""
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        header = reader.fieldnames or []
        missing = [name for name in _OWN_FIELDS if name not in header]
        if missing:
            raise DataError(
                f"{path}: line 1: no column {', '.join(missing)} in the header {_show(','.join(header))}; "
                "the first line should read video,start,end,query"
            )
        for cells in reader:
            where = f"line {reader.line_num}"
            if None in cells or None in cells.values():
                text = f"not {len(header)} cells as in the header; put quotes round a sentence with commas"
                sink(Kind.MALFORMED, "error", where, text)
                continue
            record: dict[str, Any] = {name: cell for name, cell in cells.items() if cell or name == "query"}
            record |= {name: _to_number(record[name]) for name in ("start", "end", "duration") if name in record}
            yield from _own_row(record, where, sink)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.reader.line_num}: not CSV ({error}); check its quotes") from error


def _own_row(record: dict[str, Any], where: str, sink: Sink) -> Iterator[_Row]:
    """{video, start, end, query[, duration, qid]}; rows of one video and qid are one query."""
    missing = [f"`{name}`" for name in _OWN_FIELDS if name not in record]
    if missing:
        text = f"no {', '.join(missing)}; a row needs video, start, end and query"
        sink(Kind.MALFORMED, "error", where, text)
        return
    name = record["video"]
    if isinstance(name, str) and name.lower().endswith(VIDEO_SUFFIXES):
        name = name[: name.rindex(".")]
    yield _Row(
        where,
        name,
        [[record["start"], record["end"]]],
        record["query"],
        record.get("duration"),
        record.get("qid"),
        moment_field="start, end",
        may_continue=True,
    )


_PARSERS: dict[str, Callable[[str, Path, Sink], Iterator[_Row]]] = {
    ".json": _by_video,
    ".jsonl": _json_lines,
    ".csv": _csv_rows,
    ".txt": _charades_lines,
}


def _lines(content: str) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, with their places. Not ``splitlines``: sentences may hold U+2028."""
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line.strip()


def _first_start(query: Query) -> float:
    return min((span.start_s for span in query.moments), default=0.0)


def _to_number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _is_number(value: Any) -> bool:
    """Whether this can be a time: a number, and neither NaN nor beyond all use."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _are_integers(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(type(value) is int for value in values)


def _show(value: Any) -> str:
    """A value as JSON has it, shortened to fit a line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
