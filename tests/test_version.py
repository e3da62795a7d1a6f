"""Which commit the package says it is of."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mrnet import version
from mrnet.version import __version__, git_commit

ROOT = Path(__file__).resolve().parents[1]


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    found = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def test_version_is_that_of_the_change_log() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_commit_is_that_of_this_repository() -> None:
    assert git_commit() == (git(ROOT, "rev-parse", "HEAD") or None)


def test_commit_noted_when_it_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "commit.txt").write_text("0123abc\n")
    monkeypatch.setattr("importlib.resources.files", lambda package: {"mrnet": tmp_path}[package])
    assert git_commit() == "0123abc"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_no_commit_of_some_other_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package in the folder of someone's own work."""
    installed = tmp_path / "venv" / "version.py"
    installed.parent.mkdir()
    shutil.copyfile(version.__file__, installed)
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "theirs")
    monkeypatch.setattr(version, "__file__", str(installed))
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    assert git_commit() is None
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "tracked")
    assert git_commit() == git(tmp_path, "rev-parse", "HEAD") != ""


def test_no_commit_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    assert git_commit() is None
