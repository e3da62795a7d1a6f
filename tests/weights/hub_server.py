"""A hub of the tests: as much of the Hugging Face hub's HTTP interface as sending and fetching a model takes."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub:
    """Repositories, by name, each the files of its one commit.

    Attributes:
        address: of the server.
        repos: name -> file -> content.
        private: names of those that were made private.
        asked: method and path of every request.
    """

    commit = "c" * 40

    def __init__(self) -> None:
        self.address = ""
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content."""
        self.asked.append((method, path))
        path = path.partition("?")[0]
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
            self.repos.setdefault(name, {})
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.private.add(name)
            return self._json({"url": f"{self.address}/{name}"})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        match = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/(\w+)/([\w.-]+).*)?", path)
        if match and match[1] in self.repos:
            return self._api(match[1], match[2], match[3], body)
        match = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)", path)
        if match and match[3] in self.repos.get(match[1], {}):
            content = self.repos[match[1]][match[3]]
            headers = {"ETag": f'"{_sha(content)}"', "X-Repo-Commit": self.commit}
            return 200, headers, content
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def _api(
        self, name: str, what: str | None, revision: str | None, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        files = self.repos[name]
        if revision not in (None, "main", self.commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if what == "preupload":
            asked = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]
            return self._json({"files": modes})
        if what == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self._json(
                {"commitUrl": f"{self.address}/{name}/commit/{self.commit}", "commitOid": self.commit}
            )
        if what == "tree":
            return self._json(
                [
                    {"type": "file", "path": file, "size": len(content), "oid": _sha(content)}
                    for file, content in files.items()
                ]
            )
        siblings = [{"rfilename": file} for file in files]
        return self._json({"id": name, "modelId": name, "sha": self.commit, "siblings": siblings, "tags": []})

    def _json(self, document: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()


def _sha(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a port of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, content = hub.answer(self.command, self.path, body)
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = _do  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
