"""What is wrong with a data set: its annotations, its features, and how the two fit together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnet.data.annotations import scan
from mrnet.data.formats import Fault, Severity
from mrnet.errors import FeatureError, VideoError, visible
from mrnet.features.extraction.extract import video_files
from mrnet.features.store.reader import FeatureStore, find_close, open_store
from mrnet.media.video import probe

_EXAMPLES = 5
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of fault.

    Attributes:
        kind: what is wrong, in a few words.
        severity: ``"error"``: it cannot be read or trained on; ``"warning"``: it is read, but not as
            written; ``"note"``: harmless.
        count: how often it occurs.
        examples: the first five places, with what was found there.
    """

    kind: str
    severity: Severity
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything found.

    Attributes:
        problems: errors first, then warnings, then notes.
        videos: annotated videos.
        queries: queries that can be read.
        feature_files: ids in the feature store; ``None`` if no features were given.
    """

    problems: list[Problem]
    videos: int
    queries: int
    feature_files: int | None

    @property
    def ok(self) -> bool:
        """Whether the data set can be used: no errors; warnings and notes do not count."""
        return all(problem.severity != "error" for problem in self.problems)


def check_dataset(
    annotations: Path | Sequence[Path], features: Path | None, dim: int | None = None
) -> CheckReport:
    """List what is wrong with a data set. Reads the features of every annotated video.

    Args:
        annotations: an annotation file of any known format, or several.
        features: the video features, or a folder of videos; ``None`` to check the annotations alone.
        dim: the width that feature rows should have; by default that of most of them.

    Raises:
        DataError: the annotation file as a whole cannot be read.
        FeatureError: the feature store as a whole cannot be opened.
    """
    found = _Findings()
    files = {} if features is None else video_files(features)
    store = None if features is None or files else open_store(features)

    def duration_s(video_id: str) -> float | None:
        try:
            if video_id in files:
                return probe(files[video_id]).duration_s
            return None if store is None else store.duration_s(video_id)
        except (FeatureError, VideoError):
            return None  # said below, where every file is read

    videos = scan(annotations, found.take_fault, duration_s)
    if found.ok and not any(video.queries for video in videos.values()):
        found.add("no queries", "error", "there is no query that can be used; give a file with at least one")
    feature_ids = None if features is None else sorted(files) if store is None else store.ids()
    if feature_ids is not None:
        readable = _check_presence(feature_ids, list(videos), "video" if files else "features", found)
        if store is None:
            _check_videos([files[video_id] for video_id in readable], found)
        else:
            _check_features(store, readable, dim, found)
    return CheckReport(
        problems=found.problems(),
        videos=len(videos),
        queries=sum(len(video.queries) for video in videos.values()),
        feature_files=None if feature_ids is None else len(feature_ids),
    )


def format_report(report: CheckReport) -> str:
    """The report as plain text, some lines a problem."""
    counts = [_counted(report.videos, "video"), _counted(report.queries, "query", "queries")]
    if report.feature_files is not None:
        counts.append(f"features of {report.feature_files}")
    lines = [", ".join(counts)]
    for problem in report.problems:
        lines.append(f"{problem.severity}: {problem.kind}: {problem.count}")
        lines += [f"    {visible(example)}" for example in problem.examples]
        if problem.count > len(problem.examples):
            lines.append(f"    … and {problem.count - len(problem.examples)} more")
    totals = Counter(problem.severity for problem in report.problems)
    kinds = [
        _counted(totals[severity], f"kind of {severity}", f"kinds of {severity}")
        for severity in _ORDER
        if totals[severity]
    ]
    lines.append(", ".join(kinds) or "no problems found")
    return "\n".join(lines)


class _Findings:
    """Counts faults by kind and keeps the first few of each."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Severity]] = Counter()
        self._examples: dict[tuple[str, Severity], list[str]] = {}

    def add(self, kind: str, severity: Severity, example: str) -> None:
        self._counts[kind, severity] += 1
        if self.wants_example(kind, severity):
            self._examples.setdefault((kind, severity), []).append(example)

    @property
    def ok(self) -> bool:
        """Whether there is no error so far."""
        return all(severity != "error" for _, severity in self._counts)

    def wants_example(self, kind: str, severity: Severity) -> bool:
        return len(self._examples.get((kind, severity), ())) < _EXAMPLES

    def take_fault(self, kind: Fault, severity: Severity, where: str, text: str) -> None:
        # Not an error here: the reader can be told the lengths, by whoever has the videos.
        known = "warning" if kind is Fault.NO_DURATION else severity
        self.add(kind.value, known, f"{where}: {text}")

    def problems(self) -> list[Problem]:
        ordered = sorted(self._counts.items(), key=lambda item: _ORDER.index(item[0][1]))
        return [
            Problem(kind, severity, count, tuple(self._examples[kind, severity]))
            for (kind, severity), count in ordered
        ]


def _check_presence(feature_ids: list[str], video_ids: list[str], what: str, found: _Findings) -> list[str]:
    """The annotated videos that have features, or a file; ``what`` says which is looked for."""
    available = set(feature_ids)
    for video_id in video_ids:
        if video_id not in available:
            # Looking for close names is slow; done for the examples alone.
            wanted = found.wants_example(f"missing {what}", "error")
            hint = find_close(video_id, feature_ids) if wanted else ""
            found.add(f"missing {what}", "error", f'"{video_id}" is annotated but has no {what}{hint}')
    for feature_id in sorted(available.difference(video_ids)):
        found.add(f"unused {what}", "note", f'"{feature_id}" has {what} but is not annotated')
    return [video_id for video_id in video_ids if video_id in available]


def _check_videos(files: list[Path], found: _Findings) -> None:
    for file in files:
        try:
            probe(file)
        except VideoError as error:
            found.add("unreadable video", "error", str(error))


def _check_features(store: FeatureStore, video_ids: list[str], dim: int | None, found: _Findings) -> None:
    duplicates = store.duplicates()
    for names in duplicates.values():
        found.add("duplicate features", "error", f"{', '.join(names)}: keep one of these")
    widths: dict[str, int] = {}
    for video_id in video_ids:
        if video_id not in duplicates:
            _check_rows(store, video_id, widths, found)
    _check_widths(widths, dim, found)


def _check_rows(store: FeatureStore, video_id: str, widths: dict[str, int], found: _Findings) -> None:
    try:
        rows = store.read_unchecked(video_id)
    except FeatureError as error:
        found.add("unreadable features", "error", str(error))
        return
    widths[video_id] = rows.shape[1]
    if len(rows) == 0:
        found.add("empty features", "error", f'"{video_id}" has no rows; extract its features again')
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        text = f'"{video_id}": NaN or infinity in {bad.size} of {len(rows)} rows, first in row {bad[0]}'
        found.add("features not finite", "error", text)


def _check_widths(widths: dict[str, int], dim: int | None, found: _Findings) -> None:
    if not widths:
        return
    expected, reason = dim, "was asked for"
    if expected is None:
        expected, reason = Counter(widths.values()).most_common(1)[0][0], "is that of most"
    for video_id, width in widths.items():
        if width != expected:
            found.add("wrong width", "error", f'"{video_id}" has rows of width {width}; {expected} {reason}')


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
