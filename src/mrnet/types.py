"""The records that travel through the package, and the axis legend of its tensors.

Axis letters, used in every docstring::

    b  videos of a batch             s  queries of a video (padded to the longest)
    n  queries of a batch, flat      m  sequences given to the transformer
    p  clips before pooling          t  clips, and either side of the proposal map
    c  width of the video features   q  width of the query features
    d  joint width of the model      v  valid cells of the proposal map
    w  ground-truth moments of a query (padded by repetition)

``m`` equals ``b`` when the queries of a video are encoded jointly (released behaviour) and
``n`` when every query sees the video alone (the default).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
"""Endings of video files: looked for in folders, and dropped from names to make video ids."""


QueryKind = Literal["typed", "spoken"]
"""How a query is put: as a sentence, or as a sound file of someone saying it."""


class Moment(NamedTuple):
    """A ranked answer: a stretch of video, in seconds, and its score in [0, 1]."""

    start_s: float
    end_s: float
    score: float


class Span(NamedTuple):
    """A ground-truth moment, in seconds from the start of the video."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Query:
    """A sentence, typed or spoken, and the moments it describes.

    Attributes:
        text: the sentence.
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
    kind: QueryKind = "typed"


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


class Projection(BaseModel):
    """A PCA that features went through after their backbone.

    Attributes:
        sha256: of the file with its mean and components.
        dim: width before.
        fitted_on: whose rows it was fitted on, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    dim: int
    fitted_on: str


class Provenance(BaseModel):
    """How a set of features was made: travels from the feature store into every checkpoint.

    Attributes:
        backbone: registered name of the encoder, e.g. ``"color-hog-motion"``, or a free name
            for published features, e.g. ``"c3d"``.
        dim: width of a feature row.
        rows_per_s: rows a second of video; ``None`` where unknown or not applicable.
        revision: version of the encoder; ``"sha256:…"`` of its weights where it has any.
        frame_rate: frames a second that the encoder is shown; ``None`` where not applicable.
        frames_per_row: frames that a row is made of. With ``frame_rate`` over ``rows_per_s``, the stride in
            frames, it tells how rows overlap.
        normalisation: what is done to pixels, samples or rows, in words.
        projection: the PCA they went through, if any.
        libraries: package -> version.
        details: anything else worth knowing, as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    dim: int
    rows_per_s: float | None = None
    revision: str = ""
    frame_rate: float | None = None
    frames_per_row: int | None = None
    normalisation: str = ""
    projection: Projection | None = None
    libraries: dict[str, str] = {}
    details: dict[str, str] = {}

    @property
    def label(self) -> str:
        """Backbone, revision and PCA, for messages."""
        revision = f" revision {self.revision}" if self.revision else ""
        pca = "" if self.projection is None else f" reduced to {self.dim} by PCA {self.projection.sha256[:8]}"
        return repr(self.backbone) + revision + pca

    def same_encoder(self, other: "Provenance") -> bool:
        """Whether features of both mean the same.

        Weights that are known by their content are the same wherever they lie: a folder may have moved.
        """
        known = self.revision.startswith("sha256:")
        backbones = known or self.backbone == other.backbone
        return backbones and (self.revision, self.projection) == (other.revision, other.projection)
