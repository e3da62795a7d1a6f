"""A trained MRNet as a scorer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mrnet.config.model import ModelConfig
from mrnet.config.spec import DecodeConfig, RankBy
from mrnet.model.mrnet import Answers, Proposals
from mrnet.retrieval.scorer import Candidates
from mrnet.temporal import cell_moments, check_width, clip_middles, hull_iou, resample
from mrnet.types import QueryProtocol

_MAPS_AT_ONCE = 16
# Of an IoU, by `decode.rank_by`.
_WORTH: dict[RankBy, Callable[[Tensor], Tensor]] = {
    "expected_overlap": torch.square,
    "clear_overlap": lambda iou: torch.sigmoid((iou - 0.5) / 0.1),
}


def fuse_scores(iou: Tensor, contrastive: Tensor, score_power: float) -> Tensor:
    """Final score of proposals, ``(0.5·contrastive + 0.5)^p · iou``; any one shape.

    Source: docs/method.md, section 7.
    """
    return (contrastive * 0.5 + 0.5).clamp(min=0) ** score_power * iou  # a cosine may round to below -1


def expected_worth(answers: Answers, spans: Tensor, decode: DecodeConfig) -> Tensor:
    """What is to be expected of proposals, by a measure of their IoU with the moment.

    A plain IoU would prefer long moments that surely touch the right one to those that probably are it; so it is
    squared (``expected_overlap``), or counts by how clearly it is above a half (``clear_overlap``). The softmax of the
    proposals' logits says how likely each is the moment. Where clips speak for themselves too, the moment of each is
    as likely as a softmax over their ``inside`` says, and both expectations are averaged.

    Args:
        answers: of n queries by e networks.
        spans: ``(v, 2)`` the proposals, as fractions of the video.
        decode: ``rank_by`` names the measure, ``sharpness`` multiplies the logits.

    Returns:
        ``(n, e, v)`` in [0, 1].
    """
    worth = _WORTH[decode.rank_by]
    likely = (decode.sharpness * answers.iou).softmax(dim=-1)
    expected = likely @ worth(hull_iou(spans[:, None], spans)).to(likely.dtype)
    if answers.inside is None or answers.reach is None:
        return expected
    middles = clip_middles(answers.inside.shape[-1], spans.device)
    moments = torch.stack([middles - answers.reach[..., 0], middles + answers.reach[..., 1]], dim=-1).clamp(0, 1)
    worths = worth(hull_iou(spans[:, None], moments[..., None, :, :]))  # (n, e, v, t)
    by_clips = (worths @ (decode.sharpness * answers.inside).softmax(dim=-1)[..., None])[..., 0]
    return (expected + by_clips) / 2


@dataclass(frozen=True)
class EncodedVideo:
    """A video ready to be asked.

    Attributes:
        clips: ``(e, t, d)`` of the networks that answer, which no query has touched.
        duration_s: its length in seconds.
        proposals: the embeddings of its proposals, where no query touches its clips.
    """

    clips: Tensor
    duration_s: float
    proposals: Proposals | None = None

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.clips, *(self.proposals or ())) if tensor is not None)


class Answering(Protocol):
    """A trained network, whatever computes it: :class:`mrnet.model.mrnet.MRNet`, which says what each method is,
    :class:`mrnet.model.ensemble.Ensemble`, or :class:`mrnet.weights.onnx.OnnxNetwork`."""

    config: ModelConfig

    @property
    def valid(self) -> Tensor: ...
    def eval(self) -> Any: ...
    def encode_once(self, video: Tensor) -> tuple[Tensor, Proposals | None]: ...
    def answer(
        self, clips: Tensor, proposals: Proposals | None, queries: Tensor, protocol: QueryProtocol
    ) -> Answers: ...


class TrainedScorer:
    """The valid proposals of a map, scored by a model.

    Args:
        model: on its device; of several members, the scores are averaged. Put into evaluation mode by every call.
        decode: how proposals are scored.
        protocol: whether the queries of one call are asked one by one, or as one sequence in the order given.
    """

    def __init__(self, model: Answering, decode: DecodeConfig, protocol: QueryProtocol = "single") -> None:
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
        cells = self.model.valid.nonzero()
        spans = cell_moments(cells, 1.0, config.num_clips)
        scores = torch.cat([self._scores(video, part, spans) for part in parts])
        spans_s = cell_moments(cells, video.duration_s, config.num_clips)
        return Candidates(spans_s, scores.masked_fill(scores == 0, float("-inf")))

    def _scores(self, video: EncodedVideo, queries: Tensor, spans: Tensor) -> Tensor:
        """``(n, v)``, of proposals whose spans are given as fractions of the video."""
        answers = self.model.answer(video.clips, video.proposals, queries, self.protocol)
        if self.decode.rank_by == "score":
            scores = fuse_scores(answers.iou.sigmoid(), answers.contrastive, self.decode.score_power)
        else:
            scores = expected_worth(answers, spans, self.decode)
        return scores.mean(dim=1)
