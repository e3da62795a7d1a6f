"""From score maps to ranked moments."""

import torch
from torch import Tensor

from mrnet.temporal import cell_moments, hull_iou

# Their candidates stay in the processor's cache from one rank to the next.
_QUERIES_AT_ONCE = 512


def fuse_scores(iou: Tensor, contrastive: Tensor, score_power: float) -> Tensor:
    """Final score of proposals, ``(0.5·contrastive + 0.5)^p · iou``; any one shape.

    Source: docs/method.md, section 7.
    """
    return (contrastive * 0.5 + 0.5) ** score_power * iou


def top_moments(scores: Tensor, duration_s: Tensor, k: int, nms_threshold: float) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression of score maps, all queries at once.

    Cells with a non-zero score are candidates. Ties go to the earlier start, then the earlier end.

    Args:
        scores: ``(n, t, t)`` final scores, 0 in invalid cells.
        duration_s: ``(n,)`` length of each query's video.
        k: moments to return.
        nms_threshold: a candidate that overlaps a better one by more is dropped.

    Returns:
        moments ``(n, k, 2)`` in seconds and scores ``(n, k)``, best first; where fewer than k candidates
        are left both are NaN.

    Source: docs/method.md, section 9.
    """
    cells = (scores != 0).any(dim=0).nonzero()  # (c, 2), row-major
    parts = [
        _suppress(some, durations, cells, k, nms_threshold)
        for some, durations in zip(
            torch.split(scores, _QUERIES_AT_ONCE), torch.split(duration_s, _QUERIES_AT_ONCE), strict=True
        )
    ]
    return torch.cat([moments for moments, _ in parts]), torch.cat([best for _, best in parts])


def _suppress(
    scores: Tensor, duration_s: Tensor, cells: Tensor, k: int, nms_threshold: float
) -> tuple[Tensor, Tensor]:
    num_clips = scores.shape[-1]
    remaining = scores[:, cells[:, 0], cells[:, 1]].float()
    remaining = remaining.masked_fill(remaining == 0, float("-inf"))
    candidates = cell_moments(cells[None], duration_s[:, None], num_clips)  # (n, c, 2)
    moments = scores.new_full((len(scores), k, 2), float("nan"), dtype=torch.float32)
    best = scores.new_full((len(scores), k), float("nan"), dtype=torch.float32)
    if not len(cells):
        return moments, best
    for rank in range(min(k, len(cells))):
        score, choice = remaining.max(dim=1)  # the first of equals
        found = score > float("-inf")
        chosen = candidates.gather(1, choice[:, None, None].expand(-1, 1, 2))  # (n, 1, 2)
        moments[:, rank] = torch.where(found[:, None], chosen[:, 0], moments[:, rank])
        best[:, rank] = torch.where(found, score, best[:, rank])
        dropped = hull_iou(candidates, chosen) > nms_threshold
        dropped.scatter_(1, choice[:, None], True)
        remaining = remaining.masked_fill(dropped, float("-inf"))
    return moments, best
