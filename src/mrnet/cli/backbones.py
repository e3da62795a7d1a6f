"""``mrnet backbones``"""

import argparse
import importlib.util
from typing import get_args

from mrnet.features.registry import REGISTRY, Entry
from mrnet.types import Modality

# Of each extra, the packages that it brings and that its encoders import.
_PACKAGES = {
    "hub": ("transformers",),
    "sentences": ("sentence_transformers",),
    "speech": ("livekit", "onnxruntime"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists the encoders of videos, text and speech: what each one is, its licence, and whether it is here. Only a "
        "hub id (hf:OWNER/MODEL, st:OWNER/MODEL) ever downloads anything, when it is named and not in the local cache."
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    table = [("kind", "name", "width", "rows/s", "licence", "size", "here", "what it is")]
    for entry in sorted(REGISTRY, key=lambda entry: get_args(Modality).index(entry.kind)):
        name = entry.name + ("MODEL" if entry.name.endswith(":") else "")
        table.append(
            (entry.kind, name, entry.dim, entry.rate, entry.licence, entry.size, _here(entry), entry.summary)
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _here(entry: Entry) -> str:
    """Whether it can be used now, or what makes it so."""
    missing = [name for name in _PACKAGES.get(entry.extra or "", ()) if importlib.util.find_spec(name) is None]
    if missing:
        return f"pip install 'mrnet[{entry.extra}]'"
    return "a hub id downloads" if entry.name in ("hf:", "st:") else "yes"
