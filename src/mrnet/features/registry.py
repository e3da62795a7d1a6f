"""The registry of encoders, by name.

To add one, write a class with the members of :class:`mrnet.features.backbone.Backbone` in a file of
``features/encoders`` and enter it in the table below as ``"module:class"``; its module is imported on first use, so
that a heavy dependency is loaded only by those who ask for it.
"""

import importlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import cast

from mrnet.errors import ConfigError
from mrnet.features.backbone import Backbone, Modality, check_rate
from mrnet.provenance import Provenance


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
        size: of the weights, in words.
        summary: what it is, in a few words.
        extra: the optional dependency group that it needs, if any.
        options: of ``rate`` and ``device``, those that its class takes.
    """

    kind: Modality
    name: str
    target: str
    dim: str
    rate: str
    licence: str
    size: str
    summary: str
    extra: str | None = None
    options: frozenset[str] = frozenset()


_PUBLISHERS = frozenset(
    {
        "FacebookAI",
        "MCG-NJU",
        "MIT",
        "distilbert",
        "facebook",
        "google",
        "google-bert",
        "laion",
        "microsoft",
        "openai",
        "sentence-transformers",
    }
)
"""Whose models of the Hugging Face hub are loaded where a checkpoint alone names them."""

_HUB_ID = re.compile(r"([\w.-]{1,96})/[\w.-]{1,96}(?:@[\w.-]{1,96})?")

_ENCODERS = "mrnet.features.encoders"

REGISTRY = (
    Entry(
        "video", "color-hog-motion", f"{_ENCODERS}.color_hog_motion:ColorHogMotion", "492", "2", "MIT", "-",
        "classical: color, edges and motion; no weights",
    ),
    Entry(
        "text", "hashed-words", f"{_ENCODERS}.hashed_words:HashedWords", "512", "-", "MIT", "-",
        "classical: hashed words, pairs and letter triples; no weights",
    ),
    Entry(
        "video", "hf:", f"{_ENCODERS}.hub_video:HubVideo", "the model's", "2, or 1 for video models",
        "the model's", "the model's", "CLIP, SigLIP, DINO, VideoMAE, X-CLIP, … of transformers", "hub",
        frozenset({"rate", "device"}),
    ),
    Entry(
        "text", "hf:", f"{_ENCODERS}.hub_text:HubText", "the model's", "-", "the model's", "the model's",
        "DistilBERT, data2vec, BERT, CLIP, SigLIP, … of transformers", "hub", frozenset({"device"}),
    ),
    Entry(
        "text", "st:", f"{_ENCODERS}.sentences:SentenceEncoder", "the model's", "-", "the model's", "the model's",
        "any model of sentence-transformers", "sentences", frozenset({"device"}),
    ),
    Entry(
        "text", "minilm-l6-v2", f"{_ENCODERS}.minilm:MiniLM", "384", "-", "Apache-2.0", "91 MB",
        "sentence encoder; weights in a package", None, frozenset({"device"}),
    ),
    Entry(
        "text", "glove:", f"{_ENCODERS}.glove:Glove", "the file's", "-", "the file's", "the file's",
        "mean of the GloVe vectors of a text file",
    ),
    Entry(
        "speech", "hf:", f"{_ENCODERS}.hub_speech:HubSpeech", "the model's", "-", "the model's", "the model's",
        "wav2vec 2.0, data2vec, UniSpeech-SAT, AST, … of transformers", "hub", frozenset({"device"}),
    ),
    Entry(
        "speech", "speech-embedding", f"{_ENCODERS}.speech_embedding:SpeechEmbedding", "1152", "-",
        "Apache-2.0", "3 MB", "Google's speech embedding; weights in a package", "speech",
    ),
    Entry(
        "video", "efficientnet-lite0", f"{_ENCODERS}.efficientnet:EfficientNetLite0", "1280", "2",
        "Apache-2.0", "19 MB", "image network trained on ImageNet; weights in a package", None,
        frozenset({"rate", "device"}),
    ),
)  # fmt: skip


def make_backbone(
    kind: Modality,
    name: str,
    *,
    rate: float | None = None,
    device: str | None = None,
    trusted: Collection[str] | None = None,
) -> Backbone:
    """Make a registered backbone.

    Args:
        kind: what it should encode.
        name: a registered name; of a family, with its model: ``hf:openai/clip-vit-base-patch32``.
        rate: rows a second of video, where the backbone lets one choose; its own if left out.
        device: where its network runs, e.g. ``"cuda"``; the best there is if left out.
        trusted: left out where the user has named the backbone. Where a file has, such as a checkpoint of someone
            else's, what the user lets it load beside the registered names without a model and the hub's models of
            well-known publishers: names as above. Of the one whose last part is that of ``name``, e.g.
            ``hf:/models/clip`` for ``hf:clip``, the backbone is made.

    Raises:
        ConfigError: no backbone of this kind has this name, its packages are not installed, its rate is
            impossible or cannot be chosen, its model cannot be loaded, or a file alone names it.
    """
    family, colon, model = name.partition(":")
    entry = next((e for e in REGISTRY if e.kind == kind and e.name == family + colon), None)
    if entry is None or bool(colon) != bool(model):
        known = ", ".join(e.name + ("MODEL" if e.name.endswith(":") else "") for e in REGISTRY if e.kind == kind)
        raise ConfigError(f'no {kind} backbone is named "{name}"; use one of: {known}')
    if rate is not None:
        check_rate(rate)
    if trusted is not None:
        name = _trusted_name(kind, name, trusted)
        model = name.partition(":")[2]
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


def make_recogniser(name: str, device: str | None = None) -> Callable[[str | Path], str]:
    """What turns a recording into a sentence.

    Args:
        name: ``hf:MODEL`` with a model that recognises speech, such as ``hf:openai/whisper-tiny.en``.
        device: where its network runs; the best there is if left out.

    Raises:
        ConfigError: there is no such recogniser, its packages are not installed, or its model cannot be loaded.
    """
    family, _, model = name.partition(":")
    if family != "hf" or not model:
        raise ConfigError(
            f'no speech recogniser is named "{name}"; use hf:MODEL, such as hf:openai/whisper-tiny.en'
        )
    try:
        from mrnet.features.encoders.hub_recogniser import Recogniser
    except ImportError as error:
        raise ConfigError(
            f"the speech recogniser {name} needs packages that are not installed ({error}): pip install 'mrnet[hub]'"
        ) from None
    return Recogniser(model, device)


def _trusted_name(kind: Modality, name: str, trusted: Collection[str]) -> str:
    """What to make where a file names a backbone: what the user named for it, or itself where it is well known.

    Raises:
        ConfigError: it is neither.
    """
    family, colon, model = name.partition(":")
    if not colon or name in trusted:
        return name
    for named in trusted:
        if _family_and_last_part(named) == _family_and_last_part(name):
            return named
    hub_id = _HUB_ID.fullmatch(model)
    if family in ("hf", "st") and hub_id and hub_id[1] in _PUBLISHERS and not Path(model).exists():
        return name
    ours = name if "/" in model else f"{family}:FOLDER/{model}"
    raise ConfigError(
        f"the {kind} encoder {name} is named by the checkpoint alone, and is of no well-known publisher: if you "
        f"trust it, add --encoder {ours}"
    )


def _family_and_last_part(name: str) -> tuple[str, str]:
    family, _, model = name.partition(":")
    return family, PurePath(model).name


def extraction_command(kind: Modality, provenance: Provenance) -> str:
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
