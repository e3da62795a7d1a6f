"""The application: what is served, and what becomes of errors."""

import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mrnet.errors import FeatureError, MRNetError, in_a_line, ran_out_of_memory
from mrnet.files import lock, make_directory, writing
from mrnet.library.library import Library
from mrnet.predictor import Predictor
from mrnet.version import __version__
from mrnet.web.api import Service, make_router
from mrnet.web.jobs import MOST_WAITING, Jobs
from mrnet.web.records import Records
from mrnet.web.refusals import Busy, Refused
from mrnet.web.security import COOKIE, Guard, same, session_of
from mrnet.web.shelf import Shelf
from mrnet.web.uploads import Limits, Uploads

log = logging.getLogger(__name__)

STATIC = Path(str(files("mrnet") / "web" / "static"))
"""The page: HTML, style and scripts, as they are."""


class Token(BaseModel):
    """What the server printed when it started."""

    token: str


def make_app(
    predictor: Predictor,
    data: Path,
    *,
    names: Collection[str] = ("127.0.0.1",),
    token: str | None = None,
    limits: Limits | None = None,
    most_waiting: int = MOST_WAITING,
    library: Library | None = None,
) -> ASGIApp:
    """The page and the API, to be run by an ASGI server in one process.

    Args:
        predictor: what answers.
        data: folder of videos and records, made if need be; of one server at a time.
        names: as of :class:`mrnet.web.security.Guard`, as is the next.
        token: that requests must bring.
        limits: on uploads.
        most_waiting: questions that may wait.
        library: to be searched too.

    Raises:
        OutputError: the folder cannot be written, or is that of another server.
        LibraryError: the library is not there yet, or cannot be read.
    """
    shelf = None if library is None else Shelf(library)
    make_directory(data)
    with writing(data):
        taken = (data / "lock").open("wb")
    lock(taken, data)
    records = Records(data / "records.sqlite")
    uploads = Uploads(data / "videos", records, limits or Limits())
    jobs = Jobs(data / "recordings", records, uploads, predictor, most_waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        jobs.start()
        try:
            yield
        finally:
            jobs.stop()
            records.close()
            taken.close()

    app = FastAPI(
        title="mrnet",
        version=__version__,
        description="Find the moment in a video that a sentence describes.",
        docs_url=None,  # theirs load scripts from elsewhere; ours is a part of the page
        redoc_url=None,
        lifespan=lifespan,
    )
    _handle_errors(app)
    service = Service(
        records, uploads, jobs, shelf, _emptied(data / "clips"), predictor.engine.name, _hears_not(predictor)
    )
    app.include_router(make_router(service))

    @app.post("/api/session", status_code=204)
    def session(given: Token, request: Request, response: Response) -> None:
        """Exchange the token for a cookie, as the page does."""
        if token is not None and same(given.token, token):
            response.set_cookie(
                COOKIE, session_of(token), httponly=True, samesite="strict", secure=request.url.scheme == "https"
            )
        elif token is not None:
            raise _WrongToken("this is not the token that the server printed when it started")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html", headers={"cache-control": "no-cache"})

    app.mount("/static", _Static(directory=STATIC))
    return Guard(app, names, token)


class _WrongToken(Refused):
    status = 401


class _Static(StaticFiles):
    """Files that a browser asks for anew whenever it shows them: a new version must not meet old parts of itself."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response


def _emptied(folder: Path) -> Path:
    """A folder, without what a killed server left in it."""
    make_directory(folder)
    with writing(folder):
        for left in folder.iterdir():
            shutil.rmtree(left, ignore_errors=True)
    return folder


def _hears_not(predictor: Predictor) -> str:
    try:
        predictor.check_hears()
    except FeatureError as error:
        return str(error)
    return ""


def _handle_errors(app: FastAPI) -> None:
    """One line each, in JSON; what is nobody's fault but ours goes to the log."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        headers = {"retry-after": str(error.retry_after_s)} if isinstance(error, Busy) else None
        return JSONResponse({"detail": str(error)}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        found = (
            f"{'.'.join(map(str, each['loc'][1:])) or each['loc'][0]}: {each['msg']}" for each in error.errors()
        )
        return JSONResponse({"detail": in_a_line("; ".join(found))}, 422)

    @app.exception_handler(MRNetError)
    async def failed(_: Request, error: MRNetError) -> JSONResponse:
        return JSONResponse({"detail": in_a_line(str(error))}, 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"detail": "the request broke off"}, 400)

    @app.exception_handler(sqlite3.Error)
    @app.exception_handler(OSError)
    async def no_room(_: Request, error: Exception) -> JSONResponse:
        log.error("a request cannot be kept (%s)", error)
        return _later("the server cannot write now; its log says why")

    @app.exception_handler(MemoryError)
    @app.exception_handler(RuntimeError)
    async def no_memory(_: Request, error: Exception) -> JSONResponse:
        if not ran_out_of_memory(error):
            raise error
        log.error("a request is refused, as memory ran out (%s)", error)
        return _later("the server has not enough memory for this now; ask again later")


def _later(detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, 503, {"retry-after": "30"})
