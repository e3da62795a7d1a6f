"""What a training run depends on, whole."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mrnet.config.data import DataConfig
from mrnet.config.model import ModelConfig
from mrnet.config.section import BelowOne, Count, Fraction, Natural, Positive, Section, whole_number
from mrnet.config.spec import DecodeConfig
from mrnet.grid import count_cells
from mrnet.types import QueryProtocol

QVHIGHLIGHTS_METRICS = [
    "MR-full-mAP", "MR-full-mAP@0.5", "MR-full-mAP@0.75", "MR-full-R1@0.5", "MR-full-R1@0.7",
]  # fmt: skip
"""Metrics of QVHighlights that a checkpoint can be selected by."""


class LossConfig(Section):
    """Losses. Source: docs/method.md, section 8."""

    min_iou: Fraction = Field(0.5, description="IoU that becomes target 0")
    max_iou: Fraction = Field(1.0, description="IoU that becomes target 1")
    proposal_loss: Literal["iou", "listwise"] = Field(
        "iou",
        description="iou: cross-entropy of every proposal's IoU score, as released; listwise: of the proposals' "
        "distribution, against one in proportion to IoU^listwise_power",
    )
    listwise_power: Positive = Field(4.0, description="how sharply the listwise target prefers high IoU")
    clip_weight: float = Field(
        0.0, ge=0, description="weight of what clips say by themselves, see model.clip_head"
    )
    top_k: Count = Field(1, description="positive proposals of a query")
    margin: float = Field(0.3, ge=0, description="subtracted from the cosine of positive pairs")
    contrastive_weight: float = Field(0.1, ge=0, description="w: weight of the video and sentence losses")
    tau_video: Positive = Field(0.1, description="temperature of the video loss")
    tau_sentence: Positive = Field(0.1, description="temperature of the sentence loss")
    negative_iou: Fraction = Field(0.5, description="proposals of the video below it are negatives")
    sentence_removal_iou: Fraction = Field(
        0.5, description="sentences of the video whose moments overlap at least this much are no negatives"
    )
    sparsity_weight: float = Field(10.0, ge=0, description="lambda of the sparse mask's regulariser")
    sparsity_per_video: bool = Field(
        True, description="quirk: add the regulariser once per video of the batch, not once"
    )
    sparsity_doubling_ratio: float | None = Field(
        None,
        ge=0,
        description="quirk (LOSS_RATIO): add it again while it is at least ratio x batch size x lambda",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_iou >= self.max_iou:
            raise ValueError(f"min_iou {self.min_iou} must be below max_iou {self.max_iou}")
        return self


class TrainConfig(Section):
    """Optimisation. Source: docs/method.md, sections 8 and 9."""

    lr: Positive = Field(description="learning rate of AdamW")
    batch_size: Count = Field(description="videos of a step, over all processes")
    protocol: QueryProtocol = Field(
        "single",
        description="single: every query sees the video alone; joint: all queries of a video are one "
        "sequence in order of their ground-truth start (released behaviour; leaks that order)",
    )
    max_queries: Count | None = Field(
        None,
        description="queries of a video in a step, drawn anew each epoch; none takes all. With protocol single "
        "each has a proposal map of its own",
    )
    validate_every: Count = Field(
        1, description="epochs between two scores on the validation split; the last epoch is always scored"
    )
    epochs: Count = Field(description="passes over the training videos")
    milestones: list[Count] = Field(default=[], description="epochs after which lr is divided by 10")
    schedule: Literal["milestones", "cosine"] = Field(
        "milestones", description="how lr falls, epoch by epoch: at the milestones, or along half a cosine to 0"
    )
    paste: Fraction = Field(
        0.0,
        description="chance that a query is shown its moment in another video of the batch: all rows outside of the "
        "moment are that video's; with protocol single",
    )
    averaging: BelowOne = Field(
        0.0,
        description="decay a step of the average of weights that is validated, saved and answers; 0 takes the last",
    )
    full_loss_epochs: Natural = Field(
        description="ONLY_IOU: epochs before all but the IoU loss are scaled by 0.01"
    )
    betas: tuple[BelowOne, BelowOne] = Field((0.9, 0.99), description="AdamW")
    weight_decay: float = Field(1e-5, ge=0, description="AdamW")
    grad_clip: Positive = Field(5.0, description="largest norm of the gradient")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="autocast; auto takes bf16 on CUDA devices that have it, else fp32"
    )
    seed: Annotated[int, whole_number(0, 2**31 - 1)] = Field(
        0, description="of the weights, the order of videos and dropout"
    )
    workers: Annotated[int, whole_number(0, 256)] = Field(0, description="processes that read features")


class EvaluationConfig(Section):
    """What to report. Source: docs/method.md, section 9."""

    metrics: Literal["recall", "qvhighlights"] = Field("recall", description="kind of metrics")
    tious: list[Fraction] = Field(default=[0.3, 0.5, 0.7], description="thresholds of R@n")
    ranks: list[Annotated[int, whole_number(1, 10)]] = Field(default=[1, 5], description="n of R@n, at most 10")
    select_by: str = Field("R@1,IoU=0.5", description="metric on the validation split that picks a checkpoint")

    @model_validator(mode="after")
    def _check(self) -> Self:
        recall = [f"R@{rank},IoU={tiou:g}" for rank in self.ranks for tiou in self.tious]
        known = [*recall, "mIoU"] if self.metrics == "recall" else QVHIGHLIGHTS_METRICS
        if self.select_by not in known:
            raise ValueError(f"select_by {self.select_by!r} is none of the metrics {', '.join(known)}")
        return self


class RunConfig(Section):
    """Everything a training run depends on."""

    name: str = Field(description="dataset or experiment")
    model: ModelConfig
    loss: LossConfig = LossConfig()
    decode: DecodeConfig = DecodeConfig()
    train: TrainConfig
    data: DataConfig = DataConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model.contrastive_head != (self.loss.contrastive_weight > 0):
            raise ValueError(
                "model.contrastive_head and loss.contrastive_weight go together: set both, or neither"
            )
        if self.model.clip_head != (self.loss.clip_weight > 0):
            raise ValueError("model.clip_head and loss.clip_weight go together: set both, or neither")
        cells = count_cells(self.model.num_clips, self.model.pooling_counts)
        if self.loss.top_k > cells:
            raise ValueError(f"loss.top_k {self.loss.top_k}: the proposal map has {cells} valid cells; lower it")
        if self.train.milestones and self.train.schedule == "cosine":
            raise ValueError("train.schedule cosine takes no train.milestones")
        if self.train.paste and self.train.protocol == "joint":
            raise ValueError("train.paste shows every query a video of its own: it takes train.protocol single")
        if self.train.paste and self.loss.contrastive_weight > 0:
            raise ValueError(
                "train.paste takes loss.contrastive_weight 0: sentences of one video would be held for negatives"
            )
        return self

    def without_paths(self) -> "RunConfig":
        """The settings, for others to read and to train with."""
        return self.model_copy(update={"data": self.data.without_paths()})
