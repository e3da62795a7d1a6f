"""What an encoder is: from a video, a sentence or a sound file to features.

A backbone works in two steps, so that many files share its batches: ``prepare`` turns one source into
inputs and runs in worker threads; ``encode`` turns a batch of inputs, of any sources, into rows.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mrnet.errors import ConfigError, DataError
from mrnet.provenance import MOST_A_SECOND, Provenance
from mrnet.types import Modality as Modality

_QUOTES_AND_SPACES = " \t\r\n\"'“”„«»"

Rows = npt.NDArray[np.float32]


class Backbone(Protocol):
    """An encoder of videos, sentences or speech.

    Attributes:
        kind: what it encodes.
        name: what :func:`mrnet.features.registry.make_backbone` makes it from; of a model in a folder or file of
            this machine, the last part of its path alone, for the name travels with checkpoints.
        dim: width of a feature row.
        rate: feature rows a second of video; ``None`` for text and speech, which give one row each.
        revision: changes whenever the same source would give other features.
        batch_size: inputs that are best encoded together.
    """

    kind: Modality
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


def check_sentence(source: str | Path, words: Sequence[str] | None = None) -> str:
    """The sentence that a text backbone is given.

    Args:
        source: as given to ``prepare``.
        words: what was found in it, by a backbone that looks at words alone.

    Raises:
        DataError: it is empty, or holds no words.
    """
    sentence = whole_letters(str(source))
    if words is not None and not words:
        raise DataError(f"the query is empty or holds no words (got {sentence!r}); describe the moment to find")
    if not sentence.strip(_QUOTES_AND_SPACES):
        raise DataError(f"the query is empty (got {sentence!r}); describe the moment to find")
    return sentence


def whole_letters(sentence: str) -> str:
    """A sentence with ? in the place of halves of characters, as bytes become that are no UTF-8: tokenizers fail on
    them."""
    return sentence.encode(errors="replace").decode()


def check_rate(rate: float) -> None:
    """Refuse a number of rows a second that is not above 0, or more than anyone means.

    Raises:
        ConfigError: it is not.
    """
    if not 0 < rate <= MOST_A_SECOND:
        raise ConfigError(
            f"a rate of {rate:g} rows a second is impossible; give one above 0, and {MOST_A_SECOND:g} at most"
        )


def encode_sources(backbone: Backbone, sources: Sequence[str | Path]) -> list[Rows]:
    """Features of some sources, in this thread; inputs are held a batch at a time.

    Args:
        backbone: the encoder.
        sources: files, or sentences.

    Returns:
        ``(r, dim)`` float32 of each source; r is 1 for text and speech.

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


def join_rows(kind: Modality, parts: Sequence[Rows]) -> Rows:
    """The features of a source from those of its inputs: one after the other for video, their mean for a query."""
    rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return rows if kind == "video" else rows.mean(axis=0, keepdims=True)
