"""Hostile input of every kind, about two minutes of it; ``python -m tests.fuzz --cases 10000`` is the longer run.

No traceback, no hang, nothing lost, nothing wrongly accepted. The seed is fixed: what fails here fails everywhere.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from mrnet.features.cache import FOLDER_VARIABLE
from tests.fuzz.hostile import change_bytes, change_text, change_tree
from tests.fuzz.inputs import Inputs
from tests.fuzz.judge import Case, HangError, judge, time_limit
from tests.fuzz.kinds import KINDS
from tests.fuzz.pool import faults

SEED = 0
# By how long a case takes.
CASES = {
    "annotations": 200, "predictions": 250, "stores": 250, "checkpoints": 80, "configurations": 80, "media": 50,
    "questions": 50, "libraries": 20, "requests": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield Inputs.make(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input(inputs: Inputs, kind: str) -> None:
    cases = [(kind, number) for number in range(CASES[kind])]
    found = {f"{kind} {number}": fault for (_, number), fault in faults(inputs, cases, SEED) if fault}
    assert not found, f"again with: python -m tests.fuzz {next(iter(found))}"


class TestJudge:
    """What it is for: a judge that finds nothing at all would be content with anything."""

    def outcome(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, run: Callable[[], int], **more: object
    ) -> str:
        monkeypatch.chdir(folder)
        (folder / "input").write_text("x")
        monkeypatch.setattr("tests.fuzz.judge.main", lambda _: run())
        return judge(Case([], **more), folder)  # type: ignore[arg-type]

    def test_content(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert self.outcome(monkeypatch, tmp_path, lambda: 0) == ""

    def test_accepted(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert self.outcome(monkeypatch, tmp_path, lambda: 0, refused=True) == "accepted"

        def check(_: str) -> None:
            raise ValueError("NaN")

        accepted = "accepted, and yet ValueError: 'NaN'"
        assert self.outcome(monkeypatch, tmp_path, lambda: 0, check=check) == accepted
        assert self.outcome(monkeypatch, tmp_path, lambda: 1, check=check) == ""
        assert self.outcome(monkeypatch, tmp_path, lambda: 1, check=check, partly=True) == accepted

    def test_in_place_of_a_command(self, tmp_path: Path) -> None:
        assert judge(Case([], run=lambda: 3), tmp_path) == "status 3"

    def test_traceback(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert self.outcome(monkeypatch, tmp_path, lambda: 1 // 0).startswith("traceback: ZeroDivisionError at ")

    def test_silent_refusal(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert self.outcome(monkeypatch, tmp_path, lambda: 2) == "a refusal of 0 lines: ''"

    def test_lost(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def lose() -> int:
            (tmp_path / "input").write_text("")
            return 0

        assert self.outcome(monkeypatch, tmp_path, lose) == "lost or changed: input"

    def test_left(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def leave() -> int:
            (tmp_path / "new").write_text("")
            return 0

        assert self.outcome(monkeypatch, tmp_path, leave) == "left behind: new"
        assert self.outcome(monkeypatch, tmp_path, leave, outputs=("new",)) == ""

    def test_hang(self) -> None:
        with pytest.raises(HangError), time_limit(1):
            time.sleep(60)


class TestHostile:
    def test_a_case_is_a_function_of_its_seed(self) -> None:
        tree = {"a": [1, {"b": "c"}], "d": None}
        text = json.dumps(tree)
        for seed in range(50):
            once, again = (
                (
                    repr(change_tree(tree, Random(seed))),
                    change_text(text, Random(seed)),
                    change_bytes(text.encode(), Random(seed)),
                )
                for _ in range(2)
            )
            assert once == again
        assert tree == json.loads(text)  # what is changed is a copy

    def test_most_of_it_is_changed(self) -> None:
        text = json.dumps({"a": [1, {"b": "c"}], "d": None})
        assert len({change_text(text, Random(seed)) for seed in range(100)}) > 80
        assert len({change_bytes(text.encode(), Random(seed)) for seed in range(100)}) > 80
