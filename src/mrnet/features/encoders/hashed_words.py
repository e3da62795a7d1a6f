"""Sentence vectors without weights: hashed words, word pairs and letter triples."""

import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from mrnet.features.backbone import Modality, Rows, check_sentence
from mrnet.provenance import Provenance

# Letters and digits of any script; an apostrophe inside a word belongs to it.
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# Letter triples let an unseen inflection share most of its features with a seen one; as a word
# has several, each counts less than the word itself.
_WORD_WEIGHT, _BIGRAM_WEIGHT, _TRIGRAM_WEIGHT = 1.0, 0.7, 0.3


class HashedWords:
    """The hashing trick: each token adds its weight, with a sign, to one component of the vector.

    Tokens are lower-cased words, pairs of adjacent words, and triples of adjacent letters of each
    word (with its edges marked). A CRC-32 of the token says which component and which sign:
    stable across processes, machines and versions. Vectors have unit length.
    """

    kind: Modality = "text"
    name = "hashed-words"
    dim = 512
    rate: float | None = None
    revision = "1"
    batch_size = 64

    def prepare(self, source: str | Path) -> Iterator[list[str]]:
        """The words of a sentence.

        Raises:
            DataError: the sentence is empty or holds no words.
        """
        words = _WORD.findall(str(source).lower())
        check_sentence(source, words)
        yield words

    def encode(self, inputs: Sequence[list[str]]) -> list[Rows]:
        """A ``(1, 512)`` float32 vector for the words of each sentence."""
        return [_vector(words) for words in inputs]

    def provenance(self) -> Provenance:
        """How these vectors are made."""
        return Provenance(backbone=self.name, dim=self.dim, revision=self.revision, normalisation="unit length")


def _vector(words: list[str]) -> Rows:
    vector = np.zeros((1, HashedWords.dim), dtype=np.float32)
    for token, weight in _tokens(words):
        code = zlib.crc32(token.encode())
        vector[0, code % HashedWords.dim] += weight if code >> 31 else -weight
    return vector / np.linalg.norm(vector)


def _tokens(words: list[str]) -> Iterator[tuple[str, float]]:
    """The tokens of a sentence with their weights; a prefix keeps the three kinds apart."""
    for word in words:
        yield f"w:{word}", _WORD_WEIGHT
        edged = f"^{word}$"
        for start in range(len(edged) - 2):
            yield f"c:{edged[start : start + 3]}", _TRIGRAM_WEIGHT
    for first, second in pairwise(words):
        yield f"b:{first} {second}", _BIGRAM_WEIGHT
