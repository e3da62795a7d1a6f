"""What several processes must share so that their result is that of one.

The losses compare every query with every video of the batch, and batch norm averages over it: the
processes therefore gather their embeddings, compute the loss of the whole batch each, and share the
statistics of batch norm. Gradients flow back through both, and averaging them over processes, as
distributed training does, then gives the gradient of the one loss. A batch with fewer videos than
processes is computed whole by each of them, and nothing is shared.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mrnet.model.clip_head import ClipOutputs
from mrnet.model.mrnet import Embeddings
from mrnet.model.norm import MapNorm


class _AllReduce(torch.autograd.Function):
    """Sum over processes whose backward pass is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def all_reduce(tensor: Tensor) -> Tensor:
    """Differentiable sum over processes."""
    total: Tensor = _AllReduce.apply(tensor)  # type: ignore[no-untyped-call]
    return total


def share_batch_norm(model: nn.Module, shared: bool) -> None:
    """Let every batch norm of a model average over all processes, or over its own batch alone, in place.

    ``torch.nn.SyncBatchNorm`` does not run on CPU, where the tests must.
    """
    for module in model.modules():
        if isinstance(module, MapNorm):
            module.total = all_reduce if shared else None


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes, in order of process; differentiable. The rows may differ in number."""
    counts = torch.zeros(dist.get_world_size(), dtype=torch.long, device=tensor.device)
    counts[dist.get_rank()] = len(tensor)
    dist.all_reduce(counts)
    before, total = int(counts[: dist.get_rank()].sum()), int(counts.sum())
    floating = tensor.is_floating_point()
    placed = tensor.new_zeros(total, *tensor.shape[1:])
    index = torch.arange(before, before + len(tensor), device=tensor.device)
    placed = placed.index_copy(0, index, tensor)
    if floating:
        return all_reduce(placed)
    dist.all_reduce(placed)
    return placed


def gather_moments(moments: Tensor) -> Tensor:
    """Like :func:`gather` for ``(n, w, 2)`` moments whose w differs between processes."""
    widest = torch.tensor(moments.shape[1], device=moments.device)
    dist.all_reduce(widest, op=dist.ReduceOp.MAX)
    repeats = moments[:, :1].expand(-1, int(widest) - moments.shape[1], -1)
    return gather(torch.cat([moments, repeats], dim=1))


def gather_embeddings(embeddings: Embeddings) -> Embeddings:
    """The embeddings of the whole batch, in order of process."""
    sizes = torch.tensor(
        [embeddings.num_videos, len(embeddings.video_of_map)], device=embeddings.video_of_map.device
    )
    videos, maps = gather(sizes[None]).unbind(dim=1)
    rank = dist.get_rank()
    contrastive = embeddings.contrastive_proposals
    first_video, first_map = int(videos[:rank].sum()), int(maps[:rank].sum())
    return replace(
        embeddings,
        iou_proposals=gather(embeddings.iou_proposals),
        contrastive_proposals=None if contrastive is None else gather(contrastive),
        iou_queries=gather(embeddings.iou_queries),
        contrastive_queries=gather(embeddings.contrastive_queries),
        map_of_query=gather(embeddings.map_of_query + first_map),
        video_of_query=gather(embeddings.video_of_query + first_video),
        video_of_map=gather(embeddings.video_of_map + first_video),
        num_videos=int(videos.sum()),
        clips=None if embeddings.clips is None else ClipOutputs(*map(gather, embeddings.clips)),
    )
