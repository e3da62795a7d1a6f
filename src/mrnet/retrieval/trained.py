"""A trained MRNet as a scorer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mrnet.config import DecodeConfig
from mrnet.model.clip_head import ClipOutputs
from mrnet.model.ensemble import Network, members_of
from mrnet.model.mrnet import Embeddings, MRNet
from mrnet.retrieval.scorer import Candidates
from mrnet.temporal import cell_moments, check_width, clip_middles, hull_iou, resample
from mrnet.types import QueryProtocol

_MAPS_AT_ONCE = 16


def fuse_scores(iou: Tensor, contrastive: Tensor, score_power: float) -> Tensor:
    """Final score of proposals, ``(0.5·contrastive + 0.5)^p · iou``; any one shape.

    Source: docs/method.md, section 7.
    """
    return (contrastive * 0.5 + 0.5).clamp(min=0) ** score_power * iou  # a cosine may round to below -1


def expected_overlap(logits: Tensor, spans: Tensor, clips: ClipOutputs | None = None) -> Tensor:
    """The squared IoU with the moment that is to be expected of proposals.

    Squared, as a plain IoU would prefer long moments that surely touch the right one to those that probably are it.

    Args:
        logits: ``(n, v)`` of the proposals, whose softmax says how likely each is the moment.
        spans: ``(v, 2)`` theirs, as fractions of the video.
        clips: where clips speak for themselves too: the moment of each, as likely as a softmax over their ``inside``
            says; both expectations are averaged.

    Returns:
        ``(n, v)`` in [0, 1].
    """
    expected = logits.softmax(dim=1) @ hull_iou(spans[:, None], spans).square().to(logits.dtype)
    if clips is None:
        return expected
    middles = clip_middles(clips.inside.shape[1], logits.device)
    moments = torch.stack([middles - clips.reach[..., 0], middles + clips.reach[..., 1]], dim=-1).clamp(0, 1)
    overlaps = hull_iou(spans[:, None], moments[:, None]).square()  # (n, v, t)
    by_clips = (overlaps @ clips.inside.softmax(dim=1)[..., None])[..., 0]
    return (expected + by_clips) / 2


@dataclass(frozen=True)
class EncodedVideo:
    """A video ready to be asked.

    Attributes:
        clips: of each network that answers, ``(1, t, d)`` that no query has touched.
        duration_s: its length in seconds.
        proposals: of each, the embeddings of its proposals, where no query touches its clips.
    """

    clips: tuple[Tensor, ...]
    duration_s: float
    proposals: tuple[tuple[Tensor, Tensor | None] | None, ...]

    @property
    def nbytes(self) -> int:
        kept = [*self.clips, *(tensor for pair in self.proposals for tensor in pair or ())]
        return sum(tensor.nbytes for tensor in kept if tensor is not None)


class TrainedScorer:
    """The valid proposals of a map, scored by a model.

    Args:
        model: on its device; of several members, the scores are averaged. Put into evaluation mode by every call.
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
        members, video = members_of(self.model), resample(rows, config.num_pre_clips).to(self.device)[None]
        clips = tuple(member.encode_video(video) for member in members)
        shared = tuple(
            None if config.video_depends_on_query else member.embed_proposals(its_clips)
            for member, its_clips in zip(members, clips, strict=True)
        )
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
        mask = torch.ones(1, len(queries), dtype=torch.bool, device=self.device)
        parts = zip(members_of(self.model), video.clips, video.proposals, strict=True)
        scores = [
            self._score(member, member.embed(clips, queries[None], mask, self.protocol, proposals))
            for member, clips, proposals in parts
        ]
        return scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)

    def _score(self, member: MRNet, embeddings: Embeddings) -> Tensor:
        if self.decode.rank_by == "expected_overlap":
            clips = embeddings.clips
            if clips is not None:
                clips = ClipOutputs(*(part[embeddings.map_of_query] for part in clips))
            spans = cell_moments(member.valid.nonzero(), 1.0, member.config.num_clips)
            return expected_overlap(embeddings.iou_logits(), spans, clips)
        scores = member.score(embeddings)
        return fuse_scores(scores.iou, scores.contrastive, self.decode.score_power)
