"""``mrnet backbones``"""

import importlib.util

import pytest

from mrnet.features.registry import REGISTRY
from tests.cli.conftest import Command


def test_list(command: Command) -> None:
    status, out, err = command("backbones")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["kind", "name", "width", "rows/s", "licence", "size", "here", "what", "it", "is"]
    hog = ["video", "color-hog-motion", "492", "2", "MIT", "-", "yes", "classical:", "color,", "edges", "and"]
    assert lines[1] == [*hog, "motion;", "no", "weights"]
    assert [line[1].removesuffix("MODEL") for line in lines[1:]] == [
        entry.name for kind in ("video", "text", "speech") for entry in REGISTRY if entry.kind == kind
    ]


def test_what_is_missing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name))
    lines = [line for line in command("backbones")[1].splitlines() if "hf:MODEL" in line]
    assert len(lines) == 3
    assert all("pip install 'mrnet[hub]'" in line for line in lines)
