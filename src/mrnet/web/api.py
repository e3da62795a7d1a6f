"""The routes of the API."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from mrnet.library.answer import SearchAnswerJson
from mrnet.version import __version__
from mrnet.web import downloads
from mrnet.web.documents import (
    MOST_MOMENTS,
    About,
    Feedback,
    JobId,
    JobOut,
    LibraryVideoOut,
    Problem,
    Question,
    SearchQuestion,
    VideoId,
    VideoOut,
)
from mrnet.web.jobs import Jobs
from mrnet.web.records import Job, Records
from mrnet.web.refusals import TooLarge, WrongType
from mrnet.web.shelf import Search, Shelf, id_of
from mrnet.web.turns import Turns
from mrnet.web.uploads import Uploads

MOST_RECORDING_BYTES = 2**20
"""Of a spoken query: half a minute at 16 kHz."""

_DAY_S = 86_400
_FOREVER = {"cache-control": f"private, max-age={_DAY_S}, immutable"}
# Its address names a file, which may become another.
_FOR_A_WHILE = {"cache-control": "private, max-age=300"}
_ONE_FRAME_S = 0.05


@dataclass(frozen=True)
class Service:
    """What the routes call.

    Attributes:
        records, uploads, jobs: what is kept.
        shelf: the library, where there is one.
        clips: folder that clips are made in, until they are sent.
        answered_by: in words.
        hears_not: why no recording is taken; empty where they are.
    """

    records: Records
    uploads: Uploads
    jobs: Jobs
    shelf: Shelf | None
    clips: FilePath
    answered_by: str
    hears_not: str


class _Once(FileResponse):
    """A file in a folder that goes once it was sent, or its receiver has gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            shutil.rmtree(FilePath(self.path).parent, ignore_errors=True)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem} for status in (400, 401, 403, 404, 421, 422, *statuses)}


_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _file(*types: str) -> dict[int | str, dict[str, Any]]:
    content = {each: {} if each == "application/json" else _BINARY for each in types}
    return {200: {"content": content, "description": "the file"}}


def _body(*types: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": dict.fromkeys(types, _BINARY)}}


def make_router(service: Service) -> APIRouter:
    """The routes below ``/api``."""
    router = APIRouter(prefix="/api", responses=_problems(429))
    uploads, jobs = service.uploads, service.jobs
    pictures, cutting = Turns(32, "pictures"), Turns(8, "clips")

    async def picture(make: Callable[[], bytes]) -> Response:
        return Response(await pictures.run(make), media_type="image/jpeg", headers=_FOREVER)

    def shown(job: Job) -> JobOut:
        progress = jobs.progress(job)
        return JobOut(
            **{name: getattr(job, name) for name in JobOut.model_fields if hasattr(job, name)},
            ahead=progress.ahead,
            share=progress.share,
        )

    @router.get("/about")
    def about() -> About:
        """What this server does."""
        limits = uploads.limits
        return About(
            version=__version__,
            answered_by=service.answered_by,
            hears=not service.hears_not,
            hears_not=service.hears_not,
            has_library=service.shelf is not None,
            most_upload_bytes=limits.upload_bytes,
            most_duration_s=limits.duration_s,
        )

    @router.get("/videos")
    def videos() -> list[VideoOut]:
        """The videos that were uploaded, the newest first."""
        return [VideoOut(**vars(video)) for video in service.records.videos()]

    @router.post(
        "/videos",
        status_code=201,
        responses=_problems(408, 413, 415, 429),
        openapi_extra=_body("application/octet-stream", "video/*"),
    )
    async def upload(request: Request, name: Annotated[str, Query(max_length=1000)] = "video") -> VideoOut:
        """Upload a video: the body is its content. The same content again is the same video."""
        stated = request.headers.get("content-length")
        video = await uploads.take(aiter(request.stream()), name, None if stated is None else int(stated))
        return VideoOut(**vars(video))

    @router.get("/videos/{video_id}")
    def video(video_id: VideoId) -> VideoOut:
        """One video."""
        return VideoOut(**vars(uploads.find(video_id)))

    @router.delete("/videos/{video_id}", status_code=204)
    def remove_video(video_id: VideoId) -> None:
        """Remove a video, and what was asked of it."""
        found = uploads.known(video_id)
        jobs.forget(found)
        uploads.remove(found)

    @router.get("/videos/{video_id}/jobs")
    def jobs_of(video_id: VideoId) -> list[JobOut]:
        """What was asked of a video, the newest first, the latest 100."""
        return [shown(job) for job in service.records.jobs_of(uploads.find(video_id).id)]

    @router.get("/videos/{video_id}/file", response_class=FileResponse, responses=_file("video/*"))
    def file(video_id: VideoId) -> FileResponse:
        """The file of a video, or the ranges of it that are asked for."""
        found = uploads.find(video_id)
        media_type = downloads.MEDIA_TYPES[found.suffix]
        return FileResponse(uploads.path(found), media_type=media_type, headers=_FOREVER)

    @router.get("/videos/{video_id}/strip", response_class=Response, responses=_file("image/jpeg"))
    async def strip(video_id: VideoId) -> Response:
        """Twelve pictures from all over a video, side by side."""
        found = uploads.find(video_id)
        return await picture(partial(downloads.strip, uploads.path(found), found.duration_s))

    @router.get("/videos/{video_id}/still", response_class=Response, responses=_file("image/jpeg"))
    async def still(video_id: VideoId, at_s: Annotated[float, Query(ge=0, le=10**6)] = 0.0) -> Response:
        """The picture at a time, in seconds."""
        found = uploads.find(video_id)
        time_s = min(at_s, found.duration_s - _ONE_FRAME_S)
        return await picture(partial(downloads.still, uploads.path(found), time_s))

    @router.post("/jobs", status_code=202)
    def ask(question: Question) -> JobOut:
        """Ask a video; the answer is in the job, once that is done."""
        found = uploads.find(question.video)
        return shown(jobs.ask(found, question.query, question.k))

    @router.post(
        "/videos/{video_id}/speech",
        status_code=202,
        responses=_problems(413, 415, 429),
        openapi_extra=_body("audio/wav"),
    )
    async def ask_aloud(
        request: Request, video_id: VideoId, k: Annotated[int, Query(ge=1, le=MOST_MOMENTS)] = 5
    ) -> JobOut:
        """Ask a video by a recording: the body is a WAV file of someone saying the query, which is not kept."""
        found = uploads.find(video_id)
        recording = await _recording(request)
        return shown(await run_in_threadpool(jobs.ask, found, "", k, recording))

    @router.get("/jobs/{job_id}")
    def job(job_id: JobId) -> JobOut:
        """A question, how far it has come, and its answer."""
        return shown(jobs.find(job_id))

    @router.post("/jobs/{job_id}/cancel")
    def cancel(job_id: JobId) -> JobOut:
        """End a question; one that has ended stays as it is."""
        return shown(jobs.cancel(jobs.find(job_id)))

    @router.put("/jobs/{job_id}/feedback")
    def feedback(job_id: JobId, given: Feedback) -> JobOut:
        """Say whether none of the moments is meant; kept with the question."""
        found = jobs.find(job_id)
        service.records.mark(found.id, given.none_here)
        return shown(jobs.find(job_id))

    @router.delete("/jobs/{job_id}", status_code=204)
    def remove_job(job_id: JobId) -> None:
        """Forget a question."""
        found = jobs.cancel(jobs.find(job_id))
        service.records.remove_job(found.id)

    @router.get(
        "/jobs/{job_id}/moments.{form}",
        response_class=Response,
        responses=_problems(409) | _file(*dict.fromkeys(downloads.MEDIA_TYPES[form] for form in downloads.FORMS)),
    )
    async def moments(job_id: JobId, form: downloads.Form) -> Response:
        """All moments as subtitles, an edit list or a table; where there are none, the best guess."""
        found = jobs.find(job_id)
        video, answer = uploads.find(found.video), downloads.answer_of(found)
        content = await cutting.run(partial(downloads.document, video, uploads.path(video), answer, form))
        return Response(
            content,
            media_type=downloads.MEDIA_TYPES[form],
            headers=_attachment(f"{FilePath(video.name).stem}.{form}"),
        )

    @router.get("/jobs/{job_id}/clips/{rank}", response_class=_Once, responses=_problems(409) | _file("video/*"))
    async def clip(
        job_id: JobId,
        rank: Annotated[int, Path(ge=1, le=MOST_MOMENTS)],
        exact: Annotated[bool, Query(description="encode anew, to start and end at the very frame")] = False,
    ) -> Response:
        """One moment as a file of its own; where there are none, the best guess is of rank 1."""
        found = jobs.find(job_id)
        video, answer = uploads.find(found.video), downloads.answer_of(found)
        made, name = await cutting.run(
            partial(downloads.clip, video, uploads.path(video), answer, rank, service.clips, exact=exact)
        )
        media_type = downloads.MEDIA_TYPES[made.suffix]
        return _Once(made, media_type=media_type, filename=name)

    if service.shelf is not None:
        _add_library(router, service.shelf, uploads, pictures)
    return router


def _add_library(router: APIRouter, shelf: Shelf, uploads: Uploads, pictures: Turns) -> None:
    searching = Turns(16, "answers")

    @router.get("/library/videos")
    def library_videos() -> list[LibraryVideoOut]:
        """The videos of the library, in order of path."""
        return [
            LibraryVideoOut(
                id=id_of(video.path),
                path=video.path,
                name=FilePath(video.path).name,
                duration_s=video.duration_s,
                modified_s=video.modified_s,
            )
            for video in shelf.videos()
        ]

    @router.post("/library/search")
    async def search(question: SearchQuestion) -> SearchAnswerJson:
        """Search the library: the document that `mrnet search --json` prints."""
        return await searching.run(partial(shelf.search, Search(**dict(question))))

    @router.get("/library/videos/{video_id}/still", response_class=Response, responses=_file("image/jpeg"))
    async def library_still(video_id: VideoId, at_s: Annotated[float, Query(ge=0, le=10**6)] = 0.0) -> Response:
        """The picture at a time of a video of the library, in seconds."""
        content = await pictures.run(lambda: downloads.still(shelf.path(video_id), at_s))
        return Response(content, media_type="image/jpeg", headers=_FOR_A_WHILE)

    @router.post("/library/videos/{video_id}/open")
    def open_video(video_id: VideoId) -> VideoOut:
        """A video of the library among those that can be asked and played; its file stays where it is."""
        return VideoOut(**vars(uploads.open(shelf.path(video_id))))


async def _recording(request: Request) -> bytes:
    """The body of a request, checked to be a WAV file and no larger than is taken."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_RECORDING_BYTES:
            raise TooLarge(f"a recording may have {MOST_RECORDING_BYTES // 2**20} MB")
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise WrongType("a spoken query is to be a WAV file")
    return bytes(content)


def _attachment(name: str) -> dict[str, str]:
    return {"content-disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
