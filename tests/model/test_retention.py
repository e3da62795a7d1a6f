"""Masks, positions and retention against hand-worked values."""

import math
from typing import Any

import pytest
import torch

from mrnet.model.positions import XPos, sine_positions
from mrnet.model.retention import MaskableRetention, decay_mask


def retention(**changes: Any) -> MaskableRetention:
    settings: dict[str, Any] = {
        "num_clips": 3, "dim": 4, "heads": 2, "projections": "modality", "attention": "all", "mask": "both",
        "gamma": 0.5, "bidirectional": True, "softmax": True, "zero_linear_retention": False, "dropout": 0.0,
    }  # fmt: skip
    torch.manual_seed(0)
    return MaskableRetention(**(settings | changes))


def test_decay_both_ways_has_two_on_the_diagonal() -> None:
    assert decay_mask(3, 0.5, True).tolist() == [[2, 0.5, 0.25], [0.5, 2, 0.5], [0.25, 0.5, 2]]


def test_causal_decay() -> None:
    assert decay_mask(3, 0.5, False).tolist() == [[1, 0, 0], [0.5, 1, 0], [0.25, 0.5, 1]]


def test_no_decay_at_gamma_one() -> None:
    assert decay_mask(3, 1.0, False).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("decay", [[2.0, 0.5], [0.5, 2.0]]),
        ("sparse", [[1.0, 0.75], [0.5, 1.0]]),
        ("both", [[2.0, 0.375], [0.25, 2.0]]),
    ],
)
def test_video_mask(mask: str, expected: list[list[float]]) -> None:
    layer = retention(num_clips=2, mask=mask)
    if layer.sparse_logits is not None:
        layer.sparse_logits.data = torch.tensor([[5.0, math.log(3)], [0.0, -5.0]])
    found = layer.video_mask()
    assert found is not None
    torch.testing.assert_close(found, torch.tensor(expected))


def test_sparsity_is_the_mean_over_the_whole_table() -> None:
    layer = retention(num_clips=2)
    assert layer.sparse_logits is not None
    layer.sparse_logits.data = torch.tensor([[5.0, math.log(3)], [0.0, -5.0]])
    sparsity = layer.sparsity()
    assert sparsity is not None
    assert sparsity.item() == pytest.approx((0.75 + 0.5) / 4)
    assert retention(mask="decay").sparsity() is None


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


def test_linear_retention_by_hand() -> None:
    """One head, projections set to identity, one clip at position 0: no rotation, scale 1."""
    layer = retention(num_clips=1, dim=2, heads=1, attention="video", mask="none", softmax=False)
    layer.load_state_dict(
        {
            **layer.state_dict(),
            **{f"projections.video.{name}.weight": torch.eye(2) for name in "qkv"},
            "output.weight": torch.eye(2),
            "output.bias": torch.zeros(2),
            "projections.text.v.weight": 3 * torch.eye(2),
        }
    )
    text, clips = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[3.0, 4.0]]])
    out_text, out_clips = layer(text, clips, torch.tensor([[True]]))
    torch.testing.assert_close(out_clips, 25 / math.sqrt(2) * clips)  # (q·k / √2) v
    torch.testing.assert_close(out_text, 3 * text)


def test_zero_linear_retention_leaves_the_output_bias() -> None:
    layer = retention(softmax=False, zero_linear_retention=True, attention="video")
    _, clips = layer(torch.randn(1, 1, 4), torch.randn(1, 3, 4), torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(clips, layer.output.bias.expand(1, 3, 4))


def test_off_is_identity() -> None:
    layer = retention(attention="off", mask="none")
    text, clips = torch.randn(1, 2, 4), torch.randn(1, 3, 4)
    assert layer(text, clips, torch.ones(1, 2, dtype=torch.bool)) == (text, clips)
    assert not list(layer.parameters())


def test_plain_ignores_the_mask() -> None:
    masked, bare = retention(attention="plain", mask="decay"), retention(attention="plain", mask="none")
    bare.load_state_dict(masked.state_dict())
    inputs = torch.randn(1, 2, 4), torch.randn(1, 3, 4), torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(masked(*inputs), bare(*inputs))


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("projections", ["modality", "shared"])
def test_padding_queries_changes_nothing(softmax: bool, projections: str) -> None:
    layer = retention(softmax=softmax, projections=projections)
    text, clips = torch.randn(1, 2, 4), torch.randn(1, 3, 4)
    padded = torch.cat([text, torch.full((1, 2, 4), 9.0)], dim=1)
    plain_text, plain_clips = layer(text, clips, torch.tensor([[True, True]]))
    padded_text, padded_clips = layer(padded, clips, torch.tensor([[True, True, False, False]]))
    torch.testing.assert_close(padded_text[:, :2], plain_text)
    torch.testing.assert_close(padded_clips, plain_clips)
