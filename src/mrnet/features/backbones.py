"""The registry of encoders: what turns a video file, or a sentence, into features.

To add one, write a class with the members of :class:`VideoBackbone` or :class:`TextBackbone`
and name it in the table below as ``"module:class"``; its module is imported on first use, so
that a heavy dependency is loaded only by those who ask for it.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from mrnet.errors import ConfigError
from mrnet.types import Provenance

_VIDEO = {
    "color-hog-motion": "mrnet.features.pixels:ColorHogMotion",
}
_TEXT = {
    "hashed-words": "mrnet.features.text:HashedWords",
}


class VideoBackbone(Protocol):
    """An encoder of video files.

    Attributes:
        name: registered name.
        dim: width of a feature row.
        rate: feature rows a second of video.
        revision: changes whenever the same video would give other features.
    """

    name: str
    dim: int
    rate: float
    revision: str

    def encode(self, path: str | Path) -> np.ndarray:
        """The (n, dim) float32 features of a video file, row ``i`` from ``i / rate`` seconds on.

        Raises:
            VideoError: the file is missing or will not decode.
        """
        ...

    def provenance(self) -> Provenance:
        """How these features are made, to be stored beside them."""
        ...


class TextBackbone(Protocol):
    """An encoder of sentences.

    Attributes:
        name: registered name.
        dim: width of a sentence vector.
        revision: changes whenever the same sentence would give another vector.
    """

    name: str
    dim: int
    revision: str

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """The (len(sentences), dim) float32 vectors of some sentences, each encoded by itself.

        Raises:
            DataError: a sentence holds no words.
        """
        ...

    def provenance(self) -> Provenance:
        """How these vectors are made, to be stored beside them."""
        ...


def video_backbone(name: str) -> VideoBackbone:
    """Make a registered video backbone.

    Raises:
        ConfigError: no video backbone has this name.
    """
    return cast(VideoBackbone, _make(name, _VIDEO, "video"))


def text_backbone(name: str) -> TextBackbone:
    """Make a registered text backbone.

    Raises:
        ConfigError: no text backbone has this name.
    """
    return cast(TextBackbone, _make(name, _TEXT, "text"))


def _make(name: str, registry: dict[str, str], kind: str) -> object:
    if name not in registry:
        known = ", ".join(sorted(registry))
        raise ConfigError(f'no {kind} backbone is named "{name}"; use one of: {known}')
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()
