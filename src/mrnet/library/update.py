"""Bring a library up to date with a folder: only what is new is encoded.

A file is known by its path, what is in it by its content. One that is where it was and looks as it did is taken as
unchanged; of any other, the content is looked at, and only if no file of the library has or had it is it encoded. What
is finished is written every few seconds, so that an update that was interrupted goes on where it was.
"""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrnet.errors import FeatureError, LibraryError, VideoError, one_line
from mrnet.features.backbone import Rows
from mrnet.features.cache import fingerprint
from mrnet.features.extraction.pipeline import Outcomes
from mrnet.features.store.writer import check_rows
from mrnet.library.folder import File, Listing, is_below
from mrnet.library.store import Store, Video
from mrnet.library.vectors import EXACT_ROWS
from mrnet.predictor import Predictor
from mrnet.retrieval.said import Said

Encode = Callable[[Mapping[str, Path]], Outcomes]
"""Gives the rows of files by id, or why there are none."""

# What is finished is written when it comes to so many rows, or when so many seconds have passed.
_ROWS_AT_ONCE, _EVERY_S = 4096, 10.0
_PROJECTED_AT_ONCE = 4096


@dataclass
class UpdateReport:
    """What became of the files of a folder.

    Attributes:
        added: new in the library.
        changed: whose content or subtitles are others than before.
        moved: ``(from, to)``, of the content that they had elsewhere.
        deleted: no longer in the folder.
        failed: file or folder -> why it cannot be taken in, in one line.
        unchanged: how many are as they were.
        media_s: length of what was encoded, in seconds.
        wall_s: seconds it all took.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    media_s: float = 0.0
    wall_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON; docs/library.md has the schema."""
        return {
            "added": self.added,
            "changed": self.changed,
            "moved": [{"from": before, "to": now} for before, now in self.moved],
            "deleted": self.deleted,
            "failed": self.failed,
            "unchanged": self.unchanged,
            "media_s": round(self.media_s, 3),
            "wall_s": round(self.wall_s, 3),
        }


class Update:
    """Bring a library up to date with a folder, while no other process does.

    Args:
        store: the library, made.
        predictor: that answers from it.
        folder: absolute.
        listing: of what it holds.
        encode: gives the rows of files that are not in the cache.
        project: turns ``(r, c)`` rows into the ``(r, e)`` vectors that are searched.
        on_progress: told how many files are encoded, and of how many; what it raises ends the update, and what is
            finished stays.
    """

    def __init__(
        self,
        store: Store,
        predictor: Predictor,
        folder: Path,
        listing: Listing,
        encode: Encode,
        project: Callable[[Tensor], Tensor],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._store, self._predictor, self._folder = store, predictor, folder
        self._listing = listing
        self._encode, self._project, self._on_progress = encode, project, on_progress
        self._report = UpdateReport()
        self._known = {video.path: video for video in store.videos()}
        self._said = {video.said for video in self._known.values()} & store.counts("said").keys()
        self._rows: list[tuple[int, Rows, Tensor]] = []
        self._texts: list[tuple[int, Said]] = []
        self._videos: list[Video] = []
        self._written_s = time.monotonic()

    def run(self) -> UpdateReport:
        """What was done.

        Raises:
            LibraryError: the library cannot be written.
        """
        started_s = time.monotonic()
        listing = self._listing
        self._report.failed.update(listing.failed)
        below = [path for path in self._known if is_below(path, self._folder)]
        self._store.remove_unused()
        counts = self._store.counts("rows")
        by_content = {video.content: video for video in self._known.values()}
        whole = {content: video for content, video in by_content.items() if counts[content] == video.num_rows}
        self._store.remove_keys("rows", by_content.keys() - whole)
        gone = {
            path
            for path in below
            if path not in listing.files and not any(is_below(path, failed) for failed in listing.failed)
        }
        todo = self._sort(listing.files, whole, gone)
        self._report.deleted = sorted(gone)
        self._write()
        self._store.remove_videos([*self._report.deleted, *(before for before, _ in self._report.moved)])
        self._store.remove_unused()
        try:
            self._encode_all(todo)
            self._write()
        except BaseException as error:  # Ctrl-C too
            if not isinstance(error, LibraryError):
                with suppress(LibraryError):
                    self._write()
            raise
        self._store.remove_videos(
            path for path in self._report.failed if path in self._known and path in listing.files
        )
        self._store.remove_unused()
        self._store.compact()
        for name in ("rows", "passages"):
            self._store.index(name, EXACT_ROWS)
        self._report.wall_s = time.monotonic() - started_s
        return self._report

    def _sort(
        self, files: Mapping[str, File], whole: Mapping[int, Video], gone: set[str]
    ) -> dict[int, list[File]]:
        """Take in what need not be encoded.

        Args:
            files: of the folder.
            whole: a video of each content whose rows are there.
            gone: paths of the library that are no longer in the folder; those that have moved are taken out.

        Returns:
            the others, by content.
        """
        homes: dict[int, list[str]] = defaultdict(list)  # where a content was, and is no longer
        for path, video in self._known.items():
            if path in gone or (not is_below(path, self._folder) and not Path(path).exists()):
                homes[video.content].append(path)
        todo: dict[int, list[File]] = defaultdict(list)
        for path, file in files.items():
            before = self._known.get(path)
            if before is not None and before.stamp == file.stamp and self._is_whole(before, whole):
                self._report.unchanged += 1
                continue
            try:
                content = _key(fingerprint(Path(path)))
                twin = whole.get(content)
                if twin is None:
                    todo[content].append(file)
                    continue
                video = self._describe(file, content, twin.duration_s, twin.num_rows, twin.note)
            except OSError as error:
                self._report.failed[path] = f"cannot be read ({error.strerror})"
            except VideoError as error:
                self._report.failed[path] = _reason(error, path)
            else:
                self._videos.append(video)
                home = homes[content].pop() if before is None and homes[content] else None
                if home is not None:
                    gone.discard(home)
                    self._report.moved.append((home, path))
                else:
                    self._count(before, video)
        return todo

    def _is_whole(self, video: Video, whole: Mapping[int, Video]) -> bool:
        return video.content in whole and (video.said is None or video.said in self._said)

    def _encode_all(self, todo: Mapping[int, list[File]]) -> None:
        self._on_progress(0, len(todo))
        paths = {str(content): Path(files[0].path) for content, files in todo.items()}
        with closing(self._predictor.videos.encode_rows(paths, self._encode)) as outcomes:
            for done, (content, outcome) in enumerate(outcomes, start=1):
                files = todo[int(content)]
                try:
                    if isinstance(outcome, str):
                        raise VideoError(outcome)
                    self._take(int(content), files, outcome)
                except (VideoError, FeatureError) as error:
                    self._report.failed.update({file.path: _reason(error, file.path) for file in files})
                rows = sum(len(rows) for _, rows, _ in self._rows)
                if rows >= _ROWS_AT_ONCE or time.monotonic() - self._written_s >= _EVERY_S:
                    self._write()
                self._on_progress(done, len(todo))

    def _take(self, content: int, files: list[File], outcome: Rows) -> None:
        """Take in files of one content.

        Raises:
            VideoError, FeatureError: they cannot be.
        """
        path = Path(files[0].path)
        rows = check_rows(path.name, outcome, outcome.shape[1])
        rows = self._predictor.engine.take_rows(rows, str(path))
        duration_s, note = self._predictor.videos.measure(path, rows)
        videos = [self._describe(file, content, duration_s, len(rows), note) for file in files]
        vectors = [self._project(part) for part in torch.split(torch.from_numpy(rows), _PROJECTED_AT_ONCE)]
        self._rows.append((content, rows, torch.cat(vectors)))
        self._videos += videos
        self._report.media_s += duration_s
        for video in videos:
            self._count(self._known.get(video.path), video)

    def _describe(self, file: File, content: int, duration_s: float, num_rows: int, note: str) -> Video:
        """A file as the library keeps it; what is said in it is kept to be written.

        Raises:
            VideoError: it does not open.
        """
        said = self._predictor.videos.read_said(Path(file.path))
        key = None
        if said is not None:
            key = _key(hashlib.sha256(json.dumps([len(said.vectors), said.cues]).encode()).hexdigest())
            if key not in self._said:
                self._said.add(key)
                self._texts.append((key, said))
        name = "" if said is None else said.name
        return Video(
            file.path, content, key, name, duration_s, num_rows, note, file.stamp, file.modified_s, time.time()
        )

    def _count(self, before: Video | None, video: Video) -> None:
        if before is None:
            self._report.added.append(video.path)
        elif (before.content, before.said) == (video.content, video.said):
            self._report.unchanged += 1
        else:
            self._report.changed.append(video.path)

    def _write(self) -> None:
        """Write what is finished, the files last."""
        self._store.add_rows(self._rows)
        self._store.add_said(self._texts)
        self._store.put_videos(self._videos)
        self._rows, self._texts, self._videos = [], [], []
        self._written_s = time.monotonic()


def _reason(error: Exception, path: str) -> str:
    """What is wrong with a file, in one line, without its name, which stands beside it."""
    return one_line(str(error).removeprefix(f"{path}: "))


def _key(digest: str) -> int:
    """A number of 63 bits, by which tables are searched faster than by a text."""
    return int(digest[:16], 16) >> 1
