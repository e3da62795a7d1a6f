"""Annotations of every format, read into the same records.

A file is parsed once, row by row; every fault goes to a `Sink`, which either raises at the first
error (:func:`read_annotations`) or collects them all (:func:`mrnet.data.check.check_dataset`).

Benchmark files by video (ActivityNet, TACoS, Charades-STA) are read as published, odd moments
included, so that query counts match the literature. Row files (QVHighlights, your own) are held to
more: a moment which is empty, reversed or outside its video is an error there.
"""

import codecs
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from mrnet.data.formats import PARSERS, Fault, Row, Severity, Sink, is_number, show
from mrnet.errors import DataError
from mrnet.types import HIGHEST_RATING, LONGEST_S, RATERS, Query, Span, VideoRecord

Durations = Callable[[str], float | None]

# Published durations carry float noise: 113.25999999999999 for a moment that ends at 113.26.
_ROUNDING_S = 1e-6


@dataclass(slots=True)
class ScannedVideo:
    """A video as scanned: its length in seconds (``None`` if unknown) and its queries by qid."""

    duration_s: float | None
    queries: dict[str, Query] = field(default_factory=dict)


def read_annotations(path: Path | Sequence[Path], *, durations: Durations | None = None) -> list[VideoRecord]:
    """Read an annotation file of any known format, or several as if they were one.

    Args:
        path: ``.json`` (id -> record: ActivityNet, Charades-STA, TACoS), ``.jsonl`` (QVHighlights, or
            rows of video, start, end, query), ``.csv`` (such rows), ``.txt`` (Charades-STA), ``.vtt``
            (WebVTT: a cue is a moment and its query), ``.eaf`` (ELAN: so is an annotation).
        durations: length in seconds of a video whose file gives none, ``None`` if unknown.

    Returns:
        Videos in file order. Times in seconds, clamped to [0, duration]; sentences as they are
        written, blanks at their ends included; a moment published end first is turned round.

    Raises:
        DataError: a file is missing, of no known format, or an entry cannot be used.
    """
    paths = [path] if isinstance(path, Path) else path

    def refuse(kind: Fault, severity: Severity, where: str, text: str) -> None:  # noqa: ARG001
        if severity == "error":
            raise DataError(f"{where}: {text}")

    records = [
        VideoRecord(video_id, video.duration_s, tuple(sorted(video.queries.values(), key=_first_start)))
        for video_id, video in scan(paths, refuse, durations).items()
        if video.duration_s is not None and video.queries
    ]
    if not records:
        found = f"{paths[0]}: holds" if len(paths) == 1 else f"{len(paths)} annotation files hold"
        raise DataError(f"{found} no queries; give a file with at least one")
    return records


def scan(path: Path | Sequence[Path], sink: Sink, durations: Durations | None = None) -> dict[str, ScannedVideo]:
    """Parse a file, handing every fault to ``sink``; what is at fault is left out of the result.

    Several files are read as if they were one, and their faults say in which one they are.

    Raises:
        DataError: a file as a whole cannot be read; and whatever ``sink`` raises.
    """
    table = _Table(durations)
    for file in [path] if isinstance(path, Path) else path:
        parse = PARSERS.get(file.suffix.lower())
        if parse is None:
            raise DataError(f'{file}: unknown format "{file.suffix}"; name it {", ".join(PARSERS)}')
        table.sink = sink if isinstance(path, Path) else _naming(file, sink)
        for row in parse(_read(file), file, table.sink):
            table.add(row)
    return table.videos


def _naming(path: Path, sink: Sink) -> Sink:
    """The sink, told of the file as well."""

    def take(kind: Fault, severity: Severity, where: str, text: str) -> None:
        sink(kind, severity, f"{path}: {where}", text)

    return take


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
        # UTF-16 begins with a byte order mark. Spreadsheets put one before UTF-8, too; "-sig" takes it off.
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the annotation file") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line}: not UTF-8 text; save the file as UTF-8") from error


class _Table:
    """Looks at rows and files those without errors under their videos."""

    sink: Sink  # of the file that rows are added from

    def __init__(self, durations: Durations | None) -> None:
        self.videos: dict[str, ScannedVideo] = {}
        self._durations = durations
        self._stated: dict[str, Any] = {}
        self._video_of: dict[str, str] = {}

    def add(self, row: Row) -> None:
        if not _is_text(row.video_id):
            self._fault(row, Fault.MALFORMED, f"the video id is {show(row.video_id)}; it should be a name")
            return
        video = self._video(row)
        moments = self._moments(row, video.duration_s)
        if not isinstance(row.text, str) or not row.text.strip():
            self._fault(row, Fault.EMPTY_SENTENCE, f"the sentence is {show(row.text)}; write one")
        elif not _is_text(row.text):
            self._fault(
                row, Fault.MALFORMED, f"the sentence {show(row.text)} holds half a character; write it anew"
            )
        elif moments is not None and self._extras_are_sound(row):
            self._file_query(row, video, moments)

    def _fault(self, row: Row, kind: Fault, text: str, severity: Severity = "error") -> None:
        self.sink(kind, severity, row.where, text)

    def _video(self, row: Row) -> ScannedVideo:
        video = self.videos.get(row.video_id)
        if video is None:
            self._stated[row.video_id] = row.duration
            video = self.videos[row.video_id] = ScannedVideo(self._duration(row))
        stated = self._stated[row.video_id]
        # "is not" first: a NaN, already reported, differs from itself.
        if row.duration is not None and row.duration is not stated and row.duration != stated:
            text = f"`duration` is {show(row.duration)}, but {show(stated)} in the first row of this video"
            self._fault(row, Fault.BAD_DURATION, f"{text}; make them the same")
        return video

    def _duration(self, row: Row) -> float | None:
        stated = row.duration
        if stated is None and self._durations is not None:
            stated = self._durations(row.video_id)
        if stated is None:
            text = f'the length of "{row.video_id}" is unknown; give its `duration` in seconds'
            self._fault(row, Fault.NO_DURATION, text)
            return None
        if not is_number(stated) or not 0 < stated <= LONGEST_S:
            most = "" if not is_number(stated) or stated <= 0 else f" and at most {LONGEST_S:g}"
            text = f'`duration` of "{row.video_id}" is {show(stated)}; it should be seconds, above 0{most}'
            self._fault(row, Fault.BAD_DURATION, text)
            return None
        return float(stated)

    def _moments(self, row: Row, duration_s: float | None) -> tuple[Span, ...] | None:
        """The moments in seconds, inside the video; ``None`` if one has an error."""
        if not isinstance(row.moments, list):
            text = f"`{row.moment_field}` is {show(row.moments)}; it should be a list of [start, end]"
            self._fault(row, Fault.MALFORMED, text)
            return None
        spans = [self._moment(row, pair, duration_s) for pair in row.moments]
        sound = tuple(span for span in spans if span is not None)
        return sound if len(sound) == len(spans) else None

    def _moment(self, row: Row, pair: Any, duration_s: float | None) -> Span | None:
        found = f"`{row.moment_field}` is {show(pair)}{' (frames)' if row.units_per_s != 1.0 else ''}"
        if not isinstance(pair, list) or len(pair) != 2 or not all(is_number(time) for time in pair):
            self._fault(row, Fault.BAD_TIME, f"{found}; it should be a start and an end, two finite numbers")
            return None
        start, end = (time / row.units_per_s for time in pair)
        odd: Severity = "warning" if row.published else "error"
        length = math.inf if duration_s is None else duration_s
        usable = row.published
        if end < start:
            self._fault(row, Fault.REVERSED, f"{found}: it ends before it starts; correct it", odd)
            start, end = end, start
        elif end == start:
            self._fault(row, Fault.EMPTY_MOMENT, f"{found}: it has no length; correct it", odd)
        elif start >= length or end <= 0:
            text = f"{found}: no part of it is within the {length:g} s of the video; are these seconds?"
            self._fault(row, Fault.OUTSIDE, text, odd)
        else:
            usable = True
            if start < 0 or end > length + _ROUNDING_S:
                text = f"{found}: it reaches out of the {length:g} s of the video and is cut to it"
                self._fault(row, Fault.OUTSIDE, text, "warning")
        return Span(min(max(start, 0.0), length), min(max(end, 0.0), length)) if usable else None

    def _extras_are_sound(self, row: Row) -> bool:
        wrong = None
        if row.audio is not None and not _is_text(row.audio):
            wrong = f"`audios` holds {show(row.audio)}; it should be the name of a sound file"
        elif row.qid is not None and type(row.qid) is not int and not _is_text(row.qid):
            wrong = f"`qid` is {show(row.qid)}; it should be a number or a name"
        elif not _are_integers(row.clips, 0, LONGEST_S) or len(set(row.clips)) < len(row.clips):
            wrong = f"`relevant_clip_ids` is {show(row.clips)}; it should be a list of clip numbers, from 0 on"
        elif not isinstance(row.saliency, list | tuple) or not all(map(_are_ratings, row.saliency)):
            wrong = (
                f"`saliency_scores` is {show(row.saliency)}; it should be a list of lists of {RATERS} ratings, each "
                f"from 0 to {HIGHEST_RATING}"
            )
        elif len(row.clips) != len(row.saliency):
            counts = f"{len(row.clips)} `relevant_clip_ids` but {len(row.saliency)} `saliency_scores`"
            wrong = f"{counts}; give a list of ratings for every clip"
        if wrong is not None:
            self._fault(row, Fault.MALFORMED, wrong)
        return wrong is None

    def _file_query(self, row: Row, video: ScannedVideo, moments: tuple[Span, ...]) -> None:
        qid = f"{row.video_id}#{len(video.queries)}" if row.qid is None else str(row.qid)
        seen = video.queries.get(qid)
        continues = row.may_continue and row.qid is not None
        if continues and seen is not None and seen.text.strip() == row.text.strip():
            video.queries[qid] = replace(seen, moments=seen.moments + moments)
        elif qid in self._video_of:
            other = f'video "{self._video_of[qid]}"' if seen is None else f"the sentence {show(seen.text)}"
            text = f'qid "{qid}" was used before, for {other}; give every query its own'
            self._fault(row, Fault.DUPLICATE, text)
        else:
            self._video_of[qid] = row.video_id
            saliency = tuple(tuple(ratings) for ratings in row.saliency)
            video.queries[qid] = Query(
                row.text, moments, qid, row.audio, relevant_clips=tuple(row.clips), saliency=saliency
            )


def _first_start(query: Query) -> float:
    return min((span.start_s for span in query.moments), default=0.0)


def _are_integers(values: Any, least: float, most: float) -> bool:
    return isinstance(values, list | tuple) and all(
        type(value) is int and least <= value <= most for value in values
    )


def _are_ratings(values: Any) -> bool:
    return _are_integers(values, 0, HIGHEST_RATING) and len(values) == RATERS


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether this is text that can be written down again: JSON can spell half a character, files cannot."""
    try:
        return isinstance(value, str) and bool(value.strip()) and bool(value.encode())
    except UnicodeEncodeError:
        return False
