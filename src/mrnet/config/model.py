"""The architecture of a network."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mrnet.config.section import BelowOne, Clips, Count, Fraction, Natural, Section, Width, whole_number
from mrnet.errors import ConfigError
from mrnet.grid import map_diagonals
from mrnet.types import QueryProtocol

MOST_WEIGHTS = 2**31
"""Of a network."""


class ModelConfig(Section):
    """Architecture. Source: docs/method.md, sections 3 to 7."""

    video_dim: Width = Field(description="width of the video features")
    query_dim: Width = Field(description="width of the query features")
    num_pre_clips: Annotated[int, whole_number(1, 16_384)] = Field(
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
    clip_dropout: BelowOne = Field(0.5, description="dropout of the projection of clips")
    dim: Width = Field(256, description="d: joint width of text and video")

    transformer: bool = Field(True, description="false leaves the transformer out, which is MMN")
    layers: Annotated[int, whole_number(1, 64)] = Field(2, description="maskable retention layers")
    heads: Count = Field(8, description="attention heads")
    ffn_dim: Width = Field(1024, description="width inside the feed-forward blocks")
    dropout: BelowOne = Field(0.1, description="dropout on both residual branches")
    attention_dropout: BelowOne = Field(0.0, description="dropout on attention weights")
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
    head_kernel: Annotated[int, whole_number(1, 255)] = Field(9, description="K: side of their kernels")
    head_layers: Annotated[int, whole_number(0, 64)] = Field(
        4, description="L: how many are stacked; 0 leaves them out, so that proposals do not see each other"
    )
    iou_score: Literal["cosine", "readout"] = Field(
        "cosine",
        description="the IoU score's logit: 10 x cosine of query and proposal; or readout, the proposal's product with "
        "one learned vector, for proposals that know the query already",
    )
    members: Annotated[int, whole_number(1, 64)] = Field(
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
