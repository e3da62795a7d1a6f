"""What the server remembers between two starts: videos and jobs, in one SQLite file."""

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mrnet.answer import AnswerJson
from mrnet.errors import OutputError
from mrnet.types import QueryKind

State = Literal["queued", "running", "done", "failed", "cancelled"]
"""Of a job; the last three are final."""

FINAL: tuple[State, ...] = ("done", "failed", "cancelled")

MOST_JOBS = 10_000
"""Jobs that are kept; of more, the oldest that have ended go."""

_VERSION = 2
_SCHEMA = """
CREATE TABLE videos (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, suffix TEXT NOT NULL, duration_s REAL NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, num_bytes INTEGER NOT NULL, added_s REAL NOT NULL, path TEXT NOT NULL
);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, video TEXT NOT NULL, query TEXT NOT NULL,
    kind TEXT NOT NULL, k INTEGER, state TEXT NOT NULL, error TEXT NOT NULL DEFAULT '', answer TEXT, curve TEXT,
    none_here INTEGER NOT NULL DEFAULT 0, asked_s REAL NOT NULL, interrupted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_video ON jobs (video, number);
"""
_FROM_1 = "ALTER TABLE jobs ADD COLUMN interrupted INTEGER NOT NULL DEFAULT 0;"


@dataclass(frozen=True)
class Video:
    """A video that was uploaded, or was opened out of a library.

    Attributes:
        id: 64 hexadecimal digits that tell its content: of an upload, its SHA-256.
        name: that it was uploaded under; never a path.
        suffix: of the container that its content is in, ``".mp4"``.
        duration_s: length in seconds.
        width, height: in pixels, as stored.
        num_bytes: size of the file.
        added_s: when it came, in seconds since 1970.
        path: of the file in a library; empty for an upload.
    """

    id: str
    name: str
    suffix: str
    duration_s: float
    width: int
    height: int
    num_bytes: int
    added_s: float
    path: str = ""


@dataclass(frozen=True)
class Job:
    """A question about a video, and what has come of it.

    Attributes:
        number: jobs are worked on in this order.
        id: that cannot be guessed.
        video: id of the video.
        query: the sentence; empty for a recording.
        kind: whether it was written or said.
        k: how many moments are wanted; ``None``: every one that is likely enough.
        state: of the work.
        error: why it failed, in one line.
        answer: once it is done.
        curve: ``(time in seconds, value)`` pairs, where the scorer has a curve.
        none_here: whether the person says that none of the moments is meant.
        asked_s: when, in seconds since 1970.
    """

    number: int
    id: str
    video: str
    query: str
    kind: QueryKind
    k: int | None
    state: State
    error: str
    answer: AnswerJson | None
    curve: Sequence[tuple[float, float]]
    none_here: bool
    asked_s: float


class Records:
    """The file. Its methods may be called from any thread.

    Args:
        path: made if need be.

    Raises:
        OutputError: it cannot be opened, or is none of this version.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version == 1:
                self._db.executescript(f"BEGIN; {_FROM_1} PRAGMA user_version = {_VERSION}; COMMIT;")
        except sqlite3.Error as error:
            raise OutputError(f"{path}: cannot be opened ({error}); name another folder with --data") from None
        if version not in (0, 1, _VERSION):
            raise OutputError(f"{path}: was written by another version of mrnet; name another folder with --data")

    def close(self) -> None:
        """Nothing may be asked after this."""
        with self._lock:
            self._db.close()

    def add_video(self, video: Video) -> None:
        """Keep a video; one of the same content takes its new name."""
        self._run(
            "INSERT INTO videos VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name, path = excluded.path",
            *vars(video).values(),
        )

    def video(self, video_id: str) -> Video | None:
        """A video by its id."""
        rows = self._run("SELECT * FROM videos WHERE id = ?", video_id)
        return Video(**dict(rows[0])) if rows else None

    def videos(self) -> list[Video]:
        """All of them, the newest first."""
        return [Video(**dict(row)) for row in self._run("SELECT * FROM videos ORDER BY added_s DESC, id")]

    def remove_video(self, video_id: str) -> None:
        """Forget a video and what was asked of it."""
        self._run("DELETE FROM jobs WHERE video = ?", video_id)
        self._run("DELETE FROM videos WHERE id = ?", video_id)

    def stored_bytes(self) -> int:
        """Size of all uploads together."""
        [(total,)] = self._run("SELECT coalesce(sum(num_bytes), 0) FROM videos WHERE path = ''")
        return int(total)

    def add_job(self, job_id: str, video_id: str, query: str, kind: QueryKind, k: int | None) -> None:
        """Queue a question."""
        self._run(
            "INSERT INTO jobs (id, video, query, kind, k, state, asked_s) VALUES (?, ?, ?, ?, ?, 'queued', ?)",
            *(job_id, video_id, query, kind, k, time.time()),
        )
        self._run(
            "DELETE FROM jobs WHERE state IN ('done', 'failed', 'cancelled') AND number <= "
            "(SELECT max(number) FROM jobs) - ?",
            MOST_JOBS,
        )

    def job(self, job_id: str) -> Job | None:
        """A job by its id."""
        rows = self._run("SELECT * FROM jobs WHERE id = ?", job_id)
        return _job(rows[0]) if rows else None

    def jobs_of(self, video_id: str) -> list[Job]:
        """What was asked of a video, the latest 100, the newest first."""
        rows = self._run("SELECT * FROM jobs WHERE video = ? ORDER BY number DESC LIMIT 100", video_id)
        return [_job(row) for row in rows]

    def num_queued(self, before: int | None = None) -> int:
        """How many jobs wait; or only those ahead of a number."""
        [(count,)] = self._run(
            "SELECT count(*) FROM jobs WHERE state = 'queued' AND (? IS NULL OR number < ?)", before, before
        )
        return int(count)

    def take_queued(self) -> Job | None:
        """The job that has waited longest, which is running now."""
        rows = self._run(
            "UPDATE jobs SET state = 'running' WHERE number = "
            "(SELECT number FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1) RETURNING *"
        )
        return _job(rows[0]) if rows else None

    def finish(
        self,
        job_id: str,
        state: State,
        *,
        error: str = "",
        answer: AnswerJson | None = None,
        curve: Sequence[tuple[float, float]] = (),
    ) -> None:
        """A job has ended; one that ended before stays as it is."""
        self._run(
            "UPDATE jobs SET state = ?, error = ?, answer = ?, curve = ? "
            "WHERE id = ? AND state IN ('queued', 'running')",
            *(state, error, None if answer is None else json.dumps(answer), json.dumps(list(curve)), job_id),
        )

    def queue_again(self) -> None:
        """What was running is to be done anew."""
        self._run("UPDATE jobs SET state = 'queued' WHERE state = 'running'")

    def recover(self, error: str) -> None:
        """What was running when a server was ended without its will is to be done anew, but for what that happened to
        twice: it fails for this reason.
        """
        self._run(
            "UPDATE jobs SET interrupted = interrupted + 1, state = iif(interrupted, 'failed', 'queued'), "
            "error = iif(interrupted, ?, error) WHERE state = 'running'",
            error,
        )

    def mark(self, job_id: str, none_here: bool) -> None:
        """Keep what the person says of the moments."""
        self._run("UPDATE jobs SET none_here = ? WHERE id = ?", int(none_here), job_id)

    def remove_job(self, job_id: str) -> None:
        """Forget a question."""
        self._run("DELETE FROM jobs WHERE id = ?", job_id)

    def _run(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()


def _job(row: sqlite3.Row) -> Job:
    fields = dict(row)
    fields["answer"] = None if row["answer"] is None else json.loads(row["answer"])
    fields["curve"] = [] if row["curve"] is None else [tuple(point) for point in json.loads(row["curve"])]
    fields["none_here"] = bool(row["none_here"])
    del fields["interrupted"]
    return Job(**fields)
