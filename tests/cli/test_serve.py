"""``mrnet serve``: refusals, and a server that is started and ended."""

import builtins
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mrnet.cli.serve import address, listen
from tests.cli.conftest import Command


def test_addresses() -> None:
    assert address("127.0.0.1", 8000, None) == "http://127.0.0.1:8000/"
    assert address("::", 80, "secret") == "http://[::]:80/#token=secret"
    assert address("::1", 80, "50%41/+#") == "http://[::1]:80/#token=50%2541%2F%2B%23"


def test_refusals(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "70000 is no port" in command.refuses("serve", "--port", "70000")
    (tmp_path / "file").write_text("x")
    assert "file: cannot be written" in command.refuses("serve", "--data", "file")
    with listen("127.0.0.1", 0) as taken:
        refusal = command.refuses("serve", "--port", str(taken.getsockname()[1]))
    assert "(Address already in use): choose another --port" in refusal
    assert "--host names no host: give an address" in command.refuses("serve", "--host", "")
    for name in ("é" * 70, "a\0b"):
        assert "is no name of a host: give an address or another name" in command.refuses("serve", "--host", name)
    monkeypatch.setenv("MRNET_TOKEN", "short")
    assert "16 ASCII letters" in command.refuses("serve")


def test_what_to_install_is_said(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *more: Any, **options: Any) -> Any:
        if name == "uvicorn":
            raise ImportError("No module named 'uvicorn'")
        return usual(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'mrnet[serve]'" in command.refuses("serve")


@pytest.mark.skipif(os.name != "posix", reason="ends it by a signal")
def test_it_serves_until_it_is_told_to_end(tmp_path: Path, checkpoint: Path) -> None:
    words = ["serve", "--port", "0", "--data", str(tmp_path / "data"), "--checkpoint", str(checkpoint)]
    server = subprocess.Popen(
        [sys.executable, "-m", "mrnet", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MRNET_TOKEN": ""},
    )
    assert server.stderr is not None
    try:
        found = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/)\n", server.stderr.readline())
        assert found is not None
        with urllib.request.urlopen(found[1] + "api/about") as answer:
            assert json.load(answer)["answered_by"] == "MRNet trained on tiny"
    finally:
        server.send_signal(signal.SIGINT)
        rest = server.communicate(timeout=300)[1]
    assert (server.returncode, rest) == (130, "mrnet: interrupted\n")
