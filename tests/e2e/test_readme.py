"""The README's commands are commands, and CI runs the one it promises."""

import re
import shlex
from pathlib import Path

import pytest

from mrnet.cli import build_parser
from mrnet.config import load_recipe, recipe_names

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEATURES = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README + FEATURES, flags=re.DOTALL)
COMMANDS = [
    line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.startswith("mrnet ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command: str) -> None:
    arguments = build_parser().parse_args(shlex.split(command)[1:])
    assert callable(arguments.run)
    overrides = getattr(arguments, "overrides", [])
    if getattr(arguments, "recipe", None):
        load_recipe(arguments.recipe, overrides)


def test_every_benchmark_recipe_is_in_the_table() -> None:
    for name in recipe_names():
        assert f"`{name}`" in README or f"--recipe {name}" in README, name


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = re.findall(r"^python3 -m venv \.venv-test .*$", README, flags=re.MULTILINE)
    assert command.endswith("-m pytest")
    assert "constraints.txt" in command
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "'^python3 -m venv .venv-test' README.md" in script


def test_torch_is_pinned_in_the_constraints() -> None:
    assert re.search(r"^torch==2\.13\.0$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)


def test_pictures_are_there() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).stat().st_size > 10_000
