"""Docstrings, for the documentation site: their roles and their citations of the method as links."""

import re
from pathlib import Path
from typing import Any

import griffe

_ROLE = re.compile(r":[a-z]+:`~?([\w.]+)`")
_SECTION = re.compile(r"docs/method\.md,?\s+(sections?)\s+(\d+(?:\.\d+)?)")
_METHOD = Path(__file__).resolve().parents[1] / "docs" / "method.md"


class Roles(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def __init__(self) -> None:
        self._anchors = {
            number.rstrip("."): re.sub(r"[^\w -]", "", f"{number} {title}".lower()).replace(" ", "-")
            for number, title in re.findall(
                r"^#+ (\d[\d.]*) (.*)$", _METHOD.read_text("utf-8"), flags=re.MULTILINE
            )
        }

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """As of griffe."""
        if obj.docstring is not None:
            obj.docstring.value = self.linked(obj.docstring.value)

    def linked(self, text: str) -> str:
        """A docstring with its roles as references, ``:func:`mrnet.device.choose_device``` among them."""
        text = _ROLE.sub(_reference, text)
        return _SECTION.sub(lambda match: f"[the method, {match[1]} {match[2]}][{self._anchors[match[2]]}]", text)


def _reference(match: re.Match[str]) -> str:
    name = match[1]
    return f"[`{name}`][{name}]" if name.startswith("mrnet.") else f"`{name}`"
