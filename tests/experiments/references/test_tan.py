"""The pooled map and its loss, worked out by hand."""

import math

import pytest
import torch

from mrnet.experiments.references.parts import Answers
from mrnet.experiments.references.tan import map_loss, pooled_map


def test_cells_hold_the_largest_of_their_clips() -> None:
    clips = torch.tensor([[[1.0, -1.0], [3.0, -5.0], [2.0, -2.0]]])
    expected = torch.tensor([[[[1.0, 3, 3], [0, 3, 3], [0, 0, 2]], [[-1.0, -1, -1], [0, -5, -2], [0, 0, -2]]]])
    assert torch.equal(pooled_map(3, 2)(clips), expected)


def test_loss_is_against_scaled_iou() -> None:
    """IoUs of 0.5, 0.75 and 1 are targets 0, 0.5 and 1."""
    spans = torch.tensor([[[0.0, 0.25], [0.0, 0.375], [0.0, 0.5], [0.5, 1.0]]])
    logits = torch.tensor([[0.0, 1.0, -2.0, 0.0]])
    expected = (
        math.log(2)
        + 0.5 * math.log1p(math.exp(1)) + 0.5 * math.log1p(math.exp(-1))
        + math.log1p(math.exp(2))
        + math.log(2)
    ) / 4  # fmt: skip
    found = map_loss(Answers(spans, logits), torch.tensor([[0.0, 0.5]]))
    assert found.item() == pytest.approx(expected)
