"""Who is let in, and who is not."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mrnet.errors import ConfigError
from mrnet.predictor import Predictor
from mrnet.web.app import make_app
from mrnet.web.security import check_token, is_loopback

TOKEN = "a-token-of-some-length"
URL = "http://192.168.1.7:8000"


@contextmanager
def guarded(predictor: Predictor, data: Path) -> Iterator[TestClient]:
    app = make_app(predictor, data, names=["0.0.0.0", "videos.example.org"], token=TOKEN)
    with TestClient(app, base_url=URL) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.168.1.7", 421),
        ("localhost@evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_names_of_a_loopback_server(client: TestClient, host: str, status: int) -> None:
    assert client.get("/api/videos", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"content-length": "1e3"}, 400),
        ({"content-length": b"\xb2"}, 400),  # a digit to Python, and no number
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_other_pages_may_not_ask(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/api/videos", headers=headers).status_code == status


def test_a_link_from_elsewhere_opens_the_page(client: TestClient) -> None:
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_a_token_is_asked_for(predictor: Predictor, tmp_path: Path) -> None:
    with guarded(predictor, tmp_path / "data") as client:
        assert client.get("/").status_code == 200
        for path in (
            "/api/videos",
            "/api/about",
            "/openapi.json",
            "/api/session/../videos",
            "/api/jobs/" + "a" * 22,
        ):
            assert client.get(path).status_code == 401, path
        for given in ("Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer é"):
            headers = {"authorization": given.encode()}
            assert client.get("/api/videos", headers=headers).status_code == 401  # type: ignore[arg-type]
        assert client.get("/api/videos", headers={"authorization": f"Bearer {TOKEN}"}).json() == []
        for host, status in (("evil.example", 421), ("Videos.Example.org", 200), ("192.168.1.7", 200)):
            headers = {"authorization": f"Bearer {TOKEN}", "host": host}
            assert client.get("/api/videos", headers=headers).status_code == status


def test_a_browser_exchanges_it_for_a_cookie(predictor: Predictor, tmp_path: Path) -> None:
    with guarded(predictor, tmp_path / "data") as client:
        assert client.post("/api/session", json={"token": "wrong"}).status_code == 401
        half = client.post(
            "/api/session", content=r'{"token": "\ud800"}', headers={"content-type": "application/json"}
        )
        assert half.status_code == 401  # half a character, which JSON can write and UTF-8 cannot
        assert client.get("/api/videos").status_code == 401
        response = client.post("/api/session", json={"token": TOKEN})
        cookie = response.headers["set-cookie"]
        assert response.status_code == 204
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/api/videos").json() == []
        assert client.get("/api/videos", headers={"cookie": "mrnet=0; mrnet"}).status_code == 401


def test_headers_keep_the_page_to_itself(client: TestClient) -> None:
    for path in ("/", "/api/videos", "/static/base.css", "/nowhere"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_bodies_are_small_where_no_file_is_sent(client: TestClient) -> None:
    assert client.post("/api/jobs", content=b"x" * 100_000).status_code == 413

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    response = client.post("/api/jobs", content=parts(), headers={"content-type": "application/json"})
    assert (response.status_code, response.json()) == (400, {"detail": "There was an error parsing the body"})


def test_no_path_leaves_the_static_files(client: TestClient) -> None:
    for path in (
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/js/..%2f..%2f..%2fapp.py",
    ):
        assert client.get(path).status_code == 404, path


def test_which_hosts_are_loopback() -> None:
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.7", "example.org", "")] == [False] * 5


@pytest.mark.parametrize(
    "token", ["short", "with a space in it", "letters like é in it", "x" * 15, "x" * 16 + "\n"]
)
def test_tokens_that_are_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="16 ASCII letters"):
        check_token(token)


def test_other_kinds_of_connection_pass(client: TestClient) -> None:
    """The lifespan, that is; there are no WebSockets."""
    sent: list[Any] = []

    async def connect() -> None:
        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        scope = {
            "type": "websocket",
            "path": "/api/videos",
            "headers": [],
            "query_string": b"",
            "subprotocols": [],
        }
        await client.app(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(connect())
    assert sent == ["websocket.close"]
