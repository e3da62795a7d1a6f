"""What a question to a library comes to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from mrnet.answer import describe
from mrnet.export.words import ScoreName
from mrnet.types import Moment


@dataclass(frozen=True, slots=True)
class Hit:
    """A moment of a video in a library.

    Attributes:
        video: path of the file.
        duration_s: its length in seconds.
        moment: where in it.
    """

    video: str
    duration_s: float
    moment: Moment

    @property
    def score(self) -> float:
        return self.moment.score


@dataclass(frozen=True)
class SearchAnswer(Sequence[Hit]):
    """The moments of many videos that a query asks for, best first; a sequence of hits.

    Attributes:
        query: the sentence.
        hits: found; none where nothing is likely enough to be meant.
        best_guess: what would have been the answer where there is none.
        score_name: of hits that were seen, as of :class:`mrnet.answer.Answer`.
        library: where was searched.
        num_videos: how many files are in there.
        num_searched: how many of them passed the filters.
        exact: whether every row of theirs was looked at, and not only those that an index holds for near.
        answered_by: encoders and scorer, in words.
        note: what the person should know about this answer; empty where nothing.
        calibrated_on: footage on which the probabilities hold, in words; empty where scores are none.
    """

    query: str
    hits: tuple[Hit, ...]
    best_guess: Hit | None
    score_name: ScoreName
    library: str
    num_videos: int
    num_searched: int
    exact: bool
    answered_by: str
    note: str = ""
    calibrated_on: str = ""

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """The answer as ``mrnet search --json`` prints it; docs/library.md has the schema."""
        return {
            "query": self.query,
            "hits": [{"rank": rank} | self._described(hit) for rank, hit in enumerate(self.hits, start=1)],
            "best_guess": None if self.best_guess is None else self._described(self.best_guess),
            "library": {
                "uri": self.library,
                "num_videos": self.num_videos,
                "num_searched": self.num_searched,
                "exact": self.exact,
            },
            "note": self.note,
            "answered_by": self.answered_by,
            "calibrated_on": self.calibrated_on,
        }

    def _described(self, hit: Hit) -> dict[str, Any]:
        return {"video": hit.video, "duration_s": round(hit.duration_s, 3)} | describe(hit.moment, self.score_name)
