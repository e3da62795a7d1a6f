"""The one interface of everything that answers: a trained model, a similarity, a video in windows."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

Video = TypeVar("Video")
"""What a scorer keeps of a video."""


class Relative(NamedTuple):
    """Of scores that say how far a moment stands out from its video, ``weights * (evidence - background)``.

    Attributes:
        background: ``(n,)`` what is usual in the video, of each query.
        weights: ``(c,)`` of each moment.
        levels: ``(n, c)`` the evidence for each moment, whatever else the video holds.
    """

    background: Tensor
    weights: Tensor
    levels: Tensor


@dataclass(frozen=True)
class Candidates:
    """Moments that may answer some queries of one video.

    Attributes:
        spans_s: ``(c, 2)`` start and end in seconds; of equal scores the earlier row wins.
        scores: ``(n, c)`` of each of the n queries, higher is better; minus infinity where a moment is none.
        relative: what the scores are made of, where they are relative to the video; ``None`` where they stand alone.
        probabilities: ``(n, c)`` that a moment is meant, where that is known, see :mod:`mrnet.retrieval.calibration`.
        curves: ``(n, r)`` how well each row of the video fits each query, where the scorer goes by that.
    """

    spans_s: Tensor
    scores: Tensor
    relative: Relative | None = None
    probabilities: Tensor | None = None
    curves: Tensor | None = None


class Scorer(Protocol[Video]):
    """Says how well the moments of a video fit queries."""

    def encode_video(self, rows: Tensor, duration_s: float) -> Video:
        """What is worth doing once for all queries of a video.

        Args:
            rows: ``(r, c)`` features as their backbone gives them.
            duration_s: length of the video in seconds.

        Raises:
            FeatureShapeError: the rows are of another width than the scorer's.
        """
        ...

    def candidates(self, video: Video, queries: Tensor) -> Candidates:
        """Scored moments of a video.

        Args:
            video: from :meth:`encode_video`.
            queries: ``(n, q)`` features of n queries.

        Raises:
            FeatureShapeError: the queries are of another width than the scorer's.
        """
        ...
