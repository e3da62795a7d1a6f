"""Who may ask: the checks that every request goes through before anything else sees it."""

import hashlib
import hmac
import ipaddress
import json
import re
import socket
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mrnet.errors import ConfigError

COOKIE = "mrnet"
"""Name of the cookie that stands for the token once a browser has given it."""

_SHORTEST_TOKEN = 16
_MOST_BODY_BYTES = 64 * 1024
_MOST_DIGITS = 20
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# What a person without a token may have: the page, which asks for it, and its check.
_OPEN = re.compile(r"(?!/api/|/openapi\.json).*|/api/session")
# Bodies that are taken in pieces, and have limits of their own.
_STREAMED = re.compile(r"/api/videos(/[0-9a-f]{64}/speech)?")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that binds to a host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_token(token: str) -> str:
    """Refuse a token that can be guessed, or that no header holds.

    Raises:
        ConfigError: it is shorter than 16 letters, or has others than those of ASCII.
    """
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"the token has to have {_SHORTEST_TOKEN} ASCII letters or more, and no space")
    return token


def same(given: str, known: str) -> bool:
    """Whether a secret that was sent, which may be any text, is the one; the time does not tell how much of it is."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), known.encode())


def session_of(token: str) -> str:
    """What the cookie holds in place of the token."""
    return hmac.new(token.encode(), b"mrnet session", hashlib.sha256).hexdigest()


class Guard:
    """Checks Host, Origin, token and size of a body, and sets the headers that keep a page to itself.

    A name in Host that is not ours comes from a page that had its name resolve to this machine; an Origin that is
    not ours, from another page. Numeric addresses are taken where the server is bound to more than loopback, as such a
    name is resolved by nobody.

    Args:
        app: what answers.
        names: that the server goes by, or addresses that it binds to, beside those of loopback.
        token: that requests must give, as ``Authorization: Bearer TOKEN`` or by the cookie; ``None`` on loopback.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], token: str | None) -> None:
        self._app, self._token = app, token
        self._is_open = not all(map(is_loopback, names))
        own = [socket.gethostname()] if self._is_open else []
        self._names = {name.lower() for name in (*_LOOPBACK_NAMES, *names, *own)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(*refusal, _with_headers(send))
            return
        if not _STREAMED.fullmatch(scope["path"]):
            receive = _bounded(receive)
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and reason, where there is one."""
        host = headers.get("host", "")
        if not self._is_ours(_hostname(host)):
            return 421, "this server does not go by that name"
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host.lower():
            return 403, "another page asks; open this server's own"
        is_api = not _OPEN.fullmatch(scope["path"])
        if is_api and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "another page asks; open this server's own"
        if is_api and self._token is not None and not self._is_known(headers):
            return 401, "give the token that the server printed when it started"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < _MOST_DIGITS):
            return 400, "the length of the body is to be a number"
        if not _STREAMED.fullmatch(scope["path"]) and int(length) > _MOST_BODY_BYTES:
            return 413, f"a request may have {_MOST_BODY_BYTES // 1024} KB"
        return None

    def _is_ours(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._is_open

    def _is_known(self, headers: Headers) -> bool:
        assert self._token is not None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return same(given, self._token)
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and same(cookie.value, session_of(self._token))


def _hostname(host: str) -> str:
    """``::1`` of ``[::1]:8000``; empty where it is no host."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _place(origin: str) -> str:
    """``127.0.0.1:8000`` of ``http://127.0.0.1:8000``; empty where it is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _bounded(receive: Receive) -> Receive:
    """A body of unstated length, that counts as broken off where it grows too long."""
    total = 0

    async def bounded() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        return {"type": "http.disconnect"} if total > _MOST_BODY_BYTES else message

    return bounded


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent


async def _refuse(status: int, reason: str, send: Send) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


__all__ = ["COOKIE", "Guard", "check_token", "is_loopback", "session_of"]
