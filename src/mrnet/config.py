"""The configuration: what a run depends on, and what is left of it in a checkpoint.

A :class:`RunConfig` comes from a recipe (``mrnet/recipes/NAME.yaml``) or a file, any field of which can be overridden
by its dotted name (``model.layers=4``). Unknown keys and values out of range are refused. A run is reproducible from
its saved configuration alone. A :class:`ModelSpec` is the part that answering needs; it holds no path.
"""

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from mrnet.documents import parse_yaml
from mrnet.errors import ConfigError, brief
from mrnet.grid import map_diagonals
from mrnet.provenance import Provenance, portable_name
from mrnet.types import LONGEST_S, Modality, QueryKind, QueryProtocol


def _whole(least: int, most: int) -> FieldInfo:
    """Of whole numbers within bounds far from what anyone has trained with: no file of a few letters may ask for more
    than a machine has."""
    return Field(ge=least, le=most, strict=True)  # type: ignore[no-any-return]


Count = Annotated[int, _whole(1, 1_000_000)]
Natural = Annotated[int, _whole(0, 1_000_000)]
Width = Annotated[int, _whole(1, 65_536)]
Clips = Annotated[int, _whole(1, 1024)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]

QVHIGHLIGHTS_METRICS = [
    "MR-full-mAP", "MR-full-mAP@0.5", "MR-full-mAP@0.75", "MR-full-R1@0.5", "MR-full-R1@0.7",
]  # fmt: skip
"""Metrics of QVHighlights that a checkpoint can be selected by."""

MOST_WEIGHTS = 2**31
"""Of a network."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(_Section):
    """Architecture. Source: docs/method.md, sections 3 to 7."""

    video_dim: Width = Field(description="width of the video features")
    query_dim: Width = Field(description="width of the query features")
    num_pre_clips: Annotated[int, _whole(1, 16_384)] = Field(
        description="rows a video is resampled to before pooling"
    )
    num_clips: Clips = Field(description="T: clips, and side of the proposal map")
    pool_kernel: Count = Field(description="width of the average pool from num_pre_clips to num_clips")
    input_norm: bool = Field(
        False,
        description="layer norm of the features of video and query before anything else, so that their scale does not "
        "matter; false, as released, suits queries whose entries are about 1",
    )
    clip_projection: Literal["blocks", "linear"] = Field(
        "blocks",
        description="from features to clips: blocks, a 1x1 convolution and two blocks with dropout, as released; or "
        "dropout and one linear layer",
    )
    clip_hidden: Width = Field(512, description="channels of the 1x1 convolution, of clip_projection blocks")
    clip_dropout: Dropout = Field(0.5, description="dropout of the projection of clips")
    dim: Width = Field(256, description="d: joint width of text and video")

    transformer: bool = Field(True, description="false leaves the transformer out, which is MMN")
    layers: Annotated[int, _whole(1, 64)] = Field(2, description="maskable retention layers")
    heads: Count = Field(8, description="attention heads")
    ffn_dim: Width = Field(1024, description="width inside the feed-forward blocks")
    dropout: Dropout = Field(0.1, description="dropout on both residual branches")
    attention_dropout: Dropout = Field(0.0, description="dropout on attention weights")
    projections: Literal["modality", "shared"] = Field(
        "modality", description="form A: Q, K, V matrices of each modality; form B: one set for both"
    )
    tied_initialisation: bool = Field(
        False,
        description="form B's Q, K, V and output matrices start as copies of one, as in the released code",
    )
    attention: Literal["all", "video", "plain", "off"] = Field(
        "all",
        description="all: text and video together; video: clips only, text passes through; plain: together, "
        "without mask and modality matrices; off: identity",
    )
    fusion: Literal["none", "gate"] = Field(
        "none",
        description="gate: every clip is joined with the query before the transformer; none: clips meet the query in "
        "the transformer, or in the scores alone",
    )
    mask: Literal["none", "decay", "sparse", "both"] = Field("both", description="mask between video clips")
    mask_on: Literal["logits", "weights"] = Field(
        "logits",
        description="what the mask multiplies: logits, which it pulls to zero, as released; or attention weights "
        "before they are normalised, which it takes away",
    )
    gamma: Fraction = Field(0.98, description="decay of retention per clip of distance")
    bidirectional: bool = Field(True, description="false keeps only the causal half of the decay")
    doubled_diagonal: bool = Field(
        True, description="quirk: the decay both ways is 2 for a clip and itself; false makes it 1"
    )
    text_positions: bool = Field(
        True,
        description="text attends by its number in the sequence, which joint queries have from their true order",
    )
    softmax: bool = Field(True, description="false gives linear retention")
    zero_linear_retention: bool = Field(
        False,
        description="quirk of released modality-projection models: without softmax the attention is zero",
    )

    pooling_counts: list[Natural] = Field(
        max_length=10, description="diagonals of the proposal map at strides 1, 2, 4, ..."
    )
    proposals: Literal["pool", "conv", "mean"] = Field(
        "pool", description="max pools, learned 1-d convolutions, or the mean of a proposal's clips"
    )
    boundary: Literal["none", "add", "concat"] = Field(
        "none", description="how features of the start and end clip join a proposal"
    )
    boundary_replaces_conv: bool = Field(
        False,
        description="quirk of released conv proposals with added boundary: the convolutions are dropped",
    )
    head_hidden: Width = Field(512, description="channels of the stacked 2-d convolutions")
    head_kernel: Annotated[int, _whole(1, 255)] = Field(9, description="K: side of their kernels")
    head_layers: Annotated[int, _whole(0, 64)] = Field(
        4, description="L: how many are stacked; 0 leaves them out, so that proposals do not see each other"
    )
    iou_score: Literal["cosine", "readout"] = Field(
        "cosine",
        description="the IoU score's logit: 10 x cosine of query and proposal; or readout, the proposal's product with "
        "one learned vector over the root of dim, for proposals that know the query already",
    )
    members: Annotated[int, _whole(1, 64)] = Field(
        1,
        description="networks that learn side by side, each from other first weights, and whose scores are averaged",
    )
    contrastive_head: bool = Field(True, description="proposals are also compared with the query by a cosine")
    clip_head: bool = Field(
        False, description="every clip also says by itself where the moment is, which loss.clip_weight trains"
    )

    @property
    def pool_stride(self) -> int:
        return self.num_pre_clips // self.num_clips

    @property
    def about_weights(self) -> int:
        """How many weights the large matrices of the network have."""
        dim, hidden = self.dim, self.clip_hidden
        blocks = (self.video_dim + dim) * hidden + dim * dim
        clips = blocks if self.clip_projection == "blocks" else self.video_dim * dim
        transformer = self.layers * (8 * dim + 2 * self.ffn_dim) * dim + self.query_dim * dim
        proposals = sum(self.pooling_counts) * 2 * dim * dim if self.proposals == "conv" else 0
        head = self.head_layers * self.head_kernel**2 * self.head_hidden * max(self.head_hidden, dim)
        return self.members * (clips + transformer + proposals + head)

    @property
    def uses_sparse_mask(self) -> bool:
        return self.transformer and self.mask in ("sparse", "both")

    @property
    def video_depends_on_query(self) -> bool:
        """Whether clips meet text, so that every query (or set of them) needs a map of its own."""
        return self.fusion != "none" or (self.transformer and self.attention in ("all", "plain"))

    def has_own_maps(self, protocol: QueryProtocol) -> bool:
        """Whether every query has a map of its own, and not one in common with the video's others."""
        return self.video_depends_on_query and (protocol == "single" or self.fusion != "none")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dim % 2 or self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be even and a multiple of heads ({self.heads})")
        if self.num_clips > self.num_pre_clips:
            raise ValueError(f"num_clips {self.num_clips} exceeds num_pre_clips {self.num_pre_clips}")
        pooled = (self.num_pre_clips - self.pool_kernel) // self.pool_stride + 1
        if pooled != self.num_clips:
            raise ValueError(
                f"pooling num_pre_clips {self.num_pre_clips} with pool_kernel {self.pool_kernel} and stride "
                f"{self.pool_stride} gives {pooled} clips, but num_clips is {self.num_clips}"
            )
        if (self.head_kernel - 1) * self.head_layers % 2:
            raise ValueError(
                f"(head_kernel - 1) x head_layers must be even to keep the map's size, "
                f"got {self.head_kernel} and {self.head_layers}"
            )
        if self.attention == "off" and self.mask != "none":
            raise ValueError("attention off takes mask none")
        if self.tied_initialisation and self.projections != "shared":
            raise ValueError("tied_initialisation needs projections shared")
        if not self.doubled_diagonal and not (self.bidirectional and self.mask in ("decay", "both")):
            raise ValueError("doubled_diagonal false needs bidirectional true and mask decay or both")
        if self.fusion != "none" and self.transformer and self.attention in ("all", "plain"):
            raise ValueError(f"fusion {self.fusion} joins clips with one query: it takes attention video or off")
        if self.iou_score == "readout" and not self.video_depends_on_query:
            raise ValueError(
                "iou_score readout does not look at the query: it takes fusion gate, or attention all"
            )
        if self.mask_on == "weights" and not self.softmax:
            raise ValueError("mask_on weights needs softmax true: without it, the logits are the weights")
        if self.zero_linear_retention and (self.softmax or self.projections != "modality"):
            raise ValueError("zero_linear_retention needs softmax false and projections modality")
        if self.boundary_replaces_conv and (self.proposals, self.boundary) != ("conv", "add"):
            raise ValueError("boundary_replaces_conv needs proposals conv and boundary add")
        if 0 in self.pooling_counts[1:]:
            raise ValueError(f"pooling_counts {self.pooling_counts}: only the first may be 0")
        try:
            map_diagonals(self.num_clips, self.pooling_counts)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if self.about_weights > MOST_WEIGHTS:
            raise ValueError(
                f"these widths and layers make a network of about {self.about_weights:.1e} weights; "
                f"{MOST_WEIGHTS:.1e} are the most"
            )
        return self


class LossConfig(_Section):
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


class DecodeConfig(_Section):
    """From score maps to ranked moments. Source: docs/method.md, sections 7 and 9."""

    nms_threshold: Fraction = Field(0.5, description="moments overlapping a better one by more are dropped")
    score_power: float = Field(0.5, ge=0, description="p: power of the contrastive score")
    rank_by: Literal["score", "expected_overlap"] = Field(
        "score",
        description="score: of the proposal itself, as released; expected_overlap: the squared IoU to be expected of "
        "it, where scores are a distribution, as loss.proposal_loss listwise trains them, and by model.clip_head",
    )


class TrainConfig(_Section):
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
    averaging: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="decay a step of the average of weights that is validated, saved and answers; 0 takes the last",
    )
    full_loss_epochs: Natural = Field(
        description="ONLY_IOU: epochs before all but the IoU loss are scaled by 0.01"
    )
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.99), description="AdamW")
    weight_decay: float = Field(1e-5, ge=0, description="AdamW")
    grad_clip: Positive = Field(5.0, description="largest norm of the gradient")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="autocast; auto takes bf16 on CUDA devices that have it, else fp32"
    )
    seed: Annotated[int, _whole(0, 2**31 - 1)] = Field(
        0, description="of the weights, the order of videos and dropout"
    )
    workers: Annotated[int, _whole(0, 256)] = Field(0, description="processes that read features")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


def _can_name_a_file(text: str) -> str:
    try:
        is_name = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half a character
        is_name = False
    if not is_name:
        raise ValueError("no file can have this name")
    return text


Name = Annotated[str, AfterValidator(_can_name_a_file)]
Files = Annotated[list[Name], BeforeValidator(_as_list)]


class DataConfig(_Section):
    """Where annotations and features are. Paths are relative to the working directory."""

    train: Files = Field([], description="annotations to train on: a file, or several read as one")
    val: Files = Field([], description="annotations to select a checkpoint on; none holds some of train out")
    test: Files = Field([], description="annotations to report on")
    val_fraction: Fraction = Field(
        0.1,
        description="training videos held out where val is none, as a fraction; 0 holds none out, scores nothing while "
        "training, and keeps the last epoch",
    )
    video_features: Name | None = Field(None, description="feature store, or folder of videos to encode")
    query_kinds: list[QueryKind] = Field(
        default=["text"],
        min_length=1,
        description="text, speech, or both, for one model that takes either: features of text then fill the first "
        "columns of model.query_dim, those of speech the last",
    )
    text_features: Name | None = Field(
        None,
        description="of text queries: feature store keyed by the stem of the audio name or by qid; none encodes "
        "the sentences",
    )
    speech_features: Name | None = Field(
        None,
        description="of speech queries: feature store keyed by the stem of the audio name, or folder of sound files "
        "to encode",
    )
    video_backbone: Name = Field("color-hog-motion", description="encoder of raw videos")
    text_backbone: Name = Field("hashed-words", description="encoder of sentences")
    speech_backbone: Name = Field("speech-embedding", description="encoder of sound files")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.query_kinds)) < len(self.query_kinds):
            raise ValueError(f"query_kinds {self.query_kinds} names a kind twice")
        return self

    def without_paths(self) -> "DataConfig":
        """What may be passed on: kinds, backbones by their portable names, and no place on anyone's disk."""
        backbones = {key: portable_name(getattr(self, key)) for key in BACKBONE_FIELDS}
        return DataConfig(val_fraction=self.val_fraction, query_kinds=self.query_kinds, **backbones)


PATH_FIELDS = ("train", "val", "test", "video_features", "text_features", "speech_features")
"""Fields of :class:`DataConfig` that hold paths."""

BACKBONE_FIELDS = ("video_backbone", "text_backbone", "speech_backbone")
"""Fields of :class:`DataConfig` that name encoders."""


class EvaluationConfig(_Section):
    """What to report. Source: docs/method.md, section 9."""

    metrics: Literal["recall", "qvhighlights"] = Field("recall", description="kind of metrics")
    tious: list[Fraction] = Field(default=[0.3, 0.5, 0.7], description="thresholds of R@n")
    ranks: list[Annotated[int, _whole(1, 10)]] = Field(default=[1, 5], description="n of R@n, at most 10")
    select_by: str = Field("R@1,IoU=0.5", description="metric on the validation split that picks a checkpoint")

    @model_validator(mode="after")
    def _check(self) -> Self:
        recall = [f"R@{rank},IoU={tiou:g}" for rank in self.ranks for tiou in self.tious]
        known = [*recall, "mIoU"] if self.metrics == "recall" else QVHIGHLIGHTS_METRICS
        if self.select_by not in known:
            raise ValueError(f"select_by {self.select_by!r} is none of the metrics {', '.join(known)}")
        return self


class Calibration(_Section):
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


class VideoLengths(_Section):
    """How long the videos of a training split are, see :mod:`mrnet.retrieval.windows`.

    Attributes:
        usual_s: the median.
        longest_s: what 99 in 100 do not exceed: a few that are far longer taught little.
    """

    usual_s: Seconds
    longest_s: Seconds


class ModelSpec(_Section):
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
    provenances: dict[Modality, Provenance] = {}
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


class RunConfig(_Section):
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
        if self.loss.contrastive_weight > 0 and not self.model.contrastive_head:
            raise ValueError("loss.contrastive_weight trains model.contrastive_head: set it, or the weight to 0")
        if self.model.clip_head != (self.loss.clip_weight > 0):
            raise ValueError("model.clip_head and loss.clip_weight go together: set both, or neither")
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


def recipe_names() -> list[str]:
    """Names accepted by :func:`load_recipe`."""
    folder = resources.files("mrnet") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str, overrides: Sequence[str] = (), overlay: Mapping[str, Any] | None = None) -> RunConfig:
    """A shipped recipe with overrides.

    Args:
        name: one of :func:`recipe_names`.
        overrides: ``"dotted.key=value"``, the value in YAML.
        overlay: a tree of the fields to set before that, such as those of a dataset.

    Raises:
        ConfigError: unknown recipe or key, or a value that is not allowed.
    """
    return complete(_recipe_tree(name), f"recipe {name}", overrides, overlay)


def _recipe_tree(name: str) -> dict[str, Any]:
    """The fields of a recipe, upon those of the recipe that it ``extends``, if it names one."""
    if name not in recipe_names():
        raise ConfigError(f"unknown recipe {name!r}: choose one of {', '.join(recipe_names())}")
    text = (resources.files("mrnet") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    tree: dict[str, Any] = parse_yaml(text)
    base = tree.pop("extends", None)
    return tree if base is None else merge_trees(_recipe_tree(base), tree)


def complete(
    tree: dict[str, Any], source: str, overrides: Sequence[str] = (), overlay: Mapping[str, Any] | None = None
) -> RunConfig:
    """A tree of plain values with the fields of a dataset and overrides set, validated.

    Args:
        tree: nested dict, as read from YAML or JSON.
        source: where it is from, for messages.
        overrides: as of :func:`load_recipe`.
        overlay: as of :func:`load_recipe`.

    Raises:
        ConfigError: unknown key, or a value that is not allowed.
    """
    if overlay is not None:
        tree, source = merge_trees(tree, overlay), f"{source} with the fields of the dataset"
    return parse_config(apply_overrides(tree, overrides), source)


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``tree`` with ``"dotted.key=value"`` overrides set.

    Raises:
        ConfigError: an override without ``=``, or one whose value is not YAML.
    """
    merged = _copy(tree)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {brief(override)} is not of the form key=value, e.g. model.layers=4")
        try:
            value = parse_yaml(text)
        except yaml.YAMLError:
            raise ConfigError(f"override {brief(override)}: {brief(text)} is not a YAML value") from None
        node = merged
        *parents, leaf = key.split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(f"override {brief(override)}: {parent!r} has no fields")
            node = child
        node[leaf] = value
    return merged


def parse_config(tree: Any, source: str) -> RunConfig:
    """Validate a tree of plain values as the configuration of a run.

    Args:
        tree: nested dict, as read from YAML or JSON.
        source: where it is from, for messages.

    Raises:
        ConfigError: naming the first offending key.
    """
    return parse_section(RunConfig, tree, source)


def parse_spec(tree: Any, source: str) -> ModelSpec:
    """As :func:`parse_config`, of the specification in a checkpoint."""
    return parse_section(ModelSpec, tree, source)


_Tree = TypeVar("_Tree", bound=BaseModel)


def parse_section(kind: type[_Tree], tree: Any, source: str) -> _Tree:
    """As :func:`parse_config`, of any model of settings."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: the configuration is {brief(tree)}, not a mapping of keys: restore the file")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_problem(kind, error)}") from None


def first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    """The first thing that is wrong with a tree of settings, by its key."""
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known: Any = kind
        for part in first["loc"][:-1]:  # of a dictionary, the type of its values
            is_section = hasattr(known, "model_fields")
            known = known.model_fields[str(part)].annotation if is_section else get_args(known)[-1]
        fields = ", ".join(known.model_fields) if hasattr(known, "model_fields") else ""
        return f"unknown key {brief(key)}" + (f"; known here: {fields}" if fields else "")
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    value = "" if isinstance(first["input"], dict) or "got" in message else f", got {brief(first['input'])}"
    return (f"{key}: " if key else "") + f"{message}{value}{more}"


def merge_trees(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings in which those of ``changes`` take the place of theirs."""
    merged = dict(tree)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = (
            merge_trees(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
        )
    return merged


def _copy(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}
