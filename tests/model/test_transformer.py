"""The stack of retention layers, by hand."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from mrnet.config.model import ModelConfig
from mrnet.model.transformer import RetentionLayer, RetentionTransformer

TEXT = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
CLIPS = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(2))
MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_a_layer_without_attention_by_hand(tiny_model: Callable[..., ModelConfig]) -> None:
    """Off: what is added is the norm itself; then a GELU between two matrices, here of ones and of the identity."""
    layer = RetentionLayer(tiny_model(attention="off", mask="none", ffn_dim=8)).eval()
    names = {name for name, _ in layer.named_parameters()}
    assert names == {
        f"{part}.{kind}" for part in ("norm1", "norm2", "ffn.0", "ffn.2") for kind in ("weight", "bias")
    }
    with torch.no_grad():
        for linear in (layer.ffn[0], layer.ffn[2]):
            linear.bias.zero_()
            linear.weight.copy_(torch.eye(8))
        x = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])  # its norm is itself
        text, clips = layer(x.expand(1, 1, 8), 2 * x.expand(1, 2, 8), torch.ones(1, 1, dtype=torch.bool))
    fed = F.gelu(x)  # of the norm of 2x and of 3x alike, which is x
    torch.testing.assert_close(text[0, 0], 2 * x + fed, atol=3e-5, rtol=0)
    torch.testing.assert_close(clips[0, 1], 3 * x + fed, atol=3e-5, rtol=0)


def test_a_layer_is_pre_norm_and_residual(tiny_model: Callable[..., ModelConfig]) -> None:
    torch.manual_seed(0)
    layer = RetentionLayer(tiny_model()).eval()
    assert layer.retention is not None
    mixed = layer.retention(layer.norm1(TEXT), layer.norm1(CLIPS), MASK)
    for found, before, change in zip(layer(TEXT, CLIPS, MASK), (TEXT, CLIPS), mixed, strict=True):
        added = before + change
        torch.testing.assert_close(found, added + layer.ffn(layer.norm2(added)))


def test_layers_follow_each_other_and_a_norm_ends_them(tiny_model: Callable[..., ModelConfig]) -> None:
    torch.manual_seed(0)
    transformer = RetentionTransformer(tiny_model(layers=2)).eval()
    text, clips = transformer.layers[1](*transformer.layers[0](TEXT, CLIPS, MASK), MASK)
    found = transformer(TEXT, CLIPS, MASK)
    torch.testing.assert_close(found[0], F.layer_norm(text, (8,)))
    torch.testing.assert_close(found[1], F.layer_norm(clips, (8,)))


def test_sparsity_adds_up_over_layers(tiny_model: Callable[..., ModelConfig]) -> None:
    """Masks of a half everywhere off the diagonal: 7 of 8 cells a row, in each of three layers."""
    transformer = RetentionTransformer(tiny_model(layers=3))
    for layer in transformer.layers:
        layer.retention.sparse_logits.data.zero_()
    assert transformer.sparsity().item() == pytest.approx(3 * 0.5 * 7 / 8)


@pytest.mark.parametrize("changes", [{"mask": "decay"}, {"attention": "off", "mask": "none"}])
def test_no_sparsity_without_a_learned_mask(
    changes: dict[str, object], tiny_model: Callable[..., ModelConfig]
) -> None:
    assert RetentionTransformer(tiny_model(**changes)).sparsity().tolist() == 0


def test_dropout_is_on_both_branches(tiny_model: Callable[..., ModelConfig]) -> None:
    """With all of both branches dropped but a thousandth, nearly nothing is added."""
    layer = RetentionLayer(tiny_model(dropout=0.999)).train()
    torch.manual_seed(0)
    text, clips = layer(TEXT, CLIPS, MASK)
    assert (text == TEXT).float().mean() > 0.9
    assert (clips == CLIPS).float().mean() > 0.9
