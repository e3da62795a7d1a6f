"""From scored candidates to ranked moments."""

import torch

from mrnet.retrieval.scorer import Candidates
from mrnet.temporal import hull_iou
from mrnet.types import Moment


def rank(candidates: Candidates, k: int, nms_threshold: float) -> list[list[Moment]]:
    """The moments that :func:`suppress` leaves.

    Args:
        candidates: of n queries.
        k: as of :func:`suppress`.
        nms_threshold: as of :func:`suppress`.

    Returns:
        the moments of each query, best score first; they carry their probabilities where candidates have them, else
        their scores.
    """
    carried = candidates.scores if candidates.probabilities is None else candidates.probabilities
    ranked = []
    for values, numbers in zip(carried, suppress(candidates, k, nms_threshold), strict=True):
        rows = torch.cat([candidates.spans_s[numbers], values[numbers, None]], dim=1)
        ranked.append([Moment(*row) for row in rows.tolist()])
    return ranked


def suppress(candidates: Candidates, k: int, nms_threshold: float) -> list[list[int]]:
    """Greedy non-maximum suppression, all queries at once.

    Args:
        candidates: of n queries.
        k: moments wanted of each; fewer are given where fewer are left.
        nms_threshold: a candidate that overlaps a better one by more is dropped.

    Returns:
        the numbers of the candidates of each query that are left, best score first. Ties go to the candidate that is
        listed first.

    Source: docs/method.md, section 9.
    """
    spans, remaining = candidates.spans_s, candidates.scores.clone()
    chosen: list[list[int]] = [[] for _ in remaining]
    for _ in range(min(k, len(spans))):
        score, choice = remaining.max(dim=1)  # the first of equals
        left = score > float("-inf")
        if not left.any():
            break
        for numbers, number, is_left in zip(chosen, choice.tolist(), left.tolist(), strict=True):
            if is_left:
                numbers.append(number)
        dropped = hull_iou(spans, spans[choice][:, None]) > nms_threshold
        remaining.masked_fill_(dropped.scatter_(1, choice[:, None], True), float("-inf"))
    return chosen
