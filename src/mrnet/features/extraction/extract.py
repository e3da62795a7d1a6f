"""From files or sentences to a feature store: what fails is listed, what is done stays done.

In three lines:

    backbone = make_backbone("video", "color-hog-motion")
    writer = open_writer(Path("features.h5"), backbone.provenance())
    report = extract(video_files(Path("videos")), backbone, writer)
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import av

from mrnet.errors import AudioError, FeatureError, one_line
from mrnet.features.backbone import Backbone, Modality
from mrnet.features.extraction.pipeline import Outcomes, Source, encode_all
from mrnet.features.store.writer import StoreWriter, check_id, check_rows, open_writer
from mrnet.media.container import open_media
from mrnet.progress import Progress
from mrnet.types import VIDEO_SUFFIXES

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac", ".wma")
"""Endings of sound files."""

UNITS: Mapping[Modality, str] = {"video": "video", "text": "sentence", "speech": "sound"}
"""What a source is called."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Report:
    """What became of the sources of a job.

    Attributes:
        done: ids that were encoded.
        skipped: ids that were stored already.
        failed: id -> why it could not be encoded, in one line.
        media_s: length of what was encoded, in seconds of video or sound; 0 for text.
        wall_s: seconds it took.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    media_s: float = 0.0
    wall_s: float = 0.0

    @property
    def speed(self) -> str:
        """``"38x real time"``; sentences a second for text."""
        wall_s = max(self.wall_s, 1e-9)
        speed, unit = (self.media_s, "x real time") if self.media_s else (len(self.done), " a second")
        return f"{speed / wall_s:.{0 if speed >= 10 * wall_s else 1}f}{unit}"


def video_files(folder: Path) -> dict[str, Path]:
    """Video files of a folder by id, the name without its ending; empty where ``folder`` is none or holds none.

    Raises:
        FeatureError: two files have one id.
    """
    return _media_files(folder, VIDEO_SUFFIXES)


def sound_files(folder: Path) -> dict[str, Path]:
    """As :func:`video_files`, of sound files, and of videos for their soundtracks."""
    return _media_files(folder, SOUND_SUFFIXES + VIDEO_SUFFIXES)


def extract(
    sources: Mapping[str, Source], backbone: Backbone, writer: StoreWriter, *, workers: int | None = None
) -> Report:
    """Encode sources into a store. Those stored already, of files that have not changed since, are skipped.

    A source that cannot be encoded is listed in the report, and the others go on. After a kill or Ctrl-C the
    same call goes on with what is missing.

    Args:
        sources: id -> file; for a text backbone, the sentence.
        backbone: the encoder.
        writer: the store, completed at the end.
        workers: sources decoded at a time; as many as there are processor cores if left out.

    Raises:
        FeatureError: the store cannot be written.
    """
    count = workers or os.cpu_count() or 1
    return collect(sources, backbone.kind, writer, lambda todo: encode_all(todo, backbone, count))


def collect(
    sources: Mapping[str, Source],
    kind: Modality,
    writer: StoreWriter,
    encode: Callable[[Mapping[str, Source]], Outcomes],
) -> Report:
    """Encode those sources that are not stored yet and store each as soon as it comes: what all engines share.

    Args:
        sources: id -> file or sentence.
        kind: of the backbone.
        writer: the store, completed at the end.
        encode: gives the outcome of every source passed to it, in any order; closed early on an interrupt.

    Raises:
        FeatureError: the store cannot be written.
    """
    started_s = time.monotonic()
    report = Report()
    origins = {feature_id: _origin(kind, source) for feature_id, source in sources.items()}
    todo = {feature_id: sources[feature_id] for feature_id in _missing(origins, kind, writer, report)}
    try:
        if todo:
            writer.begin()
        with closing(encode(todo)) as outcomes, Progress(len(todo), "encoding", UNITS[kind]) as progress:
            for feature_id, outcome in outcomes:
                try:
                    if isinstance(outcome, str):
                        raise FeatureError(outcome)
                    rows = check_rows(feature_id, outcome, writer.provenance.dim)
                except FeatureError as error:
                    report.failed[feature_id] = one_line(error)
                else:
                    writer.write(feature_id, rows, origins[feature_id])
                    report.done.append(feature_id)
                    rate = writer.provenance.rows_per_s
                    report.media_s += _length_s(kind, sources[feature_id], len(rows), rate)
                report.wall_s = time.monotonic() - started_s
                progress.update(speed=report.speed)
        writer.finish()
    except BaseException:  # Ctrl-C too
        writer.abandon()
        raise
    report.wall_s = time.monotonic() - started_s
    return report


def encode_videos(files: Mapping[str, Path], backbone: Backbone, out: Path) -> None:
    """Keep the features of some media files in an HDF5 file: those that are missing or out of date are encoded.

    Files that fail are warned of. Features of another backbone are replaced.

    Args:
        files: id -> file.
        backbone: the encoder.
        out: HDF5 file; appears only when it is complete.

    Raises:
        FeatureError: every file fails, or ``out`` cannot be read or written.
    """
    report = extract(files, backbone, open_writer(out, backbone.provenance(), "hdf5", replace=True))
    if report.failed and not report.done and not report.skipped:
        raise FeatureError(next(iter(report.failed.values())))
    for feature_id, reason in report.failed.items():
        log.warning("%s is left out: %s", feature_id, reason)


def _missing(origins: Mapping[str, str], kind: Modality, writer: StoreWriter, report: Report) -> Iterator[str]:
    """Ids that must be encoded; the others go into the report."""
    for feature_id, origin in origins.items():
        stored = writer.stored.get(feature_id)
        try:
            check_id(feature_id)
            if kind == "text" and stored and stored != origin:
                # Not encoded anew: two splits may name their queries alike, and would undo each other.
                raise FeatureError(
                    f"{writer.path} holds another sentence under this id; choose another store for this one"
                )
        except FeatureError as error:
            report.failed[feature_id] = str(error)
            continue
        if origin and stored == origin:
            report.skipped.append(feature_id)
        else:
            yield feature_id


def _origin(kind: Modality, source: Source) -> str:
    """What tells whether a source has changed; empty where it cannot be read."""
    if kind == "text":
        return f"sha256:{hashlib.sha256(str(source).encode(errors='surrogatepass')).hexdigest()}"
    try:
        stat = Path(source).stat()
    except (OSError, ValueError):
        return ""
    return f"{stat.st_size} bytes of {stat.st_mtime_ns}"


def _length_s(kind: Modality, source: Source, rows: int, rate: float | None) -> float:
    """Seconds of video or sound."""
    if rate is not None:
        return rows / rate
    if kind == "speech":
        with suppress(AudioError), open_media(Path(source), "sound", AudioError) as container:
            return (container.duration or 0) / av.time_base
    return 0.0


def _media_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    by_id: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in by_id:
                raise FeatureError(
                    f"{folder} holds {by_id[path.stem].name} and {path.name}, of one id: rename one"
                )
            by_id[path.stem] = path
    return by_id
