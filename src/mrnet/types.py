"""The records that travel through the package, and the axis legend of its tensors.

Axis letters, used in every docstring:

    b  videos of a batch             s  queries of a video (padded to the longest)
    n  queries of a batch, flat      m  sequences given to the transformer
    r  rows of features as stored    p  rows after resampling, before pooling
    t  clips, and either side of the proposal map
    c  width of the video features   q  width of the query features
    d  joint width of the model      v  valid cells of the proposal map
    h  attention heads               w  ground-truth moments of a query (padded by repetition)
    k  ranked moments, or positive proposals, of a query

A word in place of a letter says what it counts: ``(tokens, dim)``, ``(frames, height, width, 3)``.

``m`` equals ``b`` when the queries of a video are encoded jointly (released behaviour) and
``n`` when every query sees the video alone (the default).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
"""Endings of video files: looked for in folders, and dropped from names to make video ids."""

LONGEST_S = 1e7
"""The longest a video can be, in seconds: 115 days. What claims to be longer is damaged, or means to do harm."""

RATERS, HIGHEST_RATING = 3, 4
"""Of QVHighlights: so many people rated each clip, from 0 on."""

Modality = Literal["video", "text", "speech"]
"""What a backbone encodes."""

QueryKind = Literal["text", "speech"]
"""What a query is made of: a sentence, or a sound file of someone saying it. In this order their features lie side
by side where a model takes both."""

QueryProtocol = Literal["single", "joint"]
"""Whether each query of a video is asked alone, or all in one sequence in order of their ground-truth start (released
behaviour, which leaks that order)."""

AskedProtocol = Literal["single", "joint", "shuffled"]
"""How a trained model can be asked: as it is trained, or in one sequence whose order is drawn, which leaks nothing."""

Watch = Callable[[float, float], None]
"""Is told how much is done, and of how much; what it raises ends the work."""

Source = Literal["seen", "said"]
"""Where a moment was found: in the pictures, or in the subtitles."""


class Moment(NamedTuple):
    """A ranked answer: a stretch of video, in seconds, and its score in [0, 1].

    One that was said carries the words of the subtitles; scores compare within one source alone.
    """

    start_s: float
    end_s: float
    score: float
    source: Source = "seen"
    words: str = ""


class Span(NamedTuple):
    """A ground-truth moment, in seconds from the start of the video."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Query:
    """A sentence, written or said, and the moments it describes.

    Attributes:
        text: the sentence as it is written in its file, blanks at its ends too: to some encoders they matter.
        moments: its ground-truth moments; empty for a test split whose answers are withheld.
        qid: identifier, unique in its file.
        audio: name of the sound file of a spoken annotation, else ``None``.
        relevant_clips: QVHighlights only: indices of relevant 2-second clips.
        saliency: QVHighlights only: three ratings for each of ``relevant_clips``.
        kind: whether the sentence is asked, or the sound file.
    """

    text: str
    moments: tuple[Span, ...]
    qid: str
    audio: str | None = None
    relevant_clips: tuple[int, ...] = ()
    saliency: tuple[tuple[int, ...], ...] = ()
    kind: QueryKind = "text"


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """A video with the queries asked of it.

    Attributes:
        video_id: identifier; names the video's features.
        duration_s: length in seconds, above 0.
        queries: sorted by the start of their first moment, ties in file order.
    """

    video_id: str
    duration_s: float
    queries: tuple[Query, ...]
