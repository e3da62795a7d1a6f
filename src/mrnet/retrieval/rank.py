"""From scored candidates to ranked moments."""

import torch

from mrnet.retrieval.scorer import Candidates
from mrnet.temporal import hull_iou
from mrnet.types import Moment


def rank(candidates: Candidates, k: int, nms_threshold: float) -> list[list[Moment]]:
    """Greedy non-maximum suppression, all queries at once.

    Args:
        candidates: of n queries.
        k: moments wanted of each; fewer are given where fewer are left.
        nms_threshold: a candidate that overlaps a better one by more is dropped.

    Returns:
        the moments of each query, best first. Ties go to the candidate that is listed first.

    Source: docs/method.md, section 9.
    """
    spans, remaining = candidates.spans_s, candidates.scores.clone()
    chosen, best = [], []
    for _ in range(min(k, len(spans))):
        score, choice = remaining.max(dim=1)  # the first of equals
        moment = spans[choice]  # (n, 2)
        chosen.append(moment)
        best.append(score)
        dropped = hull_iou(spans, moment[:, None]) > nms_threshold
        remaining.masked_fill_(dropped.scatter_(1, choice[:, None], True), float("-inf"))
    if not chosen:
        return [[] for _ in remaining]
    rows = torch.cat([torch.stack(chosen, dim=1), torch.stack(best, dim=1)[..., None]], dim=-1).tolist()
    return [[Moment(*row) for row in ranked if row[2] > float("-inf")] for ranked in rows]
