"""Questions as jobs: queued in the records, worked on one by one by the one thread that has the cores."""

import logging
import secrets
import sqlite3
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mrnet.answer import Answer
from mrnet.errors import MRNetError, VideoError, in_a_line, one_line, ran_out_of_memory
from mrnet.files import make_directory, write_bytes, writing
from mrnet.predictor import Predictor, ReadyVideo
from mrnet.types import QueryKind, Watch
from mrnet.web.records import FINAL, Job, Records, Video
from mrnet.web.refusals import Busy, NotFound
from mrnet.web.uploads import Uploads

log = logging.getLogger(__name__)

JOB_ID = r"^[A-Za-z0-9_-]{22}$"
"""What an id of a job looks like."""

MOST_WAITING = 64
"""Jobs that wait; more are refused."""

# Encoded videos that are held ready: an hour of one is some tens of MB.
_MOST_READY = 4
_MOST_POINTS = 600
# Of the job that is running when the server ends.
_GRACE_S = 10.0
# Of an encoding that does not get on.
_LONGEST_HALT_S = 300.0
_KILLED_TWICE = (
    "the server was ended twice while it worked on this question, which memory or a damaged video may have done; "
    "ask again if it was something else"
)
# Before records that cannot be written are tried again.
_PAUSE_S = 5.0


class _Ended(BaseException):
    """The running job is to end; no ``Exception``, so that nothing on the way takes it for a failure of a file."""


@dataclass(frozen=True)
class Progress:
    """How far a job has come.

    Attributes:
        ahead: jobs that come before it.
        share: of the video that is encoded, from 0 to 1; ``None`` where that is not under way.
    """

    ahead: int = 0
    share: float | None = None


class Jobs:
    """Takes questions, and answers them in the order they came.

    Args:
        folder: for recordings that wait to be heard; others, which a killed server left, are removed.
        records: of the jobs; those that an earlier server left unfinished are done first. One during which two servers
            were killed fails.
        uploads: the videos.
        predictor: what answers.
        most_waiting: questions that may wait.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        records: Records,
        uploads: Uploads,
        predictor: Predictor,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._folder, self._records, self._uploads = make_directory(folder), records, uploads
        self._predictor, self._most_waiting = predictor, most_waiting
        self._ready: OrderedDict[str, ReadyVideo] = OrderedDict()
        self._changed = threading.Condition()
        self._stopping = False
        self._running: str | None = None
        self._share: float | None = None
        self._ending: set[str] = set()  # running jobs that were cancelled
        self._thread = threading.Thread(target=self._work, name="mrnet-jobs", daemon=True)
        with writing(folder):
            for left in folder.glob("*.wav"):
                job = records.job(left.stem)
                if job is None or job.state in FINAL:
                    left.unlink()

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End work; what is unfinished is done by the next server."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_GRACE_S)
        with suppress(sqlite3.Error):
            self._records.queue_again()  # it was ended by will

    def ask(self, video: Video, query: str, k: int | None, recording: bytes | None = None) -> Job:
        """Queue a question.

        Args:
            video: which it is about.
            query: a sentence; empty for a recording.
            k: how many moments; ``None`` for every one that is likely enough.
            recording: a WAV file of someone saying it, kept until it was heard.

        Raises:
            Busy: too many wait already.
            FeatureError: nothing here hears.
            OutputError: the recording cannot be kept.
        """
        kind: QueryKind = "text" if recording is None else "speech"
        if recording is not None:
            self._predictor.check_hears()
        with self._changed:
            waiting = self._records.num_queued()
            if waiting >= self._most_waiting:
                raise Busy(f"{waiting} questions are waiting already; ask again soon", 5)
            job_id = secrets.token_urlsafe(16)
            if recording is not None:
                write_bytes(self._recording(job_id), recording)
            self._records.add_job(job_id, video.id, query, kind, k)
            self._changed.notify_all()
        return self.find(job_id)

    def find(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            NotFound: there is none.
        """
        job = self._records.job(job_id)
        if job is None:
            raise NotFound("there is no such question; it may have been removed")
        return job

    def progress(self, job: Job) -> Progress:
        """How far a job has come."""
        if job.state == "queued":
            with self._changed:
                return Progress(self._records.num_queued(job.number) + (self._running is not None))
        return Progress(share=self._share if job.id == self._running else None)

    def cancel(self, job: Job) -> Job:
        """End a job; one that has ended stays as it is."""
        with self._changed:
            if job.id == self._running:
                self._ending.add(job.id)
            self._records.finish(job.id, "cancelled")
        if job.state not in FINAL:
            self._recording(job.id).unlink(missing_ok=True)
        return self.find(job.id)

    def forget(self, video: Video) -> None:
        """Cancel what is asked of a video, and hold it no longer."""
        for job in self._records.jobs_of(video.id):
            if job.state not in FINAL:
                self.cancel(job)
        self._ready.pop(video.id, None)

    def _recording(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.wav"

    def _work(self) -> None:
        is_first = True
        while not self._stopping:
            try:
                if is_first:
                    self._records.recover(_KILLED_TWICE)
                    is_first = False
                self._records.queue_again()
                while (job := self._next()) is not None:
                    self._do(job)
            except Exception as error:  # the disk is full, say
                _log("questions cannot be worked on; trying again", error)
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, _PAUSE_S)

    def _next(self) -> Job | None:
        """The next job, once there is one; ``None`` at the end."""
        with self._changed:
            while not self._stopping:
                job = self._records.take_queued()
                if job is not None:
                    self._running, self._share = job.id, None
                    return job
                self._changed.wait()
        return None

    def _do(self, job: Job) -> None:
        try:
            self._answer(job)
        except _Ended:  # it was cancelled, or is left to the next server
            return
        except sqlite3.OperationalError:
            raise  # nothing is wrong with it; it is done again
        except Exception as error:
            self._records.finish(job.id, "failed", error=self._reason(error, job))
        finally:
            with self._changed:
                self._running, self._share = None, None
                self._ending.discard(job.id)
        self._recording(job.id).unlink(missing_ok=True)

    def _answer(self, job: Job) -> None:
        video = self._uploads.find(job.video)
        ready = self._encoded(video, self._watch(job))
        if job.kind == "text":
            answer = self._predictor.find(ready, job.query, job.k)
        else:
            answer = self._predictor.find(ready, k=job.k, speech=self._recording(job.id))
        self._check(job)
        query = "recording" if answer.kind == "speech" else answer.query
        answer = replace(answer, video=Path(video.name), query=query)
        self._records.finish(job.id, "done", answer=answer.to_dict(), curve=points(answer))

    def _encoded(self, video: Video, watch: Watch) -> ReadyVideo:
        ready = self._ready.pop(video.id, None)
        if ready is None:
            ready = self._predictor.encode_video(self._uploads.path(video), watch=watch)
        self._ready[video.id] = ready  # the last one now
        while len(self._ready) > _MOST_READY:
            self._ready.popitem(last=False)
        return ready

    def _watch(self, job: Job) -> Watch:
        moved_s = time.monotonic()

        def watch(done_s: float, total_s: float) -> None:
            nonlocal moved_s
            self._check(job)
            share = done_s / total_s if total_s else 1.0
            if share != self._share:
                self._share, moved_s = share, time.monotonic()
            elif time.monotonic() - moved_s > _LONGEST_HALT_S:
                raise VideoError("the video stands still: it is damaged, or this machine has too much to do")

        return watch

    def _check(self, job: Job) -> None:
        if self._stopping or job.id in self._ending:
            raise _Ended

    def _reason(self, error: Exception, job: Job) -> str:
        """Of a failure, in one line that names no path of this machine."""
        if not isinstance(error, MRNetError):
            _log(f"job {job.id} failed", error)
            kind = "memory ran out" if ran_out_of_memory(error) else type(error).__name__
            return f"answering failed ({kind}); the server's log says more"
        video = self._records.video(job.video)
        reason = one_line(error)
        if video is not None:
            reason = reason.replace(str(self._uploads.path(video)), video.name)
        return reason.replace(str(self._recording(job.id)), "the recording")


def _log(what: str, error: Exception) -> None:
    """In one line where it is the machine's; of what is ours, with where it was."""
    is_ours = not (isinstance(error, OSError | sqlite3.Error) or ran_out_of_memory(error))
    log.error(
        "%s (%s: %s)", what, type(error).__name__, in_a_line(str(error)), exc_info=error if is_ours else None
    )


def points(answer: Answer) -> list[tuple[float, float]]:
    """The curve of an answer in a few hundred points: of a longer one, the highest of every stretch."""
    curve = answer.curve.tolist()
    step = -(-len(curve) // _MOST_POINTS) or 1
    kept = (max(curve[start : start + step], key=lambda point: point[1]) for start in range(0, len(curve), step))
    return [(round(time_s, 2), round(value, 4)) for time_s, value in kept]
