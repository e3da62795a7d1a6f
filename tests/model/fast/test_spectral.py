"""The convolution by tiles against the convolution itself."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from mrnet.model.fast.spectral import Buffer, KeptKernel, PassingKernel, Scratch, num_products, tiled_convolution
from mrnet.model.fast.tiling import Tiling, working_cells
from mrnet.temporal import valid_cells

MAPS, WIDE_IN, WIDE_OUT = 2, 3, 4


def case(kernel: int, size: int, least_pairs: float) -> tuple[Tiling, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A tiling, rows of its inputs, the map that they are the cells of, and where its outputs are wanted."""
    generator = torch.Generator().manual_seed(kernel)
    valid = valid_cells(20, [5, 3, 2])
    inputs, outputs, *_ = working_cells(valid, valid, kernel, 2, training=False)
    tiling = Tiling.make(inputs, outputs, kernel, size, least_pairs=least_pairs)
    maps = torch.randn(MAPS, WIDE_IN, *inputs.shape, generator=generator) * inputs
    rows = F.pad(maps.permute(2, 3, 0, 1)[inputs], (0, 0, 0, 0, 0, 1))
    return tiling, rows, maps, outputs


@pytest.mark.parametrize(
    ("kernel", "size", "least_pairs"),
    [(3, 8, 0), (3, 8, 40), (5, 9, 0), (5, 12, 200), (9, 16, 0), (17, 24, 0), (4, 7, 0), (1, 4, 0), (2, 3, 8)],
)
def test_values_and_gradients(kernel: int, size: int, least_pairs: float) -> None:
    tiling, rows, maps, outputs = case(kernel, size, least_pairs)
    assert any(tiling.pairs.counts) == (least_pairs > 0)
    weight = torch.randn(WIDE_OUT, WIDE_IN, kernel, kernel) / kernel
    exact = [tensor.double().requires_grad_() for tensor in (maps, weight)]
    expected = F.conv2d(*exact).permute(2, 3, 0, 1)[outputs]
    up = torch.randn(expected.shape)
    (expected * up).sum().backward()

    rows.requires_grad_()
    weight.requires_grad_()
    scratch = Scratch()
    found = tiled_convolution(rows, weight, tiling, scratch)
    scale = expected.abs().max().item()
    torch.testing.assert_close(found[:-1].double(), expected, rtol=0, atol=3e-6 * scale)
    assert not found[-1].any()
    found.backward(F.pad(up, (0, 0, 0, 0, 0, 1), value=7.0))  # what becomes of the zero row does not matter
    grad_maps, grad_weight = (tensor.grad for tensor in exact)
    assert grad_maps is not None
    assert grad_weight is not None
    assert rows.grad is not None
    assert weight.grad is not None
    inputs = maps[0].any(dim=0)
    expected_grad = grad_maps.permute(2, 3, 0, 1)[inputs]
    torch.testing.assert_close(
        rows.grad[:-1].double(), expected_grad, rtol=0, atol=3e-6 * expected_grad.abs().max().item()
    )
    torch.testing.assert_close(
        weight.grad.double(), grad_weight, rtol=0, atol=3e-6 * grad_weight.abs().max().item()
    )

    with torch.inference_mode():
        kept = KeptKernel(weight, tiling, Scratch())
        torch.testing.assert_close(tiled_convolution(rows, weight, tiling, scratch, kept), found, rtol=0, atol=0)


@pytest.mark.parametrize("size", [5, 6, 8, 9, 16])
def test_products_of_a_tile(size: int) -> None:
    kernel = PassingKernel(torch.randn(2, 2, 3, 3), size, Scratch())
    assert sum(len(kernel.spectrum(band, 0)) for band in range(size // 2 + 1)) == num_products(size)
    assert 1.5 * size**2 <= num_products(size) <= 1.5 * size**2 + 3 * size


def test_one_weight_on_one_cell() -> None:
    """By hand: the kernel's only weight, 2 at its tap (0, 1), reads the cell right of the output's place."""
    inputs, outputs = torch.ones(4, 4, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)
    x = F.pad(torch.arange(16.0)[:, None, None], (0, 0, 0, 0, 0, 1))
    weight = torch.zeros(1, 1, 2, 2)
    weight[0, 0, 0, 1] = 2
    found = tiled_convolution(x, weight, Tiling.make(inputs, outputs, 2, 4), Scratch())
    expected = torch.tensor([2.0, 4, 6, 10, 12, 14, 18, 20, 22, 0])
    torch.testing.assert_close(found.flatten(), expected, atol=1e-5, rtol=0)


def test_scratch_is_used_again_and_never_copied() -> None:
    scratch, like = Scratch(), torch.zeros(1)
    with torch.inference_mode():
        first = scratch.take(Buffer.TILES, like, 3, 4)
    assert not first.is_inference()
    assert scratch.take(Buffer.TILES, like, 2, 2).data_ptr() == first.data_ptr()
    assert scratch.take(Buffer.ROWS, like, 2).data_ptr() != first.data_ptr()
    assert scratch.num_bytes() == 4 * (12 + 2)
    assert scratch.take(Buffer.TILES, like, 5, 4).shape == (5, 4)
    assert scratch.num_bytes() == 4 * (20 + 2)
    assert copy.deepcopy(scratch).num_bytes() == pickle.loads(pickle.dumps(scratch)).num_bytes() == 0


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(threads: int) -> None:
    """Whichever worker does a band, and whenever: forward and both gradients, ten times."""
    tiling, rows, _, _ = case(5, 12, 200)
    weight = torch.randn(WIDE_OUT, WIDE_IN, 5, 5, generator=torch.Generator().manual_seed(0))

    def convolve() -> list[torch.Tensor]:
        inputs = [rows.clone().requires_grad_(), weight.clone().requires_grad_()]
        found = tiled_convolution(*inputs, tiling, Scratch())
        return [found, *torch.autograd.grad(found.square().sum(), inputs)]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = convolve()
        torch.set_num_threads(threads)
        for _ in range(10):
            for one, other in zip(convolve(), expected, strict=True):
                assert (one - other).abs().max() <= 1e-5 * other.abs().max()
        first = convolve()
        for _ in range(10):
            assert all(torch.equal(one, other) for one, other in zip(convolve(), first, strict=True))
    finally:
        torch.set_num_threads(before)
