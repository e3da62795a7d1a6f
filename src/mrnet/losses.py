"""The losses, as pure functions of embeddings and targets."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mrnet.config import LossConfig
from mrnet.model.mrnet import Embeddings
from mrnet.temporal import union_iou


@dataclass(frozen=True)
class Losses:
    """Scalars before weighting.

    Attributes:
        iou: binary cross-entropy of the IoU scores.
        video: proposals against sentences.
        sentence: sentences against proposals.
        sparsity: of the learned masks, already times the videos of the batch where configured so.
    """

    iou: Tensor
    video: Tensor
    sentence: Tensor
    sparsity: Tensor


def compute_losses(embeddings: Embeddings, target_iou: Tensor, moments: Tensor, config: LossConfig) -> Losses:
    """All loss terms of a batch.

    Args:
        embeddings: of the batch.
        target_iou: ``(n, v)`` IoU of the valid proposals with each query's moments.
        moments: ``(n, w, 2)`` ground truth in seconds.
        config: settings.

    Source: docs/method.md, section 8.
    """
    return Losses(
        iou=iou_loss(embeddings, target_iou, config),
        video=video_loss(embeddings, target_iou, moments, config),
        sentence=sentence_loss(embeddings, target_iou, config),
        sparsity=embeddings.sparsity * (embeddings.num_videos if config.sparsity_per_video else 1),
    )


def iou_loss(embeddings: Embeddings, target_iou: Tensor, config: LossConfig) -> Tensor:
    """Cross-entropy of the IoU scores with IoUs scaled from [min_iou, max_iou] to [0, 1]."""
    target = ((target_iou - config.min_iou) / (config.max_iou - config.min_iou)).clamp(0, 1)
    return F.binary_cross_entropy_with_logits(embeddings.iou_logits(), target)


def _positives(embeddings: Embeddings, target_iou: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The top-k proposals of each query, ``(n, k, d)``, and their cosine minus the margin, ``(n, k)``."""
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


def total_loss(losses: Losses, config: LossConfig, *, full: bool, batch_size: int) -> Tensor:
    """Weighted sum.

    Args:
        losses: from :func:`compute_losses`.
        config: settings.
        full: false scales all but the IoU loss by 0.01 (late epochs).
        batch_size: configured videos of a step, for the doubling of the sparsity term.

    Source: docs/method.md, section 8.
    """
    sparsity = config.sparsity_weight * losses.sparsity
    side = config.contrastive_weight * (losses.video + losses.sentence) + sparsity
    if config.sparsity_doubling_ratio is not None:
        threshold = config.sparsity_doubling_ratio * batch_size * config.sparsity_weight
        side = side + torch.where(sparsity >= threshold, sparsity, torch.zeros_like(sparsity))
    return losses.iou + (side if full else 0.01 * side)
