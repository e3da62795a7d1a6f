"""A trained MRNet as a scorer."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mrnet.config import DecodeConfig, ModelConfig
from mrnet.retrieval.scorer import Candidates
from mrnet.temporal import cell_moments, check_width, hull_iou, resample
from mrnet.types import QueryProtocol

_MAPS_AT_ONCE = 16


def fuse_scores(iou: Tensor, contrastive: Tensor, score_power: float) -> Tensor:
    """Final score of proposals, ``(0.5·contrastive + 0.5)^p · iou``; any one shape.

    Source: docs/method.md, section 7.
    """
    return (contrastive * 0.5 + 0.5).clamp(min=0) ** score_power * iou  # a cosine may round to below -1


def expected_iou(logits: Tensor, cells: Tensor, among: int) -> Tensor:
    """The IoU to be expected of proposals, where the moment is one of the likeliest.

    Args:
        logits: ``(n, v)`` of the proposals.
        cells: ``(v, 2)`` their start and (inclusive) end clips.
        among: how many of the likeliest may be the moment, with the probabilities that a softmax over them says.

    Returns:
        ``(n, v)`` in (0, 1], and 0 of all others.
    """
    best = logits.topk(min(among, logits.shape[1]), dim=1)
    spans = torch.stack([cells[:, 0], cells[:, 1] + 1], dim=1).to(logits.dtype)[best.indices]  # (n, k, 2)
    overlaps = hull_iou(spans[:, :, None], spans[:, None])
    expected = (overlaps @ best.values.softmax(dim=1)[..., None])[..., 0]
    return torch.zeros_like(logits).scatter(1, best.indices, expected)


@dataclass(frozen=True)
class EncodedVideo:
    """A video ready to be asked.

    Attributes:
        clips: ``(1, t, d)`` that no query has touched.
        duration_s: its length in seconds.
        proposals: the embeddings of its proposals, of a model whose clips no query touches.
    """

    clips: Tensor
    duration_s: float
    proposals: tuple[Tensor, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.clips, *(self.proposals or ())))


class Network(Protocol):
    """A trained network, whatever computes it: :class:`mrnet.model.mrnet.MRNet`, which says what each method is, or
    :class:`mrnet.weights.onnx.OnnxNetwork`."""

    config: ModelConfig
    valid: Tensor

    def eval(self) -> Any: ...
    def encode_once(self, video: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]: ...
    def logits(
        self, clips: Tensor, proposals: tuple[Tensor, Tensor] | None, queries: Tensor, protocol: QueryProtocol
    ) -> tuple[Tensor, Tensor]: ...


class TrainedScorer:
    """The valid proposals of a map, scored by a model.

    Args:
        model: on its device; put into evaluation mode by every call.
        decode: how proposals are scored.
        protocol: whether the queries of one call are asked one by one, or as one sequence in the order given.
    """

    def __init__(self, model: Network, decode: DecodeConfig, protocol: QueryProtocol = "single") -> None:
        self.model = model
        self.decode = decode
        self.protocol = protocol

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.valid.device

    @torch.inference_mode()
    def encode_video(self, rows: Tensor, duration_s: float) -> EncodedVideo:
        """As :meth:`mrnet.retrieval.scorer.Scorer.encode_video`."""
        config = self.model.config
        check_width(rows, config.video_dim, "the video", "model.video_dim")
        self.model.eval()
        clips, shared = self.model.encode_once(resample(rows, config.num_pre_clips).to(self.device)[None])
        return EncodedVideo(clips, duration_s, shared)

    @torch.inference_mode()
    def candidates(self, video: EncodedVideo, queries: Tensor) -> Candidates:
        """As :meth:`mrnet.retrieval.scorer.Scorer.candidates`.

        Cells of score 0 are no candidates. Where every query needs a map of its own, maps are made a few at a time,
        so that memory does not grow with the queries of a video.

        Source: docs/method.md, sections 7 and 9.
        """
        config = self.model.config
        check_width(queries, config.query_dim, "the query", "model.query_dim")
        self.model.eval()
        own_maps = config.has_own_maps(self.protocol)
        parts = torch.split(queries.to(self.device), _MAPS_AT_ONCE) if own_maps else [queries.to(self.device)]
        scores = torch.cat([self._scores(video, part) for part in parts])
        spans_s = cell_moments(self.model.valid.nonzero(), video.duration_s, config.num_clips)
        return Candidates(spans_s, scores.masked_fill(scores == 0, float("-inf")))

    def _scores(self, video: EncodedVideo, queries: Tensor) -> Tensor:
        """``(n, v)``"""
        logits, contrastive = self.model.logits(video.clips, video.proposals, queries, self.protocol)
        if self.decode.rank_by == "expected_iou":
            return expected_iou(logits, self.model.valid.nonzero(), self.decode.expected_among)
        return fuse_scores(logits.sigmoid(), contrastive, self.decode.score_power)
