"""``mrnet demo``"""

from pathlib import Path

import pytest

import mrnet.demo.story
from tests.cli.conftest import Command, sets


class TestDemoRefuses:
    @pytest.fixture(autouse=True)
    def no_rendering(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def render(*arguments: object, **options: object) -> None:  # noqa: ARG001
            raise AssertionError("rendered before the arguments were checked")

        monkeypatch.setattr(mrnet.demo.story, "render_benchmark", render)

    def test_out_holds_something_else(self, command: Command) -> None:
        Path("out").mkdir()
        Path("out/thesis.txt").write_text("mine")
        assert command.refuses("demo", "--out", "out") == (
            "mrnet: error: out already exists and is not empty: choose another place or remove it"
        )

    def test_another_seed(self, command: Command) -> None:
        Path("out").mkdir()
        Path("out/demo.json").write_text('{"demo": 1, "seed": 3}\n')
        assert command.refuses("demo", "--out", "out", "--seed", "4") == (
            "mrnet: error: out holds the demo of another seed: choose another --out"
        )

    def test_set(self, command: Command) -> None:
        assert "unknown key 'decode.nms'" in command.refuses("demo", "--out", "out", *sets("decode.nms=1"))

    def test_negative_seed(self, command: Command) -> None:
        assert "seed" in command.refuses("demo", "--out", "out", "--seed", "-1")
