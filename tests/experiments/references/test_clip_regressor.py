"""The per-clip regressor's loss, worked out by hand."""

import math

import pytest
import torch

from mrnet.experiments.references.clip_regressor import clip_loss
from mrnet.experiments.references.parts import Answers


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_loss_of_clips_inside() -> None:
    """Of four clips, with middles at 1/8, 3/8, 5/8, 7/8, the moment holds the middle two."""
    logits = torch.tensor([[-1.0, 2.0, 0.0, 3.0]])
    spans = torch.tensor([[[0.0, 1.0], [0.25, 0.75], [0.5, 0.75], [0.0, 1.0]]])
    truth = torch.tensor([[0.25, 0.75]])
    foreground = (softplus(-1) + softplus(-2) + softplus(0) + softplus(3)) / 4
    cost = (0 + (1 - 0.5) + 0.25) / 2  # the first is right; the second has half of it and begins 0.25 late
    assert clip_loss(Answers(spans, logits), truth).item() == pytest.approx(foreground + cost)


def test_moment_between_middles_has_the_clip_that_it_lies_in() -> None:
    logits = torch.zeros(1, 4)
    spans = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.76, 0.84]]])
    truth = torch.tensor([[0.76, 0.84]])
    assert clip_loss(Answers(spans, logits), truth).item() == pytest.approx(math.log(2))
