"""Matching and its loss, worked out by hand."""

import math

import pytest
import torch

from mrnet.experiments.references.detr import giou, matching_loss
from mrnet.experiments.references.parts import Answers


def test_giou() -> None:
    a = torch.tensor([[0.0, 4.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    b = torch.tensor([[0.0, 4.0], [3.0, 4.0], [1.0, 2.0], [1.0, 3.0]])
    assert giou(a, b).tolist() == pytest.approx([1, -0.5, 0, 1 / 3])


def test_the_cheapest_slot_is_trained() -> None:
    """The second slot is further off, but the first, whose span is right, says that it is background."""
    spans = torch.tensor([[[0.0, 0.5], [0.0, 0.6]]])
    truth = torch.tensor([[0.0, 0.5]])
    sure = math.log(9)  # of a probability of 0.9
    # Costs: 0 - 4 x 0.1 against 10 x (0.05 + 0.1) + (1 - 5/6) - 4 x 0.9 = -1.93.
    found = matching_loss(Answers(spans, torch.tensor([[-sure, sure]])), truth)
    reached = 10 * 0.15 + 1 / 6
    foreground = (0.1 * -math.log(0.9) - math.log(0.9)) / 2
    assert found.item() == pytest.approx(reached + 4 * foreground, rel=1e-5)
    # Where it says nothing, the right span is matched.
    found = matching_loss(Answers(spans, torch.tensor([[0.0, 0.0]])), truth)
    assert found.item() == pytest.approx(4 * 1.1 * math.log(2) / 2, rel=1e-5)
