"""Masks and retention against hand-worked values."""

import math
from typing import Any

import pytest
import torch

from mrnet.model.retention import MaskableRetention, decay_mask


def retention(**changes: Any) -> MaskableRetention:
    settings: dict[str, Any] = {
        "num_clips": 3, "dim": 4, "heads": 2, "projections": "modality", "tied_initialisation": False,
        "attention": "all", "mask": "both", "mask_on": "logits", "gamma": 0.5,
        "bidirectional": True, "doubled_diagonal": True, "text_positions": True,
        "softmax": True, "zero_linear_retention": False, "dropout": 0.0,
    }  # fmt: skip
    torch.manual_seed(0)
    return MaskableRetention(**(settings | changes))


@pytest.mark.parametrize(
    ("bidirectional", "doubled_diagonal", "expected"),
    [
        (True, True, [[2, 0.5, 0.25], [0.5, 2, 0.5], [0.25, 0.5, 2]]),
        (True, False, [[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]]),
        (False, True, [[1, 0, 0], [0.5, 1, 0], [0.25, 0.5, 1]]),
    ],
)
def test_decay(bidirectional: bool, doubled_diagonal: bool, expected: list[list[float]]) -> None:
    found = decay_mask(3, 0.5, bidirectional=bidirectional, doubled_diagonal=doubled_diagonal)
    assert found.tolist() == expected


def test_no_decay_at_gamma_one() -> None:
    found = decay_mask(3, 1.0, bidirectional=False, doubled_diagonal=True)
    assert found.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_the_diagonal_of_a_layer_is_single_where_asked() -> None:
    mask = retention(num_clips=2, mask="decay", doubled_diagonal=False).video_mask()
    assert mask is not None
    assert mask.tolist() == [[1, 0.5], [0.5, 1]]


def test_text_without_positions_is_a_set() -> None:
    text, clips = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    mask = torch.ones(1, 3, dtype=torch.bool)
    order = [2, 0, 1]
    for placed in (True, False):
        layer = retention(text_positions=placed)
        said, seen = layer(text, clips, mask)
        said_moved, seen_moved = layer(text[:, order], clips, mask)
        is_a_set = torch.allclose(seen, seen_moved, atol=1e-6) and torch.allclose(
            said[:, order], said_moved, atol=1e-6
        )
        assert is_a_set is not placed


@pytest.mark.parametrize("tied", [True, False])
def test_tied_matrices_start_equal_and_are_four(tied: bool) -> None:
    layer = retention(projections="shared", tied_initialisation=tied)
    linears = [module for module in layer.modules() if isinstance(module, torch.nn.Linear)]
    assert len(linears) == 4
    for name in ("weight", "bias"):
        tensors = [getattr(linear, name) for linear in linears]
        assert [torch.equal(tensor, tensors[0]) for tensor in tensors] == [True, tied, tied, tied]
        assert len({tensor.data_ptr() for tensor in tensors}) == 4


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


def test_a_mask_on_weights_takes_attention_away_and_one_on_logits_evens_it_out() -> None:
    """Where all logits are equal, a mask on them changes nothing; on the weights, attention falls with the decay."""
    clips, text = torch.zeros(1, 3, 4), torch.zeros(1, 0, 4)
    values = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]])
    for mask_on, expected in {
        "logits": [1 / 3, 1 / 3, 1 / 3],
        "weights": [1 / 1.75, 0.5 / 1.75, 0.25 / 1.75],
    }.items():
        layer = retention(attention="video", mask="decay", mask_on=mask_on, doubled_diagonal=False, heads=1)
        with torch.no_grad():
            layer.output.weight.copy_(torch.eye(4))
            layer.output.bias.zero_()
            layer.projections.video["v"] = torch.nn.Identity()  # type: ignore[operator, union-attr]
            layer.projections.video["q"].weight.zero_()  # type: ignore[union-attr, operator]
            _, mixed = layer(text, clips + values, torch.ones(1, 0, dtype=torch.bool))
        assert mixed[0, 0, :3].tolist() == pytest.approx(expected)


def test_a_causal_mask_on_weights_can_be_trained() -> None:
    """What it takes away has no weight, and no gradient that is not finite."""
    layer = retention(attention="video", mask="both", mask_on="weights", bidirectional=False)
    text, clips = torch.randn(1, 0, 4), torch.randn(1, 3, 4)
    _, mixed = layer(text, clips, torch.ones(1, 0, dtype=torch.bool))
    later = clips.clone()
    later[0, 1:] += 1.0
    _, other = layer(text, later, torch.ones(1, 0, dtype=torch.bool))
    torch.testing.assert_close(mixed[0, 0], other[0, 0])  # the first clip looks at itself alone
    mixed.square().sum().backward()
    assert layer.sparse_logits is not None
    grad = layer.sparse_logits.grad
    assert grad is not None
    assert grad.isfinite().all()
    assert (grad.tril(-1) != 0).sum() == 3
    assert (grad.triu() == 0).all()
