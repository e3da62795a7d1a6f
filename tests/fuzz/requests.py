"""Requests to the server of ``mrnet serve``, given to its application as uvicorn gives them."""

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

from mrnet.features.cache import FeatureCache
from mrnet.library.library import Library
from mrnet.predictor import Predictor
from mrnet.web.app import make_app
from mrnet.web.shelf import id_of
from tests.fuzz.hostile import TOKENS, VALUES, change_bytes, change_text, change_tree, lasts_long, spoil_media
from tests.fuzz.inputs import Inputs
from tests.fuzz.judge import Case, all_finite

_TOKEN = "the-token-of-this-server"
_SECRET = "what no answer tells"
_JSON = (("content-type", "application/json"),)
_REQUESTS, _TRIES = 40, 200


@dataclass(frozen=True)
class Request:
    """What is asked; ``{video}``, ``{job}`` and ``{shelved}`` stand for ids that are known."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = b""
    """Bytes, or a tree to be sent as JSON."""


@dataclass(frozen=True)
class Answer:
    """What has come back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def tree(self) -> Any:
        """Of a body that is JSON; ``None`` where it is none."""
        is_json = self.headers.get("content-type") == "application/json" and self.body
        return json.loads(self.body) if is_json else None


_VIDEO, _SHELVED, _JOB = "/api/videos/{video}", "/api/library/videos/{shelved}", "/api/jobs/{job}"
_ASKED = {"video": "{video}", "query": "a dog", "k": 3}
_SEARCHED = {"query": "the dog", "k": 3, "folder": None, "name": "*", "since": "2020-01-01", "until": None}
SOUND = [
    *(Request("GET", path) for path in (
        "/", "/docs", "/openapi.json", "/static/js/api.js", "/api/about", "/api/videos", _VIDEO, f"{_VIDEO}/jobs",
        f"{_VIDEO}/strip", _JOB, f"{_JOB}/moments.vtt", f"{_JOB}/moments.otio", f"{_JOB}/moments.csv",
        "/api/library/videos",
    )),
    Request("GET", f"{_VIDEO}/file", headers=(("range", "bytes=0-99"),)),
    Request("GET", f"{_VIDEO}/still", "at_s=1.5"),
    Request("GET", f"{_SHELVED}/still", "at_s=1.5"),
    Request("GET", f"{_JOB}/clips/1", "exact=true"),
    Request("POST", "/api/videos", "name=film.mp4", (("content-type", "video/mp4"),)),
    Request("POST", "/api/videos", "name=film.mp4", (("content-type", "video/mp4"),)),
    Request("POST", "/api/jobs", headers=_JSON, body=_ASKED),
    Request("POST", "/api/jobs", headers=_JSON, body=_ASKED),
    Request("POST", f"{_VIDEO}/speech", "k=3", (("content-type", "audio/wav"),)),
    Request("POST", f"{_JOB}/cancel"),
    Request("PUT", f"{_JOB}/feedback", headers=_JSON, body={"none_here": True}),
    Request("DELETE", _JOB),
    Request("DELETE", _VIDEO),
    Request("POST", "/api/library/search", headers=_JSON, body=_SEARCHED),
    Request("POST", "/api/library/search", headers=_JSON, body=_SEARCHED),
    Request("POST", f"{_SHELVED}/open"),
    Request("POST", "/api/session", headers=_JSON, body={"token": _TOKEN}),
]  # fmt: skip
"""Of every route one that is answered."""

_HEADERS = {
    "host": ["", "evil.example", "127.0.0.1:99999", "[::1", "[::1]:8000", "localhost", "127.0.0.1@evil", "é",
             "x" * 9000],
    "origin": ["null", "http://evil.example", "http://[", "http://127.0.0.1", "x" * 9000],
    "range": ["bytes=", "bytes=5-1", "bytes=-0", "bytes=0-" + "9" * 30, "bytes=" + "0-1," * 500 + "0-1", "x=0-1",
              "bytes=0-0,-1", "bytes=99999999-", "bytes=a-b"],
    "if-range": ["x", '"x"', "Thu, 01 Jan 1970 00:00:00 GMT"],
    "content-length": ["-1", "1e3", "9" * 30, "0", "١", "65537", ""],
    "content-type": ["text/plain", "application/json; charset=utf-16", "multipart/form-data; boundary=x", "é", ""],
    "authorization": ["Bearer", "Bearer x", "Basic eDp4", "Bearer é", "x" * 9000],
    "cookie": ["mrnet=x", "mrnet", "=; ;;", 'mrnet="\\', "mrnet=" + "x" * 9000, "é=é"],
    "sec-fetch-site": ["cross-site", "x"],
    "accept": ["", "é", "*/*;q=x"],
    "accept-encoding": ["gzip", "x"],
    "x-forwarded-for": ["evil.example"],
    "transfer-encoding": ["chunked"],
    "expect": ["100-continue"],
}  # fmt: skip
_SEGMENTS = [
    "..", "%2e%2e", "..%2f..%2fsecret.txt", "..%5c..%5csecret.txt", "%00", "%ff", "%c0%ae", "{video}", "{job}",
    "{shelved}", "0" * 64, "a" * 22, "%2fetc%2fpasswd", "", ".", "x" * 5000, "0", "-1", "1e3", "9" * 400, "NaN", "~",
    "{folder}%2Fsecret.txt", "secret.txt", "records.sqlite", "C:%5C", "%250a", "%0a", "%e2%80%ae", ";x", "*",
]  # fmt: skip
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "X", "get"]


def requests(inputs: Inputs, folder: Path, random: Random) -> Case:
    """Hostile requests to a server that holds a video, a question and its answer, and a library."""
    (folder / "tmp").mkdir()
    (folder / "secret.txt").write_text(_SECRET)
    shutil.copytree(inputs.folder / "library", folder / "library")
    asked = []
    for _ in range(_REQUESTS):
        request = random.choice(SOUND)
        if request.path == "/api/videos" and request.method == "POST":
            request = replace(request, body=_media(inputs, folder, random))
        elif request.path.endswith("/speech"):
            sound = (inputs.folder / "s.wav").read_bytes()
            request = replace(request, body=random.choice([sound, change_bytes(sound, random, 60), sound * 30]))
        for _ in range(random.choice([0, 1, 1, 2, 3])):
            request = _spoil(request, random)
        asked.append(request)
    token = random.choice([None, None, _TOKEN])
    answers: list[tuple[Request, Answer]] = []

    def run() -> int:
        tempfile.tempdir = str(folder / "tmp")
        try:
            answers.extend(asyncio.run(_asked(inputs, folder, token, asked)))
        finally:
            tempfile.tempdir = None
        return 0

    def check(_: str) -> None:
        for request, answer in answers:
            fault = _fault(answer, str(folder))
            assert not fault, f"{fault}: {answer.status} to {replace(request, body=request.body[:90])}"

    return Case([], ("data",), run=run, check=check)


def _media(inputs: Inputs, folder: Path, random: Random) -> bytes:
    """A video to upload, sound or not."""
    source = inputs.folder / random.choice(["v.mp4", "v.mkv", "v.avi", "v.mpg", "v.gif"])
    if random.random() < 0.3:
        return source.read_bytes()
    spoilt = folder / "spoilt"
    spoil_media(source, spoilt, random)
    content = b"" if lasts_long(spoilt) else spoilt.read_bytes()
    spoilt.unlink()
    return content


def _spoil(request: Request, random: Random) -> Request:
    """The same with something hostile in one of its parts."""
    texts = [value for value in [*VALUES, *TOKENS] if isinstance(value, str)]
    part = random.choice(["path", "query", "headers", "body", "body", "method"])
    if part == "path":
        segments = request.path.split("/")
        at = random.randrange(1, len(segments))
        hostile = random.choice([*_SEGMENTS, quote(random.choice(texts), safe="", errors="replace")])
        if random.random() < 0.3:
            segments.insert(at, hostile)
        else:
            segments[at] = hostile
        return replace(request, path="/".join(segments))
    if part == "query":
        name, _, value = (request.query or f"{random.choice(['at_s', 'k', 'exact', 'name', 'x'])}=1").partition(
            "="
        )
        text = quote(random.choice(texts), errors="replace")
        many = "&".join(["a=1"] * 2000)
        values = [
            "",
            "-1",
            "1e400",
            "nan",
            "-inf",
            "9" * 500,
            "%00",
            "%ff",
            "../x",
            many,
            text,
            f"{value}&{name}=2",
        ]
        value = random.choice(values)
        return replace(request, query=f"{name}={value}")
    if part == "headers":
        name = random.choice(list(_HEADERS))
        return replace(request, headers=(*request.headers, (name, random.choice(_HEADERS[name]))))
    if part == "method":
        return replace(request, method=random.choice(_METHODS))
    if isinstance(request.body, dict) and request.body:
        changed = change_tree(request.body, random)
        if random.random() < 0.8:
            return replace(request, body=changed)
        text = change_text(json.dumps(changed), random)
        return replace(request, body=text.encode("utf-8", "surrogatepass"))
    if isinstance(request.body, bytes) and request.body:
        return replace(request, body=change_bytes(request.body, random, 300))
    return replace(
        request, body=random.choice([b"{}", b"[" * 3000, b"x" * 70_000, b"\0", b'{"a": 1' + b"0" * 5000])
    )


@cache
def _predictor() -> Predictor:
    """The packaged encoders, once for a process; whatever is said to them is a dog."""
    packaged = Predictor.auto()
    return Predictor(packaged.engine, FeatureCache(), lambda _: "a dog")


async def _asked(
    inputs: Inputs, folder: Path, token: str | None, asked: list[Request]
) -> list[tuple[Request, Answer]]:
    """Start a server, ask all of it, and end it once all questions are answered."""
    library = Library.open(folder / "library", _predictor())
    app = make_app(_predictor(), folder / "data", token=token, library=library)
    known = {
        "video": hashlib.sha256((inputs.folder / "v.mp4").read_bytes()).hexdigest(),
        "shelved": id_of(str(inputs.folder / "videos" / "v.mp4")),
        "folder": quote(str(folder), safe=""),
        "job": "a" * 22,
    }
    usual = [("host", "127.0.0.1:8000"), *([] if token is None else [("authorization", f"Bearer {token}")])]
    found: list[tuple[Request, Answer]] = []

    async def ask(request: Request) -> Any:
        body = request.body
        if isinstance(body, dict | list):
            body = _known(json.dumps(body), known).encode()
        answer = await _answer(app, replace(request, path=_known(request.path, known), body=body), usual)
        found.append((replace(request, body=body), answer))
        return answer.tree()

    async with _living(app):
        content = (inputs.folder / "v.mp4").read_bytes()
        await ask(Request("POST", "/api/videos", "name=film.mp4", body=content))
        known["job"] = (await ask(Request("POST", "/api/jobs", headers=_JSON, body=_ASKED)))["id"]
        await _finished(ask, [known["job"]])
        for request in asked:
            await ask(request)
        videos = await ask(Request("GET", "/api/videos"))
        jobs = [await ask(Request("GET", f"/api/videos/{video['id']}/jobs")) for video in videos]
        await _finished(ask, [job["id"] for some in jobs for job in some or []])
    return found


async def _finished(ask: Callable[[Request], Any], jobs: list[str]) -> None:
    for job in jobs:
        for _ in range(_TRIES):
            if (await ask(Request("GET", f"/api/jobs/{job}")))["state"] not in ("queued", "running"):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("a question has no end")


def _known(text: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", value)
    return text


class _living:  # noqa: N801 - used as a statement
    """Starts an application as a server does, and ends it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __aenter__(self) -> None:
        self._said: asyncio.Queue[str] = asyncio.Queue()
        self._told: asyncio.Queue[str] = asyncio.Queue()
        await self._said.put("lifespan.startup")

        async def receive() -> dict[str, str]:
            return {"type": await self._said.get()}

        async def send(message: dict[str, str]) -> None:
            await self._told.put(message["type"])

        self._task = asyncio.create_task(self._app({"type": "lifespan", "state": {}}, receive, send))
        assert await self._told.get() == "lifespan.startup.complete"

    async def __aexit__(self, *_: object) -> None:
        await self._said.put("lifespan.shutdown")
        await self._task


async def _answer(app: Any, request: Request, usual: list[tuple[str, str]]) -> Answer:
    """What the application says to a request."""
    given = {name for name, _ in request.headers}
    headers = [*(pair for pair in usual if pair[0] not in given), *request.headers]
    path = unquote(request.path.encode("ascii", "replace").decode())
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50_000),
        "scheme": "http",
        "root_path": "",
        "method": request.method,
        "path": path,
        "raw_path": unquote_to_bytes(path),
        "query_string": request.query.encode("ascii", "replace"),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    size = len(request.body) // 2 or 1
    parts = [request.body[start : start + size] for start in range(0, len(request.body), size)] or [b""]
    status, told, content = 0, {}, b""

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, told, content
        if message["type"] == "http.response.start":
            status = message["status"]
            told = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        else:
            content += message.get("body", b"")

    await app(scope, receive, send)
    return Answer(status, told, content)


def _fault(answer: Answer, folder: str) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if not 200 <= answer.status < 500:
        return "its status"
    for secret in (_SECRET, "root:x:0:0", "Traceback (most recent call last)", "the server's log says"):
        if secret.encode() in answer.body:
            return f"tells {secret!r}"
    tree = answer.tree()
    if not all_finite(tree):
        return "numbers that are none"
    if answer.status < 400 or answer.status == 416 or not answer.body:  # a range that is none, or HEAD
        return "" if answer.status < 400 or answer.status in (405, 416) else "says nothing"
    line = tree["detail"] if isinstance(tree, dict) else answer.body.decode()
    if not 0 < len(line) <= 2000 or not line.isprintable():
        return f"no clear line ({len(line)} letters): {line[:100]!r}"
    return f"tells a path: {line[:100]!r}" if folder in line else ""
