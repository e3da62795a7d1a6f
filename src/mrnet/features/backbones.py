"""The registry of encoders: what turns a video, a sentence or a sound file into features.

A backbone works in two steps, so that many files share its batches: ``prepare`` turns one source into
inputs and runs in worker threads; ``encode`` turns a batch of inputs, of any sources, into rows.

To add one, write a class with the members of :class:`Backbone` and enter it in the table below as
``"module:class"``; its module is imported on first use, so that a heavy dependency is loaded only by
those who ask for it.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from mrnet.errors import ConfigError
from mrnet.types import Provenance

Rows = npt.NDArray[np.float32]
Kind = Literal["video", "text", "speech"]


class Backbone(Protocol):
    """An encoder of videos, sentences or speech.

    Attributes:
        kind: what it encodes.
        name: what :func:`make_backbone` makes it from.
        dim: width of a feature row.
        rate: feature rows a second of video; ``None`` for text and speech, which give one row each.
        revision: changes whenever the same source would give other features.
        batch_size: inputs that are best encoded together.
    """

    kind: Kind
    name: str
    dim: int
    rate: float | None
    revision: str
    batch_size: int

    def prepare(self, source: str | Path) -> Iterator[Any]:
        """Inputs of one source, in order: decoded, scaled, split into tokens; many threads may call this at once.

        Args:
            source: path of a video or sound file; for a text backbone, the sentence itself.

        Raises:
            VideoError, AudioError, DataError: the source cannot be encoded; says why.
        """
        ...

    def encode(self, inputs: Sequence[Any]) -> list[Rows]:
        """``(r, dim)`` float32 rows of each input, whatever sources they come from; one call at a time."""
        ...

    def provenance(self) -> Provenance:
        """How these features are made, to be stored beside them."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the registry.

    Attributes:
        kind: what it encodes.
        name: of the backbone; one that ends in ``:`` is a family, completed by a model or a file.
        target: ``"module:class"``.
        dim: width of a row, in words where it depends on the model.
        rate: rows a second of video, in words.
        licence: of the code and the weights.
        summary: what it is, in a few words.
        extra: the optional dependency group that it needs, if any.
        options: of ``rate`` and ``device``, those that its class takes.
    """

    kind: Kind
    name: str
    target: str
    dim: str
    rate: str
    licence: str
    summary: str
    extra: str | None = None
    options: frozenset[str] = frozenset()


REGISTRY = (
    Entry(
        "video", "color-hog-motion", "mrnet.features.pixels:ColorHogMotion", "492", "2", "MIT",
        "classical: color, edges and motion; no weights",
    ),
    Entry(
        "text", "hashed-words", "mrnet.features.text:HashedWords", "512", "-", "MIT",
        "classical: hashed words, pairs and letter triples; no weights",
    ),
    Entry(
        "video", "hf:", "mrnet.features.hub_video:HubVideo", "the model's", "2, or 1 for video models", "the model's",
        "CLIP, SigLIP, DINO, VideoMAE, X-CLIP, … of transformers", "hub", frozenset({"rate", "device"}),
    ),
    Entry(
        "text", "hf:", "mrnet.features.hub_text:HubText", "the model's", "-", "the model's",
        "DistilBERT, data2vec, BERT, CLIP, SigLIP, … of transformers", "hub", frozenset({"device"}),
    ),
    Entry(
        "text", "st:", "mrnet.features.sentences:SentenceEncoder", "the model's", "-", "the model's",
        "any model of sentence-transformers", "sentences", frozenset({"device"}),
    ),
    Entry(
        "text", "minilm-l6-v2", "mrnet.features.sentences:MiniLM", "384", "-", "Apache-2.0",
        "sentence encoder; weights in a package", "sentences", frozenset({"device"}),
    ),
    Entry(
        "text", "glove:", "mrnet.features.glove:Glove", "the file's", "-", "the file's",
        "mean of the GloVe vectors of a text file",
    ),
    Entry(
        "speech", "hf:", "mrnet.features.hub_speech:HubSpeech", "the model's", "-", "the model's",
        "wav2vec 2.0, data2vec, UniSpeech-SAT, AST, … of transformers", "hub", frozenset({"device"}),
    ),
    Entry(
        "speech", "speech-embedding", "mrnet.features.speech_embedding:SpeechEmbedding", "1152", "-", "Apache-2.0",
        "Google's speech embedding; weights in a package", "speech",
    ),
    Entry(
        "video", "efficientnet-lite0", "mrnet.features.efficientnet:EfficientNetLite0", "1280", "2", "Apache-2.0",
        "image network trained on ImageNet; weights in a package", "efficientnet", frozenset({"rate", "device"}),
    ),
)  # fmt: skip


def make_backbone(kind: Kind, name: str, *, rate: float | None = None, device: str | None = None) -> Backbone:
    """Make a registered backbone.

    Args:
        kind: what it should encode.
        name: a registered name; of a family, with its model: ``hf:openai/clip-vit-base-patch32``.
        rate: rows a second of video, where the backbone lets one choose; its own if left out.
        device: where its network runs, e.g. ``"cuda"``; the best there is if left out.

    Raises:
        ConfigError: no backbone of this kind has this name, its packages are not installed, its rate cannot be
            chosen, or its model cannot be loaded.
    """
    family, colon, model = name.partition(":")
    entry = next((e for e in REGISTRY if e.kind == kind and e.name == family + colon), None)
    if entry is None or bool(colon) != bool(model):
        known = ", ".join(e.name + ("MODEL" if e.name.endswith(":") else "") for e in REGISTRY if e.kind == kind)
        raise ConfigError(f'no {kind} backbone is named "{name}"; use one of: {known}')
    options = {
        key: value
        for key, value in (("rate", rate), ("device", device))
        if value is not None and key in entry.options
    }
    module, _, attribute = entry.target.partition(":")
    try:
        make = getattr(importlib.import_module(module), attribute)
        backbone = cast(Backbone, make(model, **options) if colon else make(**options))
    except ImportError as error:
        if entry.extra is None:
            raise
        raise ConfigError(
            f"the {kind} backbone {name} needs packages that are not installed ({error}): "
            f"pip install 'mrnet[{entry.extra}]'"
        ) from None
    if rate is not None and backbone.rate != rate:
        raise ConfigError(f"the rate of {name} cannot be chosen: it gives {entry.rate} rows a second")
    return backbone


def encode_sources(backbone: Backbone, sources: Sequence[str | Path]) -> list[Rows]:
    """Features of some sources, in this thread; inputs are held a batch at a time.

    Args:
        backbone: the encoder.
        sources: files, or sentences.

    Returns:
        ``(n, dim)`` float32 of each source; n is 1 for text and speech.

    Raises:
        VideoError, AudioError, DataError: the first source that cannot be encoded.
    """
    parts: list[list[Rows]] = [[] for _ in sources]
    inputs = ((index, item) for index, source in enumerate(sources) for item in backbone.prepare(source))
    while batch := list(islice(inputs, backbone.batch_size)):
        encoded = backbone.encode([item for _, item in batch])
        for (index, _), rows in zip(batch, encoded, strict=True):
            parts[index].append(rows)
    return [join_rows(backbone.kind, rows) for rows in parts]


def join_rows(kind: Kind, parts: Sequence[Rows]) -> Rows:
    """The features of a source from those of its inputs: one after the other for video, their mean for a query."""
    rows = np.concatenate(parts)
    return rows if kind == "video" else rows.mean(axis=0, keepdims=True)


def extraction_command(kind: Kind, provenance: Provenance) -> str:
    """``": mrnet features …"``, the command that makes such features, for messages; empty where none does."""
    family = provenance.backbone.partition(":")
    if not any(e.kind == kind and e.name == family[0] + family[1] for e in REGISTRY):
        return ""
    source = {"video": "VIDEOS", "text": "ANNOTATIONS", "speech": "SOUNDS"}[kind]
    rate = "" if provenance.rows_per_s is None else f" --rate {provenance.rows_per_s:g}"
    command = f": mrnet features {kind} {source} --backbone {provenance.backbone}{rate} --out FEATURES.h5"
    if provenance.projection is None:
        return command
    return f"{command}, then mrnet features pca FEATURES.h5 --apply THE.pca.safetensors --out REDUCED.h5"
