"""What is said in a video, searched by its subtitles.

A cue, or a sentence that goes over several, is a hit where a sentence encoder finds it near the query; so is where the
very words of the query are said. How near is near enough was measured on sentences alone (docs/real.md); nothing is
known of footage with subtitles, so a hit has a score and no probability.

The encoder knows English alone: sentences of another language are all alike to it, so there the very words count alone.
"""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Protocol, Self, TypeVar
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor

from mrnet.errors import VideoError
from mrnet.export.subtitles import is_label
from mrnet.features.backbone import Backbone, encode_sources
from mrnet.features.cache import FeatureCache
from mrnet.features.registry import make_backbone
from mrnet.media.subtitles import Cue, Track, find_tracks, read_cues
from mrnet.retrieval.aligned import PACKAGED_TEXT
from mrnet.retrieval.captions import caption
from mrnet.types import Moment

log = logging.getLogger(__name__)

LEAST_COSINE = 0.6
"""From which on a passage says what the query asks for: one query in 100 comes as near to any of 2,000 sentences
that have nothing to do with it (tools/said.py, docs/real.md)."""

# Where nothing is said for longer, a sentence has ended.
_LONGEST_GAP_S = 2.0
# So has one that goes on and on, as captions made by a program do without a full stop.
_MOST_WORDS = 30
_END = re.compile(r"(?<!\.\.)[.!?。！？][\"'”’»)\]]*$")
# What an encoder is given of a sentence; more may be too much for it.
_MOST_LETTERS = 250
# Of fewer words of an unquoted query, that they are said too means little.
_FEWEST_WORDS = 4
_QUOTED = re.compile(r"\s*(?:\"[^\"]+\"|“[^“”]+”|„[^„“”]+[“”]|«[^«»]+»)\s*")
# Of a script without spaces, every letter is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:'[^\W_]+)*")
_PAUSE = "|"
# A fifth of English speech, and next to nothing of other languages.
_ENGLISH = frozenset(
    ("the", "you", "and", "of", "that", "it", "this", "what", "are", "for", "your", "have", "not", "with", "she",
     "they", "but", "my", "if", "there", "here", "just", "know", "can", "would", "from", "who", "about", "it's", "i'm",
     "don't")
)  # fmt: skip
_LEAST_ENGLISH = 0.1
_REVISION = "passages of subtitles 1"


@dataclass(frozen=True)
class Said:
    """What is said in a video.

    Attributes:
        name: of the subtitles.
        cues: in order of time.
        passages: of :func:`passages`; none where they are not in English.
        vectors: ``(m, q)`` of the passages.
        words: ``" to be | or not "``, the words of all cues, with pauses.
        word_cues: number of the cue of each word; of a pause, of the cue before.
    """

    name: str
    cues: tuple[Cue, ...]
    passages: tuple[Cue, ...]
    vectors: Tensor
    words: str
    word_cues: tuple[int, ...]

    @classmethod
    def of(cls, name: str, cues: Sequence[Cue], vectors: Tensor) -> Self:
        """What subtitles say.

        Args:
            name: of the subtitles.
            cues: in order of time.
            vectors: ``(m, q)`` of their :func:`passages`; none where they are not in English.
        """
        words: list[str] = []
        word_cues: list[int] = []
        for number, cue in enumerate(cues):
            if number and cue.start_s - cues[number - 1].end_s > _LONGEST_GAP_S:
                words.append(_PAUSE)
                word_cues.append(number - 1)
            own = _words(cue.text)
            words += own
            word_cues += [number] * len(own)
        found = tuple(passages(cues)) if len(vectors) else ()
        return cls(name, tuple(cues), found, vectors, " ".join(["", *words, ""]), tuple(word_cues))


class Subtitles:
    """Reads what is said in videos, and searches it.

    Args:
        text: the packaged encoder of sentences, where it is at hand; made when first needed.
        cache: of what was read before; ``None`` keeps nothing.
    """

    def __init__(self, text: Backbone | None = None, cache: FeatureCache | None = None) -> None:
        self._text = text
        self._cache = cache

    def read(self, video: Path) -> Said | None:
        """What is said in a video; ``None`` where no subtitles say.

        The first of :func:`mrnet.media.subtitles.find_tracks` that holds words. What `mrnet find` itself has written
        beside a video, moments as subtitles, is not taken for speech.

        Raises:
            VideoError: the video is missing, or is none.
        """
        for track in find_tracks(video):
            try:
                if said := self._read(track):
                    return said
            except VideoError as error:
                log.warning("%s", error)
        return None

    def _read(self, track: Track) -> Said | None:
        text = self._encoder()
        known_by = text.provenance().model_copy(
            update={"revision": f"{text.revision}, {_REVISION}, stream {track.stream}"}
        )
        if self._cache is not None and (kept := self._cache.get_with_text(track.path, known_by)):
            return Said.of(track.name, [Cue(*cue) for cue in json.loads(kept[1])], torch.from_numpy(kept[0]))
        cues = read_cues(track)
        if all(is_label(cue.text) for cue in cues):
            return None
        english = track.english or (track.english is None and reads_as_english(cues))
        vectors = self._encode([passage.text for passage in passages(cues)] if english else [])
        if self._cache is not None:
            self._cache.put(track.path, known_by, vectors.numpy(), json.dumps(cues))
        return Said.of(track.name, cues, vectors)

    @property
    def dim(self) -> int:
        """Width of the vectors of passages."""
        return self._encoder().dim

    def _encoder(self) -> Backbone:
        if self._text is None:
            self._text = make_backbone("text", PACKAGED_TEXT)
        return self._text

    def _encode(self, texts: Sequence[str]) -> Tensor:
        encoder = self._encoder()
        rows = encode_sources(encoder, [text[:_MOST_LETTERS] for text in texts])
        return torch.from_numpy(np.concatenate([np.empty((0, encoder.dim), np.float32), *rows]))

    def encode_queries(self, queries: Sequence[str]) -> Tensor:
        """``(n, q)`` vectors of sentences, each put as a caption, to compare with those of passages."""
        return self._encode([caption(query) for query in queries])

    def find(self, said: Said, queries: Sequence[str], duration_s: float) -> list[list[Moment]]:
        """Where each query is said, the best first; moments do not overlap.

        The very words come first, with score 1: of a query in quotes, nothing else comes. Then passages by their
        cosine to the query put as a caption.

        Args:
            said: from :meth:`read`.
            queries: sentences.
            duration_s: of the video; what is said after its end is left out.
        """
        free = [query for query in queries if not is_quoted(query)]
        cosines = iter(self.encode_queries(free) @ said.vectors.T if free else ())
        found = []
        for query in queries:
            moments = literal(said, query)
            if not is_quoted(query):
                moments += _near(said, next(cosines))
            found.append(list(_apart(moments, duration_s)))
        return found


def is_quoted(query: str) -> bool:
    """Whether a query is in quotes as a whole, and so asks where these very words are said."""
    return _QUOTED.fullmatch(query) is not None and bool(_words(query))


def passages(cues: Sequence[Cue]) -> list[Cue]:
    """What can be a hit: sentences, joined where one goes on in the next cue, which follows soon; and their cues.

    Marks do not always tell: songs have none, and captions made by a program few.
    """
    joined: list[list[Cue]] = []
    for cue in cues:
        before = joined[-1] if joined else []
        goes_on = (
            before
            and cue.start_s - before[-1].end_s <= _LONGEST_GAP_S
            and not _END.search(before[-1].text)
            and sum(len(part.text.split()) for part in [*before, cue]) <= _MOST_WORDS
        )
        if goes_on:
            before.append(cue)
        else:
            joined.append([cue])
    return [_join(part) for part in joined] + [cue for part in joined if len(part) > 1 for cue in part]


def reads_as_english(cues: Sequence[Cue]) -> bool:
    """Whether as many of the words are common in English as they are there."""
    words = [word for cue in cues for word in _words(cue.text)]
    return sum(word in _ENGLISH for word in words) >= _LEAST_ENGLISH * len(words)


def literal_words(query: str) -> str:
    """What :attr:`Said.words` holds where the very words of a query are said; ``""`` where they are not looked for.

    Upper case, marks and quotes count for nothing. Of a query of fewer than four words that is not in quotes, none are.
    """
    words = _words(query)
    if not words or (len(words) < _FEWEST_WORDS and not is_quoted(query)):
        return ""
    return " ".join(["", *words, ""])


def literal(said: Said, query: str) -> list[Moment]:
    """Where the words of a query are said one after the other, in order of time: see :func:`literal_words`.

    They may go over cues, but not over a pause of 2 s.
    """
    phrase = literal_words(query)
    if not phrase:
        return []
    num_words = phrase.count(" ") - 1
    moments = []
    at = said.words.find(phrase)
    while at >= 0:
        first = said.words.count(" ", 0, at)
        cues = said.word_cues[first : first + num_words]
        span = _join(said.cues[cues[0] : cues[-1] + 1])
        moments.append(Moment(span.start_s, span.end_s, 1.0, "said", span.text))
        at = said.words.find(phrase, at + 1)
    return moments


class _Scored(Protocol):
    @property
    def score(self) -> float: ...


Found = TypeVar("Found", bound=_Scored)
"""A moment, or what has one."""


def interleave(seen: Sequence[Found], said: Sequence[Found]) -> list[Found]:
    """Moments of both sources in one order: in turn, as their scores do not compare.

    One in which the very words are said comes first, else the best one that was seen.
    """
    first, second = (said, seen) if said and said[0].score >= 1 else (seen, said)
    return [moment for moment in chain.from_iterable(zip_longest(first, second)) if moment is not None]


def _near(said: Said, cosines: Tensor) -> list[Moment]:
    near = (cosines >= LEAST_COSINE).nonzero()[:, 0]
    values, order = cosines[near].sort(descending=True, stable=True)
    return [
        Moment(passage.start_s, passage.end_s, min(value, 1.0), "said", passage.text)
        for value, passage in zip(values.tolist(), (said.passages[i] for i in near[order].tolist()), strict=True)
    ]


def _apart(moments: Sequence[Moment], duration_s: float) -> Iterator[Moment]:
    """Those that begin in the video and overlap no better one."""
    taken: list[Moment] = []
    for moment in moments:
        if moment.start_s < duration_s and all(
            moment.end_s <= other.start_s or other.end_s <= moment.start_s for other in taken
        ):
            taken.append(moment)
            yield moment._replace(end_s=min(moment.end_s, duration_s))


def _join(cues: Sequence[Cue]) -> Cue:
    return Cue(cues[0].start_s, max(cue.end_s for cue in cues), " ".join(cue.text for cue in cues))


def _words(text: str) -> list[str]:
    return _WORD.findall(normalize("NFKC", text).replace("’", "'").casefold())
