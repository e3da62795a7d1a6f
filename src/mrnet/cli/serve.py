"""``mrnet serve``"""

import argparse
import os
import secrets
import socket
import sys
from pathlib import Path
from urllib.parse import quote

from mrnet.cli.common import Parser, add_answered_by, make_predictor, memory_size, positive
from mrnet.errors import ConfigError

TOKEN_VARIABLE = "MRNET_TOKEN"
"""Environment variable that names the token, in place of a new one at every start."""


def add_arguments(parser: Parser) -> None:
    parser.description = (
        "Serves a page and an HTTP API, to ask videos without a terminal. Only this machine reaches it, "
        "unless --host says otherwise: then a token is asked for, which is printed."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="(default: 8000; 0 takes any that is free)")
    parser.add_argument(
        "--name",
        dest="names",
        metavar="NAME",
        action="append",
        default=[],
        help="a name that it goes by behind a proxy; a token is asked for (repeatable)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of uploads and answers (default: this system's for such)"
    )
    parser.add_argument("--library", metavar="URI", help="search this library too, which `mrnet index` has made")
    limits = parser.add_argument_group("what is taken")
    limits.add_argument(
        "--max-upload", type=memory_size, default="2GB", metavar="SIZE", help="of a video (default: 2GB)"
    )
    limits.add_argument(
        "--max-stored", type=memory_size, default="20GB", metavar="SIZE", help="of all together (default: 20GB)"
    )
    limits.add_argument(
        "--max-minutes", type=positive, default=240, metavar="N", help="length of a video (default: 240)"
    )
    add_answered_by(parser)
    parser.set_defaults(run=run)


def port(text: str) -> int:
    """A port, for argparse."""
    value = int(text)
    if not 0 <= value < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is no port, 0 to 65535")
    return value


def run(arguments: argparse.Namespace) -> int:
    try:
        import uvicorn

        from mrnet.web.app import make_app
    except ImportError as error:
        raise ConfigError(
            f"serve needs packages that are not installed ({error}): pip install 'mrnet[serve]'"
        ) from None
    import platformdirs

    from mrnet.web.security import check_token, is_loopback
    from mrnet.web.uploads import Limits

    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is not None:
        check_token(token)
    elif arguments.names or not is_loopback(arguments.host):
        token = secrets.token_urlsafe(24)
    listening = listen(arguments.host, arguments.port)  # who comes from now on has to wait, and is not turned away
    predictor = make_predictor(arguments)
    library = None
    if arguments.library is not None:
        from mrnet.library.library import Library

        library = Library.open(arguments.library, predictor)
    app = make_app(
        predictor,
        arguments.data or platformdirs.user_data_path("mrnet") / "serve",
        names=[arguments.host, *arguments.names],
        token=token,
        limits=Limits(arguments.max_upload, arguments.max_stored, arguments.max_minutes * 60.0),
        library=library,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=15,
        )
    )
    print(f"open {address(arguments.host, listening.getsockname()[1], token)}", file=sys.stderr, flush=True)
    server.run(sockets=[listening])
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: it cannot, as where the port is taken.
    """
    if not host:
        raise ConfigError("--host names no host: give an address, 0.0.0.0 for all of this machine's")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (TypeError, UnicodeError):
        raise ConfigError(f"--host {host!r} is no name of a host: give an address or another name") from None
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({reason}): choose another --port, or another --host"
        ) from None


def address(host: str, port: int, token: str | None) -> str:
    """Where the page is; the token is in the part that browsers do not send."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"#token={quote(token, safe='')}" if token else "")
