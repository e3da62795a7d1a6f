"""Positions of text and clips against hand-worked values."""

import math

import pytest
import torch

from mrnet.model.positions import XPos, sine_positions


def test_sine_positions_by_hand() -> None:
    found = sine_positions(torch.tensor([[True, True]]), 4)
    angles = [2 * math.pi * p / (2 + 1e-6) for p in (1, 2)]
    expected = [[math.sin(a), math.cos(a), math.sin(a / 100), math.cos(a / 100)] for a in angles]
    torch.testing.assert_close(found[0], torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_padding_does_not_move_sine_positions() -> None:
    full = sine_positions(torch.tensor([[True, True]]), 4)
    padded = sine_positions(torch.tensor([[True, True, False]]), 4)
    torch.testing.assert_close(padded[:, :2], full)


def test_xpos_by_hand() -> None:
    # dim 2: one pair, ζ = 0.4·2 / (1.4·2) = 2/7, angle = position.
    positions = XPos(length=2, dim=2)
    q, k = positions(torch.tensor([[[1.0, 0.0], [1.0, 2.0]]]))
    scale = (2 / 7) ** (1 / 512)
    rotated = torch.tensor([math.cos(1) - 2 * math.sin(1), 2 * math.cos(1) + math.sin(1)])
    torch.testing.assert_close(q[0, 0], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(q[0, 1], rotated * scale)
    torch.testing.assert_close(k[0, 1], rotated / scale)


def test_sine_positions_of_two_pairs_and_batches() -> None:
    """Each video's positions run to its own number of queries; float32 whatever the mask's padding."""
    found = sine_positions(torch.tensor([[True, False], [True, True]]), 2)
    assert found.dtype == torch.float32
    turn = 2 * math.pi
    expected = [[[0, 1], [0, 1]], [[0, -1], [0, 1]]]  # after all of a turn, all of it; half of it, all of it
    torch.testing.assert_close(found, torch.tensor(expected).float(), atol=turn * 2e-6, rtol=0)


def test_xpos_turns_pairs_by_their_own_angle() -> None:
    """dim 4: angles p and p / 100; ζ = 1.6 / 5.6 and 3.6 / 5.6."""
    q, k = XPos(length=3, dim=4)(torch.tensor([[[0.0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]]))
    scales = [(1.6 / 5.6) ** (2 / 512), (3.6 / 5.6) ** (2 / 512)]
    turned = [math.cos(2), math.sin(2), -math.sin(0.02), math.cos(0.02)]
    torch.testing.assert_close(q[0, 2], torch.tensor([turned[i] * scales[i // 2] for i in range(4)]))
    torch.testing.assert_close(k[0, 2], torch.tensor([turned[i] / scales[i // 2] for i in range(4)]))


def test_xpos_logits_depend_on_the_distance_alone() -> None:
    positions = XPos(length=9, dim=8).double()
    content = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).double()
    q, _ = positions(content[0].expand(1, 9, 8))
    _, k = positions(content[1].expand(1, 9, 8))
    logits = q[0] @ k[0].T
    for distance in range(-8, 9):
        along = logits.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tables_are_those_of_float32(dtype: torch.dtype) -> None:
    """As released: a model in double precision reads the same tables."""
    positions = XPos(length=5, dim=4)
    tables = {name: table.clone() for name, table in positions.named_buffers()}
    assert set(tables) == {"scale", "sin", "cos"}
    for name, table in positions.to(dtype).named_buffers():
        assert table.dtype == dtype
        assert torch.equal(table, tables[name].to(dtype))
    assert positions(torch.zeros(1, 5, 4, dtype=dtype))[0].dtype == dtype
