"""Build hook: notes the commit that a wheel is built from, so that reports of an installed package can name it."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts ``mrnet/commit.txt`` into wheels built from a git clone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # there the package asks git itself
        try:
            head = subprocess.run(
                ["git", "-C", self.root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return
        self.folder = tempfile.TemporaryDirectory()
        note = Path(self.folder.name) / "commit.txt"
        note.write_text(head.stdout, encoding="utf-8")
        build_data["force_include"][str(note)] = "mrnet/commit.txt"
