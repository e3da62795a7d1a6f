"""The one interface of everything that answers: a trained model, a similarity, a video in windows."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

Video = TypeVar("Video")
"""What a scorer keeps of a video."""


@dataclass(frozen=True)
class Candidates:
    """Moments that may answer some queries of one video.

    Attributes:
        spans_s: ``(c, 2)`` start and end in seconds; of equal scores the earlier row wins.
        scores: ``(n, c)`` of each of the n queries, higher is better; minus infinity where a moment is none.
        levels: ``(n, c)`` the evidence for each moment whatever else the video holds, where scores say how far it
            stands out from its video; ``None`` of scores that stand alone.
        probabilities: ``(n, c)`` that a moment is meant, where that is known, see :mod:`mrnet.retrieval.calibration`.
        curves: ``(n, r)`` how well each row of the video fits each query, where the scorer goes by that.
    """

    spans_s: Tensor
    scores: Tensor
    levels: Tensor | None = None
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
