"""What a checkpoint says of its model: all that answering needs, and no path."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mrnet.config.model import ModelConfig
from mrnet.config.section import Fraction, Seconds, Section, Width
from mrnet.provenance import Provenance
from mrnet.types import Modality, QueryKind

RankBy = Literal["score", "expected_overlap", "clear_overlap"]


class DecodeConfig(Section):
    """From score maps to ranked moments. Source: docs/method.md, sections 7 and 9."""

    nms_threshold: Fraction = Field(0.5, description="moments overlapping a better one by more are dropped")
    score_power: float = Field(0.5, ge=0, description="p: power of the contrastive score")
    rank_by: RankBy = Field(
        "score",
        description="score: of the proposal itself, as released; expected_overlap: the squared IoU to be expected of "
        "it, where scores are a distribution, as loss.proposal_loss listwise trains them, and by model.clip_head; "
        "clear_overlap: likewise, how far an IoU of 0.5 or more is to be expected",
    )
    sharpness: float = Field(
        1.0,
        gt=0,
        le=100,
        description="what logits are multiplied with before they are read as a distribution, of expected_overlap and "
        "clear_overlap",
    )


class Calibration(Section):
    """From what a scorer says of a moment to a probability, see :mod:`mrnet.retrieval.calibration`.

    Attributes:
        bias: of the logistic regression.
        weights: of :func:`mrnet.retrieval.calibration.evidence`.
        threshold: where no moment is at least as probable, a query counts as not in the video.
        footage: that it was fitted on, in words.
    """

    bias: float
    weights: tuple[float, float, float, float, float]
    threshold: float = Field(0.5, ge=0, le=1)
    footage: str


class VideoLengths(Section):
    """How long the videos of a training split are, see :mod:`mrnet.retrieval.windows`.

    Attributes:
        usual_s: the median.
        longest_s: what 99 in 100 do not exceed: a few that are far longer taught little.
    """

    usual_s: Seconds
    longest_s: Seconds


class ModelSpec(Section):
    """What answering with a model needs, and nothing about whoever trained it: saved beside its weights.

    Attributes:
        name: of the dataset or experiment it was trained for.
        model: architecture.
        decode: from scores to ranked moments.
        query_widths: kinds of query that it takes, with the width of their features, which add up to
            ``model.query_dim``.
        provenances: how the features it was trained on were made, where that is known.
        calibration: of its scores, where the validation split allowed one.
        trained_lengths: of the videos it was trained on; ``None``, as of imported checkpoints, where that is not known,
            and then every video is asked whole.
    """

    name: str
    model: ModelConfig
    decode: DecodeConfig = DecodeConfig()
    query_widths: dict[QueryKind, Width] = Field(min_length=1)
    provenances: dict[Modality, Provenance] = Field(default={})
    calibration: Calibration | None = None
    trained_lengths: VideoLengths | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = sum(self.query_widths.values())
        if total != self.model.query_dim:
            raise ValueError(f"query_widths add up to {total}, but model.query_dim is {self.model.query_dim}")
        return self

    @property
    def query_kinds(self) -> list[QueryKind]:
        return list(self.query_widths)
