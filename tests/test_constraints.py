"""The lowest versions that are allowed are those that the tests can be run at."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

TOOLS = {
    "build", "import-linter", "latex2mathml", "mkdocs-material", "mkdocstrings", "mypy", "ruff", "types-pyyaml",
    "types-tqdm",
}  # fmt: skip
"""Check or build, at their newest versions alone; the tests do not need them."""


def _bounds() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    split = [re.fullmatch(r"([\w.-]+)(?:\[.*\])?(?:[>=]=(.*))?", line) for line in required]
    assert None not in split
    return {match[1].lower(): match[2] or "" for match in split if match and match[1] != "mrnet"}


def _pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(.*)$", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {package.lower(): version for package, version in found}


def _parts(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def test_every_lower_bound_is_pinned() -> None:
    bounds, pins = _bounds(), _pins("constraints-lowest.txt")
    assert len(bounds) > 25
    assert {name: _parts(version) for name, version in bounds.items() if name not in TOOLS} == {
        name: _parts(version) for name, version in pins.items()
    }


def test_torch_is_the_tested_one() -> None:
    assert _pins("constraints.txt") == {"torch": _pins("constraints-lowest.txt")["torch"]}
