"""MRNet, assembled."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.config.model import ModelConfig
from mrnet.model.clip_head import ClipHead, ClipOutputs
from mrnet.model.clips import ClipEncoder
from mrnet.model.fast.routes import Route
from mrnet.model.fusion import GatedFusion
from mrnet.model.head import CellHead, ProposalHead
from mrnet.model.proposals import ProposalMap
from mrnet.model.transformer import RetentionTransformer
from mrnet.precision import at_least_float32
from mrnet.temporal import valid_cells
from mrnet.types import QueryProtocol


@dataclass(frozen=True)
class Embeddings:
    """What the losses and the scores are made of. Embeddings are float32 (float64 of such a model), L2-normalised but
    for those of IoU under ``iou_score`` readout.

    Attributes:
        iou_proposals: ``(m, v, d)`` IoU embeddings of the valid cells.
        contrastive_proposals: ``(m, v, d)``; ``None`` of a model without ``contrastive_head``.
        iou_queries: ``(n, d)``.
        contrastive_queries: ``(n, d)``.
        map_of_query: ``(n,)`` index in [0, m) of the map that answers each query.
        video_of_query: ``(n,)`` index in [0, b).
        video_of_map: ``(m,)`` index in [0, b).
        sparsity: scalar, summed over layers.
        num_videos: b.
        iou_scale: from products of IoU embeddings to logits.
        clips: of the m maps, what their clips say by themselves; ``None`` of a model without ``clip_head``.
    """

    iou_proposals: Tensor
    contrastive_proposals: Tensor | None
    iou_queries: Tensor
    contrastive_queries: Tensor
    map_of_query: Tensor
    video_of_query: Tensor
    video_of_map: Tensor
    sparsity: Tensor
    num_videos: int
    iou_scale: float = 10.0
    clips: ClipOutputs | None = None

    def iou_logits(self) -> Tensor:
        """``(n, v)`` logits of the IoU score of the valid cells, in row-major order.

        Source: docs/method.md, section 7.
        """
        return self.iou_scale * _products(self.iou_queries, self.iou_proposals, self.map_of_query)

    def contrastive_scores(self) -> Tensor:
        """``(n, v)`` cosine of each query with the proposals of its own map; 1 without a contrastive head.

        Source: docs/method.md, section 7.
        """
        if self.contrastive_proposals is None:
            return torch.ones_like(self.iou_logits())
        return _products(self.contrastive_queries, self.contrastive_proposals, self.map_of_query)


Proposals = tuple[Tensor, Tensor | None]
"""IoU and contrastive embeddings of valid cells, both ``(m, v, d)``, the latter where there is a head for them."""


class Answers(NamedTuple):
    """What e networks that answer together say to n queries of one video.

    Attributes:
        iou: ``(n, e, v)`` logits of the IoU score of the valid cells, in row-major order.
        contrastive: ``(n, e, v)`` cosines.
        inside: ``(n, e, t)`` of :class:`ClipOutputs`, as is the next; ``None`` without a clip head.
        reach: ``(n, e, t, 2)``
    """

    iou: Tensor
    contrastive: Tensor
    inside: Tensor | None
    reach: Tensor | None

    @classmethod
    def alone(cls, iou: Tensor, contrastive: Tensor, clips: ClipOutputs | None) -> Self:
        """Of one network, whose tensors have no axis for it."""
        inside, reach = (None, None) if clips is None else (clips.inside[:, None], clips.reach[:, None])
        return cls(iou[:, None], contrastive[:, None], inside, reach)


class MRNet(nn.Module):
    """Maskable Retentive Network.

    Args:
        config: architecture.
        route: of the proposal head's convolutions, see :class:`mrnet.model.fast.stack.TiledStack`, as for the next.
        memory_budget: bytes that speed may cost.

    Source: docs/method.md, sections 4 to 7.
    """

    def __init__(self, config: ModelConfig, *, route: Route = "auto", memory_budget: int | None = None) -> None:
        super().__init__()
        self.config = config
        valid = valid_cells(config.num_clips, config.pooling_counts)
        self.register_buffer("valid", valid, persistent=False)
        self.valid: Tensor
        self.clip_encoder = ClipEncoder(
            projection=config.clip_projection,
            video_dim=config.video_dim,
            hidden=config.clip_hidden,
            dim=config.dim,
            pool_kernel=config.pool_kernel,
            pool_stride=config.pool_stride,
            dropout=config.clip_dropout,
            input_norm=config.input_norm,
        )
        self.query_norm = nn.LayerNorm(config.query_dim) if config.input_norm else None
        self.query_encoder = nn.Linear(config.query_dim, config.dim)
        self.fusion = GatedFusion(config.dim, config.dropout) if config.fusion == "gate" else None
        self.transformer = RetentionTransformer(config) if config.transformer else None
        self.clip_head = ClipHead(config.dim) if config.clip_head else None
        # One of the two: the query's side of the IoU score, or what stands in its place.
        self.query_iou = nn.Linear(config.dim, config.dim) if config.iou_score == "cosine" else None
        self.readout = nn.Linear(config.dim, 1, bias=False) if config.iou_score == "readout" else None
        self.proposal_map = ProposalMap(
            num_clips=config.num_clips,
            pooling_counts=config.pooling_counts,
            dim=config.dim,
            features=config.proposals,
            boundary=config.boundary,
            boundary_replaces_conv=config.boundary_replaces_conv,
        )
        self.proposal_head: ProposalHead | CellHead = (
            ProposalHead(
                valid=valid,
                filled=config.boundary == "concat",
                dim=config.dim,
                hidden=config.head_hidden,
                kernel=config.head_kernel,
                layers=config.head_layers,
                contrastive=config.contrastive_head,
                route=route,
                memory_budget=memory_budget,
            )
            if config.head_layers
            else CellHead(
                dim=config.dim, contrastive=config.contrastive_head, readout=config.iou_score == "readout"
            )
        )

    def encode_video(self, video: Tensor) -> Tensor:
        """``(b, p, c)`` resampled features to ``(b, t, d)`` clips, which no query has touched."""
        clips: Tensor = self.clip_encoder(video)
        return clips

    def encode_queries(self, queries: Tensor) -> Tensor:
        """``(..., q)`` features of queries to ``(..., d)``, which no clip has touched."""
        text: Tensor = self.query_encoder(queries if self.query_norm is None else self.query_norm(queries))
        return text

    def embed_proposals(self, clips: Tensor) -> Proposals:
        """The part of :meth:`embed` that all queries of a video share, for models whose clips no query touches.

        Args:
            clips: ``(b, t, d)`` from :meth:`encode_video`.

        Returns:
            IoU and contrastive embeddings of the valid cells, both ``(b, v, d)``, the latter where there is a head.

        Raises:
            ValueError: the model's clips attend to queries.
        """
        if self.config.video_depends_on_query:
            raise ValueError(
                "the proposals of this model depend on the query: they cannot be embedded without one"
            )
        if self.transformer is not None:
            nothing = clips.new_zeros(len(clips), 0, clips.shape[-1])
            _, clips = self.transformer(nothing, clips, nothing[..., 0].bool())
        return self._proposals(clips)

    def forward(
        self,
        video: Tensor,
        queries: Tensor,
        query_mask: Tensor,
        protocol: QueryProtocol,
    ) -> Embeddings:
        """Embed videos and their queries.

        Args:
            video: ``(b, p, c)`` resampled features.
            queries: ``(b, s, q)`` query features, padded.
            query_mask: ``(b, s)`` bool, true for real queries (they come first).
            protocol: whether each query has the video to itself, or shares one sequence with the video's others.

        Returns:
            Embeddings with the queries flat, video by video.
        """
        return self.embed(self.encode_video(video), queries, query_mask, protocol)

    def embed(
        self,
        clips: Tensor,
        queries: Tensor,
        query_mask: Tensor,
        protocol: QueryProtocol,
        proposals: Proposals | None = None,
    ) -> Embeddings:
        """:meth:`forward` from clips that :meth:`encode_video` gave, and from what :meth:`embed_proposals` did."""
        text = self.encode_queries(queries)
        num_videos = len(clips)
        video_of_query = query_mask.nonzero()[:, 0]
        if self.config.has_own_maps(protocol):
            text, clips = text[query_mask][:, None], clips[video_of_query]
            mask_of_map = query_mask.new_ones(len(text), 1)
            video_of_map = video_of_query
            map_of_query = torch.arange(len(text), device=clips.device)
        else:  # one map a video, which all of its queries share
            mask_of_map, map_of_query = query_mask, video_of_query
            video_of_map = torch.arange(num_videos, device=clips.device)
        text, clips = self._meet(text, clips, mask_of_map)
        sparsity = text.new_zeros(()) if self.transformer is None else self.transformer.sparsity()
        text = text[mask_of_map]
        iou_proposals, contrastive_proposals = self._proposals(clips) if proposals is None else proposals
        return Embeddings(
            iou_proposals=iou_proposals,
            contrastive_proposals=contrastive_proposals,
            iou_queries=self._iou_queries(text),
            contrastive_queries=_normalise(text),
            map_of_query=map_of_query,
            video_of_query=video_of_query,
            video_of_map=video_of_map,
            sparsity=at_least_float32(sparsity),
            num_videos=num_videos,
            iou_scale=self.iou_scale,
            clips=None if self.clip_head is None else self.clip_head(clips),
        )

    def encode_once(self, video: Tensor) -> tuple[Tensor, Proposals | None]:
        """What the queries of one video share.

        Args:
            video: ``(1, p, c)`` resampled features.

        Returns:
            of :meth:`encode_video`, and of :meth:`embed_proposals` where no query touches clips; the first axis, here
            and in :meth:`answer`, is that of the networks that answer together.
        """
        clips = self.encode_video(video)
        return clips, None if self.config.video_depends_on_query else self.embed_proposals(clips)

    def answer(
        self, clips: Tensor, proposals: Proposals | None, queries: Tensor, protocol: QueryProtocol
    ) -> Answers:
        """What the proposals and clips of one video say to queries.

        Args:
            clips: from :meth:`encode_once`, as the next; proposals that are ``None`` are made.
            proposals: see there.
            queries: ``(n, q)`` features.
            protocol: as of :meth:`forward`.
        """
        mask = torch.ones(1, len(queries), dtype=torch.bool, device=queries.device)
        embeddings = self.embed(clips, queries[None], mask, protocol, proposals)
        said = embeddings.clips
        return Answers.alone(
            embeddings.iou_logits(),
            embeddings.contrastive_scores(),
            None if said is None else ClipOutputs(*(part[embeddings.map_of_query] for part in said)),
        )

    def ask(self, clips: Tensor, proposals: Proposals | None, queries: Tensor) -> Answers:
        """:meth:`answer` under protocol ``single``, by operations whose shapes depend on no values.

        This is what can be exported, see :mod:`mrnet.weights.onnx`. The number of queries is read from ``shape``:
        ``len`` would fix it where this is traced.
        """
        text = self.encode_queries(queries)[:, None]
        if proposals is None or self.clip_head is not None:
            clips = clips.expand(text.shape[0], -1, -1)
        text, clips = self._meet(text, clips, torch.ones_like(text[..., 0], dtype=torch.bool))
        text = text[:, 0]
        iou, contrastive = self._proposals(clips) if proposals is None else proposals
        logits = self.iou_scale * (iou @ self._iou_queries(text)[..., None])[..., 0]
        cosines = (
            torch.ones_like(logits) if contrastive is None else (contrastive @ _normalise(text)[..., None])[..., 0]
        )
        return Answers.alone(logits, cosines, None if self.clip_head is None else self.clip_head(clips))

    @property
    def iou_scale(self) -> float:
        """From products of IoU embeddings to logits."""
        return 10.0 if self.config.iou_score == "cosine" else 1.0

    def _meet(self, text: Tensor, clips: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``(m, s, d)`` text and the clips of each map after all that comes before the proposals."""
        if self.fusion is not None:
            clips = self.fusion(clips, text[:, 0])
        if self.transformer is not None:
            text, clips = self.transformer(text, clips, mask)
        return text, clips

    def _proposals(self, clips: Tensor) -> Proposals:
        """``(m, t, d)`` to the IoU and contrastive embeddings of the valid cells, ``(m, v, d)``."""
        if isinstance(self.proposal_head, CellHead):
            iou, contrastive = self.proposal_head(self.proposal_map.cells(clips))
        else:
            iou, contrastive = self.proposal_head(self.proposal_map(clips))
        return self._iou_side(iou), None if contrastive is None else _normalise(contrastive)

    def _iou_queries(self, text: Tensor) -> Tensor:
        """``(n, d)`` what the IoU embeddings are multiplied with."""
        if self.readout is not None:
            return at_least_float32(self.readout.weight).expand(text.shape[0], -1)
        assert self.query_iou is not None
        return self._iou_side(self.query_iou(text))

    def _iou_side(self, x: Tensor) -> Tensor:
        return _normalise(x) if self.config.iou_score == "cosine" else at_least_float32(x)


def _normalise(x: Tensor) -> Tensor:
    return F.normalize(at_least_float32(x), dim=-1)


def _products(queries: Tensor, proposals: Tensor, map_of_query: Tensor) -> Tensor:
    # All pairs in one product, then each query's own map: cheaper than copying a map for every query
    # unless there are as many maps as queries.
    if len(proposals) == len(queries):
        return torch.einsum("nd,nvd->nv", queries, proposals[map_of_query])
    pairs = torch.einsum("nd,mvd->nmv", queries, proposals)
    return pairs[torch.arange(len(queries), device=queries.device), map_of_query]
