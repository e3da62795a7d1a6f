"""Scores become probabilities: how likely a moment is what a query means, if the video holds that at all.

A logistic regression on what a scorer says of a moment. It is fitted on ranked moments of queries that their video
answers and of queries that it does not, see :mod:`mrnet.evaluation.absence`.

Source: Platt, "Probabilistic outputs for support vector machines", 1999.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from mrnet.config.spec import Calibration
from mrnet.retrieval.scorer import Candidates

_RIDGE = 1e-3
# What varies by a smaller part of its mean is constant but for rounding.
_CONSTANT = 1e-9


def evidence(candidates: Candidates) -> Tensor:
    """What probabilities are made of.

    Returns:
        ``(n, c, 5)`` of each moment: its score; the evidence for it whatever else the video holds, 0 where a scorer
        does not say; whether another moment has a higher score; by how much; and the logarithm of the number of
        moments, as among many one more often fits by chance.
    """
    scores = candidates.scores
    levels = torch.zeros_like(scores) if candidates.levels is None else candidates.levels
    gaps = scores.max(dim=1, keepdim=True).values - scores
    number = torch.full_like(scores, math.log(max(scores.shape[1], 1)))
    return torch.stack([scores, levels, (gaps > 0).to(scores.dtype), gaps, number], dim=-1)


def probability(found: Tensor, calibration: Calibration) -> Tensor:
    """``(...)`` that a moment is meant, of ``(..., 5)`` from :func:`evidence`."""
    return (found @ found.new_tensor(calibration.weights) + calibration.bias).sigmoid()


def calibrated(candidates: Candidates, calibration: Calibration) -> Candidates:
    """The same moments, with probabilities; 0 where a moment is none."""
    probabilities = probability(evidence(candidates), calibration)
    probabilities = probabilities.masked_fill(candidates.scores == float("-inf"), 0.0)
    return replace(candidates, probabilities=probabilities)


def fit_logistic(inputs: Tensor, right: Tensor) -> tuple[float, tuple[float, ...]]:
    """Bias and weights of the logistic regression; lightly held to 0, so that separable data have an end too.

    Args:
        inputs: ``(m, f)``.
        right: ``(m,)`` 1 or 0.
    """
    x, y = inputs.double(), right.double()
    mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    scale = torch.where(scale > _CONSTANT * mean.abs(), scale, 1.0)
    x = torch.cat([torch.ones_like(y)[:, None], (x - mean) / scale], dim=1)
    found = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(x @ found, y)
        value = value + _RIDGE * found[1:].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weights = found.detach()[1:] / scale
    return float(found.detach()[0] - weights @ mean), tuple(weights.tolist())
