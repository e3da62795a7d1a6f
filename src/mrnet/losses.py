"""The losses, as pure functions of embeddings and targets."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from mrnet.config.run import LossConfig
from mrnet.model.mrnet import Embeddings
from mrnet.temporal import clip_middles, hull_iou, union_iou

_NEAR_CLIPS = 1.5  # from an end of a moment, where being near it has fallen to 1/e


@dataclass(frozen=True)
class Losses:
    """Scalars before weighting.

    Attributes:
        iou: of the IoU scores: binary cross-entropy, or of their distribution.
        video: proposals against sentences.
        sentence: sentences against proposals.
        sparsity: of the learned masks, already times the videos of the batch where configured so.
        clip: of what clips say by themselves; 0 where they do not.
    """

    iou: Tensor
    video: Tensor
    sentence: Tensor
    sparsity: Tensor
    clip: Tensor


def compute_losses(
    embeddings: Embeddings, target_iou: Tensor, moments: Tensor, duration_s: Tensor, config: LossConfig
) -> Losses:
    """All loss terms of a batch; those without weight are 0.

    Args:
        embeddings: of the batch.
        target_iou: ``(n, v)`` IoU of the valid proposals with each query's moments.
        moments: ``(n, w, 2)`` ground truth in seconds.
        duration_s: ``(n,)`` length of each query's video.
        config: settings.

    Source: docs/method.md, section 8.
    """
    none = target_iou.new_zeros(())
    contrastive, proposal_loss = config.contrastive_weight > 0, _PROPOSAL_LOSSES[config.proposal_loss]
    return Losses(
        iou=proposal_loss(embeddings, target_iou, config),
        video=video_loss(embeddings, target_iou, moments, config) if contrastive else none,
        sentence=sentence_loss(embeddings, target_iou, config) if contrastive else none,
        sparsity=embeddings.sparsity * (embeddings.num_videos if config.sparsity_per_video else 1),
        clip=none if embeddings.clips is None else clip_loss(embeddings, moments / duration_s[:, None, None]),
    )


def iou_loss(embeddings: Embeddings, target_iou: Tensor, config: LossConfig) -> Tensor:
    """Cross-entropy of the IoU scores with IoUs scaled from [min_iou, max_iou] to [0, 1]."""
    target = ((target_iou - config.min_iou) / (config.max_iou - config.min_iou)).clamp(0, 1)
    return F.binary_cross_entropy_with_logits(embeddings.iou_logits(), target)


def listwise_loss(embeddings: Embeddings, target_iou: Tensor, config: LossConfig) -> Tensor:
    """Divergence of the proposals' distribution, a softmax of the IoU scores' logits, from IoU^power at sum 1.

    The mean is over queries whose moment some proposal overlaps: one of no length overlaps none.
    """
    target = target_iou**config.listwise_power
    total = target.sum(dim=1, keepdim=True)
    target = target / total.clamp(min=torch.finfo(total.dtype).tiny)
    divergence = F.kl_div(embeddings.iou_logits().log_softmax(dim=1), target, reduction="sum")
    return divergence / (total > 0).sum().clamp(min=1)


_PROPOSAL_LOSSES = {"iou": iou_loss, "listwise": listwise_loss}


def clip_loss(embeddings: Embeddings, fractions: Tensor) -> Tensor:
    """What clips say by themselves: cross-entropy of being inside a moment, and near its ends; spans of those inside.

    Nearness is exp(-|distance| / 1.5 clips). A span costs 1 - IoU, and the distance of its ends as fractions of the
    video. A moment between the middles of two clips counts as holding the nearest one.

    Args:
        embeddings: of a model with a ``clip_head``.
        fractions: ``(n, w, 2)`` moments as fractions of their videos.
    """
    assert embeddings.clips is not None
    logits, ends, reach = (part[embeddings.map_of_query] for part in embeddings.clips)
    num_clips = logits.shape[1]
    middle = clip_middles(num_clips, logits.device)
    distance = (middle[:, None] - fractions[:, :, None]).abs().amin(dim=1)  # (n, t, 2)
    near = (-distance * num_clips / _NEAR_CLIPS).exp().to(ends.dtype)
    outside = (fractions[..., :1] - middle).clamp(min=0) + (middle - fractions[..., 1:]).clamp(min=0)  # (n, w, t)
    nearest = outside == outside.amin(dim=2, keepdim=True)  # 0 of those inside
    inside = nearest.any(dim=1).to(logits.dtype)  # (n, t)
    spans = torch.stack([middle - reach[..., 0], middle + reach[..., 1]], dim=-1)[:, None]  # (n, 1, t, 2)
    truth = fractions[:, :, None]  # (n, w, 1, 2)
    costs = 1 - hull_iou(spans, truth) + (spans - truth).abs().sum(dim=-1)
    cost = costs.masked_fill(~nearest, float("inf")).amin(dim=1)  # of the moment that the clip lies in
    cost = cost.masked_fill(inside == 0, 0).sum() / inside.sum()
    cross_entropy = F.binary_cross_entropy_with_logits
    return cross_entropy(logits, inside) + cross_entropy(ends, near) + cost


def _positives(embeddings: Embeddings, target_iou: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The top-k proposals of each query, ``(n, k, d)``, and their cosine minus the margin, ``(n, k)``."""
    assert embeddings.contrastive_proposals is not None
    best = target_iou.topk(config.top_k, dim=1).indices
    proposals = embeddings.contrastive_proposals[embeddings.map_of_query[:, None], best]
    cosine = torch.einsum("nkd,nd->nk", proposals, embeddings.contrastive_queries)
    return proposals, cosine - config.margin


def video_loss(embeddings: Embeddings, target_iou: Tensor, moments: Tensor, config: LossConfig) -> Tensor:
    """Each positive proposal must prefer its own sentence to the others of the batch."""
    proposals, positive = _positives(embeddings, target_iou, config)
    queries = embeddings.contrastive_queries
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    overlap = union_iou(moments[:, None, :, None], moments[None, :, None]).amax(dim=(-1, -2))  # (n, n)
    same_video = embeddings.video_of_query[:, None] == embeddings.video_of_query
    counted = own | ~same_video | (overlap < config.sentence_removal_iou)
    logits = torch.einsum("nkd,jd->nkj", proposals, queries) - config.margin * own[:, None]
    logits = (logits / config.tau_video).masked_fill(~counted[:, None], float("-inf"))
    return (logits.logsumexp(dim=-1) - positive / config.tau_video).mean()


def sentence_loss(embeddings: Embeddings, target_iou: Tensor, config: LossConfig) -> Tensor:
    """Each sentence must prefer its positive proposals to all others of the batch.

    Proposals of the video that overlap the moment by ``negative_iou`` or more count exp(0), as released.
    With one map a query, the video's maps made for its other queries take no part.
    """
    assert embeddings.contrastive_proposals is not None
    _, positive = _positives(embeddings, target_iou, config)
    cosine = torch.einsum("nd,mvd->nmv", embeddings.contrastive_queries, embeddings.contrastive_proposals)
    maps = torch.arange(len(embeddings.video_of_map), device=cosine.device)
    own_map = embeddings.map_of_query[:, None] == maps  # (n, m)
    other_video = embeddings.video_of_query[:, None] != embeddings.video_of_map
    high_iou = (target_iou >= config.negative_iou)[:, None] & own_map[..., None]
    logits = cosine.masked_fill(high_iou, 0.0) / config.tau_sentence
    logits = logits.masked_fill(~(own_map | other_video)[..., None], float("-inf")).flatten(1)
    positive = positive / config.tau_sentence  # (n, k)
    epsilon = torch.full_like(positive, 1e-6).log()
    negatives = logits.logsumexp(dim=1, keepdim=True).expand_as(positive)
    return (torch.stack([positive, negatives, epsilon]).logsumexp(dim=0) - positive).mean()


def mean_losses(members: Sequence[Losses]) -> Losses:
    """Of networks that learn side by side, each loss averaged."""
    if len(members) == 1:
        return members[0]
    return Losses(
        **{
            field.name: torch.stack([getattr(one, field.name) for one in members]).mean()
            for field in fields(Losses)
        }
    )


def total_loss(losses: Losses, config: LossConfig, *, full: bool, batch_size: int) -> Tensor:
    """Weighted sum.

    Args:
        losses: from :func:`compute_losses`.
        config: settings.
        full: false scales all but the IoU and the clip loss by 0.01 (late epochs).
        batch_size: configured videos of a step, for the doubling of the sparsity term.

    Source: docs/method.md, section 8.
    """
    sparsity = config.sparsity_weight * losses.sparsity
    side = config.contrastive_weight * (losses.video + losses.sentence) + sparsity
    own = losses.iou + config.clip_weight * losses.clip
    if config.sparsity_doubling_ratio is not None:
        threshold = config.sparsity_doubling_ratio * batch_size * config.sparsity_weight
        side = side + torch.where(sparsity >= threshold, sparsity, torch.zeros_like(sparsity))
    return own + (side if full else 0.01 * side)
