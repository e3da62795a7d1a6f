"""What a question about a video comes to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from mrnet.errors import ConfigError, DataError
from mrnet.export.words import ScoreName
from mrnet.types import Moment, QueryKind, Source

if TYPE_CHECKING:
    import pandas as pd


class MomentJson(TypedDict):
    """A moment in JSON: ``rank`` from 1 unless it is a best guess, and ``probability``, or ``score`` where none is
    known."""

    rank: NotRequired[int]
    start_s: float
    end_s: float
    probability: NotRequired[float]
    score: NotRequired[float]
    source: Source
    words: str


class AnswerJson(TypedDict):
    """An answer in JSON, the same from the command line, over HTTP and in Python; docs/find.md says what is what."""

    video: str | None
    duration_s: float
    query: str
    kind: QueryKind
    moments: list[MomentJson]
    best_guess: MomentJson | None
    note: str
    answered_by: str
    calibrated_on: str


def _no_curve() -> npt.NDArray[np.float32]:
    return np.empty((0, 2), np.float32)


@dataclass(frozen=True)
class Answer(Sequence[Moment]):
    """The moments that a query asks for, best first; a sequence of them.

    Attributes:
        query: the sentence, or the name of the sound file.
        kind: which of the two.
        duration_s: length of the video in seconds.
        moments: found; none where nothing in the video is likely enough to be meant.
        best_guess: what would have been the answer where there is none.
        score_name: of moments that were seen: ``"probability"`` where scores are probabilities that mean the same for
            every query and video, else ``"score"``: larger is better, within one answer. The scores of those that were
            said are 1 for the very words, else the cosine of two sentences.
        answered_by: encoders and scorer, in words.
        video: the file, where it was one.
        note: what the person should know about this answer; empty where nothing.
        calibrated_on: footage on which the probabilities hold, in words; empty where scores are none.
        curve: ``(r, 2)`` times in seconds and how well each fits; no rows where the scorer has no such thing.
    """

    query: str
    kind: QueryKind
    duration_s: float
    moments: tuple[Moment, ...]
    best_guess: Moment | None
    score_name: ScoreName
    answered_by: str
    video: Path | None = None
    note: str = ""
    calibrated_on: str = ""
    curve: npt.NDArray[np.float32] = field(default_factory=_no_curve, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.moments)

    @overload
    def __getitem__(self, index: int) -> Moment: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Moment, ...]: ...
    def __getitem__(self, index: int | slice) -> Moment | tuple[Moment, ...]:
        return self.moments[index]

    def __iter__(self) -> Iterator[Moment]:
        return iter(self.moments)

    @property
    def best(self) -> Moment | None:
        """The best moment, likely enough or not; ``None`` where there is none at all."""
        return self.moments[0] if self.moments else self.best_guess

    def to_dict(self) -> AnswerJson:
        """The answer as ``mrnet find --json`` prints it; docs/find.md has the schema."""
        return {
            "video": None if self.video is None else str(self.video),
            "duration_s": round(self.duration_s, 3),
            "query": self.query,
            "kind": self.kind,
            "moments": [
                {"rank": rank, **describe(moment, self.score_name)}
                for rank, moment in enumerate(self.moments, start=1)
            ],
            "best_guess": None if self.best_guess is None else describe(self.best_guess, self.score_name),
            "note": self.note,
            "answered_by": self.answered_by,
            "calibrated_on": self.calibrated_on,
        }

    def to_pandas(self) -> "pd.DataFrame":
        """A row for every moment.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError("to_pandas needs pandas: pip install pandas") from None
        columns = ["rank", "start_s", "end_s", *dict.fromkeys([self.score_name, "score"]), "source", "words"]
        rows = pd.DataFrame(self.to_dict()["moments"], columns=columns)
        return rows.assign(query=self.query, video=None if self.video is None else str(self.video))

    def plot(self, path: str | Path) -> None:
        """Draw frames, curve and moments into a PNG file.

        Raises:
            DataError: the video was given as features, which show no frames.
            OutputError, VideoError: the file cannot be written, or the video not read.
        """
        if self.video is None:
            raise DataError("a video that was given as features has no frames to draw: give the file")
        from mrnet.export.plot import plot

        shown = self.moments or ((self.best_guess,) if self.best_guess else ())
        plot(
            Path(path),
            self.video,
            self.duration_s,
            shown,
            self.query,
            curve=self.curve.tolist(),
            score_name=self.score_name,
        )


def describe(moment: Moment, score_name: ScoreName) -> MomentJson:
    """A moment as JSON has it.

    Args:
        moment: any.
        score_name: what the scores of moments that were seen are.
    """
    name = score_name if moment.source == "seen" else "score"
    return {
        "start_s": round(moment.start_s, 3),
        "end_s": round(moment.end_s, 3),
        name: round(moment.score, 4),  # type: ignore[misc] # the one key or the other
        "source": moment.source,
        "words": moment.words,
    }
