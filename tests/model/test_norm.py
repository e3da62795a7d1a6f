"""Batch norm of maps by some of their cells, and over several processes."""

import itertools

import pytest
import torch

from mrnet.model.norm import MapNorm


def make_norms(training: bool) -> tuple[MapNorm, torch.nn.BatchNorm2d]:
    """The norm here and PyTorch's, alike."""
    norms = MapNorm(3), torch.nn.BatchNorm2d(3)
    for norm in norms:
        norm.weight.data = torch.tensor([1.0, 2, 3])
        norm.bias.data = torch.tensor([0.1, 0.2, 0.3])
        norm.train(training)
    return norms


@pytest.mark.parametrize(("given", "training"), list(itertools.product([6, 10], [False, True])))
def test_norm_of_some_cells_is_that_of_the_whole(given: int, training: bool) -> None:
    torch.manual_seed(0)
    values = torch.zeros(2, 3, 5, 1)  # 10 cells, of which the others hold 0
    values[:, :, : given // 2] = torch.randn(2, 3, given // 2, 1)
    offset = torch.randn(3)
    norm, whole = make_norms(training)
    rows = values.movedim(1, -1)[:, : given // 2].flatten(0, 2)
    mean, scale = norm.mean_and_scale(rows, 10, offset)
    expected = whole(values + offset[:, None, None]).movedim(1, -1)[:, : given // 2].flatten(0, 2)
    torch.testing.assert_close((rows - mean) * scale + norm.bias, expected)
    torch.testing.assert_close(norm.running_mean, whole.running_mean)
    torch.testing.assert_close(norm.running_var, whole.running_var)
    assert norm.num_batches_tracked == whole.num_batches_tracked


def test_by_hand() -> None:
    """Cells 1 and 3 of four, the others 0, and 10 on top of all: mean 1, variance 6/4, unbiased 6/3."""
    norm = MapNorm(1).train()
    mean, scale = norm.mean_and_scale(torch.tensor([[1.0], [3.0]]), 4, torch.tensor([10.0]))
    assert mean.item() == 1
    assert scale.item() == pytest.approx((1.5 + 1e-5) ** -0.5)
    assert norm.running_mean.tolist() == pytest.approx([0.1 * 11])
    assert norm.running_var.tolist() == pytest.approx([0.9 + 0.1 * 2])
    norm.eval()
    mean, scale = norm.mean_and_scale(torch.tensor([[7.0]]), 4, torch.tensor([10.0]))
    assert mean.tolist() == pytest.approx([1.1 - 10])  # the running mean of the maps less what is on top
    assert scale.tolist() == pytest.approx([(1.1 + 1e-5) ** -0.5])


def test_processes_norm_as_one() -> None:
    """Two processes with the same maps: sums over both are twice those of one, and gradients come from both."""
    torch.manual_seed(0)
    maps, up = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    norm, whole = make_norms(training=True)
    norm.total = lambda tensor: 2 * tensor
    alone, both = maps.clone().requires_grad_(), torch.cat([maps, maps]).requires_grad_()
    found, expected = norm(alone), whole(both)
    torch.testing.assert_close(found, expected[:2])
    torch.testing.assert_close(norm.running_mean, whole.running_mean)
    torch.testing.assert_close(norm.running_var, whole.running_var)
    (found * up).sum().backward()
    (expected * torch.cat([up, up])).sum().backward()
    assert both.grad is not None
    torch.testing.assert_close(alone.grad, both.grad[:2])
    assert both.grad.abs().max() > 0.1


def test_evaluation_sums_nothing() -> None:
    norm, whole = make_norms(training=False)
    norm.total = lambda tensor: tensor / 0
    maps = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm(maps), whole(maps), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_kept(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm, whole = (norm.to(dtype) for norm in make_norms(training=True))
    norm.total = lambda tensor: tensor
    maps = 1000 + torch.randn(2, 3, 4, 4, dtype=dtype)
    found = norm(maps)
    assert found.dtype == dtype
    tolerance = 1e-3 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(found, whole(maps), rtol=0, atol=tolerance)


def test_half_precision_is_summed_in_float32() -> None:
    norm = MapNorm(1).train()
    norm.total = lambda tensor: tensor
    maps = torch.full((1, 1, 64, 64), 3.0).bfloat16()  # 4096 threes: a sum that bfloat16 stops at 1024
    maps[..., ::2] = 1.0
    found = norm(maps)
    assert found.dtype == torch.bfloat16
    assert norm.running_mean.item() == pytest.approx(0.1 * 2)
