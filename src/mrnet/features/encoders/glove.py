"""Sentences as the mean of the GloVe vectors of their words."""

import hashlib
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mrnet.errors import ConfigError, DataError
from mrnet.features.backbone import Modality, Rows, check_sentence
from mrnet.provenance import Provenance

# As in the text that GloVe was trained on, "man's" is two words, "man" and "'s".
_WORD = re.compile(r"[^\W_]+|['’][^\W_]+")


class Glove:
    """The mean of the vectors of a sentence's words, out of a file such as ``glove.6B.300d.txt``.

    A line of the file is a word and its vector, separated by single blanks. A word is looked up as it is
    written, then in lower case; unknown words are left out.
    """

    kind: Modality = "text"
    rate: float | None = None
    batch_size = 64

    def __init__(self, path: str) -> None:
        """Index a file; vectors are read when they are needed.

        Raises:
            ConfigError: the file is missing, or not of this format.
        """
        self._path = Path(path).expanduser().absolute()
        self._places: dict[bytes, int] = {}
        self.dim = 0
        place = 0
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    fields = line.count(b" ")
                    self.dim = self.dim or fields
                    # More, where a word has blanks in it, as some of the published 840B file have.
                    if fields < self.dim:
                        raise self._malformed(f"line {number} holds {fields} numbers, line 1 {self.dim}")
                    parts = fields - self.dim + 1
                    word = b" ".join(line.split(b" ", parts)[:parts])
                    self._places.setdefault(word, place + len(word))
                    place += len(line)
                if self.dim < 2:
                    raise self._malformed("line 1 is not a word and its numbers")
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ConfigError(
                f"{self._path}: cannot be read ({error.strerror}); name a file of GloVe vectors"
            ) from None
        self.name = f"glove:{self._path.name}"
        self.revision = f"sha256:{hashlib.sha256(self._bytes).hexdigest()[:16]}"

    def prepare(self, source: str | Path) -> Iterator[Rows]:
        """The ``(words, dim)`` vectors of a sentence.

        Raises:
            DataError: the sentence is empty, or no word of it has a vector.
        """
        words = _WORD.findall(str(source).replace("’", "'"))
        sentence = check_sentence(source, words)
        forms = ((word.encode(), word.lower().encode()) for word in words)
        known = [next((form for form in pair if form in self._places), None) for pair in forms]
        vectors = [self._vector(word) for word in known if word is not None]
        if not vectors:
            raise DataError(f"{self._path.name} has no word of the query {sentence[:40]!r}; put it in other words")
        yield np.stack(vectors)

    def encode(self, inputs: Sequence[Rows]) -> list[Rows]:
        """A ``(1, dim)`` float32 vector for each sentence."""
        return [vectors.mean(axis=0, keepdims=True) for vectors in inputs]

    def provenance(self) -> Provenance:
        """How these vectors are made."""
        return Provenance(
            backbone=self.name, dim=self.dim, revision=self.revision, normalisation="mean of the words' vectors"
        )

    def _vector(self, word: bytes) -> Rows:
        start = self._places[word]
        end = self._bytes.find(b"\n", start)
        try:
            vector = np.array(self._bytes[start : None if end < 0 else end].split(), dtype=np.float32)
        except ValueError:
            vector = np.empty(0, np.float32)
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            raise self._malformed(f"the vector of {word.decode(errors='replace')!r} is not {self.dim} numbers")
        return vector

    def _malformed(self, found: str) -> ConfigError:
        return ConfigError(f"{self._path}: no file of GloVe vectors: {found}; name or download another")
