"""A convolution over tiles in the frequency domain (overlap-save), as products with small fixed matrices.

With ``F`` the Fourier transform of N points, the correlation of a tile with a kernel, ``y[i] = sum_k w[k] x[i+k]``,
is ``F^-1(F(x) · conj(F(w)))`` for the first N - K + 1 outputs; later ones wrap around and are not used. In two
dimensions ``F`` acts along either axis. Summed over the input channels, each frequency is one matrix product, of
(tiles x channels in) by (channels in x channels out). This is where the time goes: about
``1.5 N^2 / (N-K+1)^2`` multiplications for an output and a pair of channels, in place of ``K^2``.

Everything is real. N real values have N real frequency components: one of frequency 0 and of N/2, a real and an
imaginary one of each between. A product of complex numbers takes three of real ones:
``(a + ib)(c + id) = (p1 - p3) + i (p1 + p2)`` with ``p1 = (a + b) c``, ``p2 = a (d - c)``, ``p3 = b (c + d)``.
Both rules are linear before and after the product, so they are part of the matrices. docs/performance.md has the
whole formula, and what it gains.
"""

import math
import threading
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mrnet.device import num_workers, side_by_side
from mrnet.model.fast.tiling import Tiling


@dataclass(frozen=True)
class _Columns:
    """What is done along the columns of a band of r components, with f frequencies.

    Attributes:
        enter: ``(3·f, r·N)``.
        kernel: ``(3·f, r·K)``.
        leave: ``(r·(N-K+1), 3·f)``.
    """

    enter: Tensor
    kernel: Tensor
    leave: Tensor

    @classmethod
    def make(cls, size: int, kernel: int, frequencies: Tensor, weights: Tensor, parts: int) -> "_Columns":
        x = _rotation(frequencies, size, size, -1)
        w = _rotation(frequencies, kernel, size, 1)
        y = _rotation(frequencies, size - kernel + 1, size, 1) * weights[:, None, None, None] / size

        def rows(*triple: Tensor) -> Tensor:  # (f, r, n) each
            return torch.stack(triple)[:, :, :parts].flatten(2).flatten(0, 1)

        return cls(
            enter=rows(x[:, 0] + x[:, 1], x[:, 0], x[:, 1]),
            kernel=rows(w[:, 0], w[:, 1] - w[:, 0], w[:, 0] + w[:, 1]),
            leave=rows(y[..., 0, :] + y[..., 1, :], y[..., 1, :], -y[..., 0, :]).T,
        )

    def to(self, dtype: torch.dtype, device: torch.device) -> "_Columns":
        return _Columns(*(_ready(matrix, dtype, device) for matrix in (self.enter, self.kernel, self.leave)))


@dataclass(frozen=True)
class _Matrices:
    """The fixed matrices of a tile size N and a kernel size K.

    Attributes:
        bands: slices of the N components along the rows: those of one frequency.
        columns: of each band, what is done along the columns.
        enter: ``(N, N)``, along the rows.
        kernel: ``(N, K)``.
        leave: ``(N-K+1, N)``.
    """

    bands: tuple[slice, ...]
    columns: tuple[_Columns, ...]
    enter: Tensor
    kernel: Tensor
    leave: Tensor


@lru_cache(maxsize=64)
def _matrices(size: int, kernel: int, dtype: torch.dtype, device: torch.device) -> _Matrices:
    every, half = torch.arange(size), torch.arange(size // 2 + 1)
    alone = (half == 0) | (2 * half == size)  # real frequencies, and their own mirror image
    weights = torch.where(alone, 1.0, 2.0).double()
    single = _Columns.make(size, kernel, half, weights, parts=1).to(dtype, device)
    double = _Columns.make(size, kernel, every, torch.ones(size).double(), parts=2).to(dtype, device)
    present = torch.stack([torch.ones_like(alone), ~alone], dim=1).flatten()  # imaginary parts of those are 0

    def rows(rotation: Tensor) -> Tensor:  # (f, 2, n)
        return rotation.flatten(0, 1)[present]

    leave = _rotation(half, size - kernel + 1, size, 1)[:, 0] * weights[:, None, None] / size
    widths = [1 if one else 2 for one in alone.tolist()]
    ends = torch.tensor(widths).cumsum(0).tolist()
    return _Matrices(
        bands=tuple(slice(end - width, end) for end, width in zip(ends, widths, strict=True)),
        columns=tuple(single if width == 1 else double for width in widths),
        enter=_ready(rows(_rotation(half, size, size, -1)[:, :, 0]), dtype, device),
        kernel=_ready(rows(_rotation(half, kernel, size, 1)[:, :, 0]), dtype, device),
        leave=_ready(rows(leave).T, dtype, device),
    )


def _rotation(frequencies: Tensor, count: int, size: int, sign: int) -> Tensor:
    """``exp(sign·2πi·f·n/N)``, n below ``count``: ``(f, 2, 2, n)``, parts of the output by parts of the input."""
    angle = ((frequencies[:, None] * torch.arange(count)) % size).double() * (sign * 2 * torch.pi / size)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)


def _ready(matrix: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return matrix.to(dtype).contiguous().to(device)


def num_products(size: int) -> int:
    """Real products of matrices that the frequencies of an N x N tile take: about 1.5 N^2."""
    bands = size // 2 + 1
    single = 2 if size % 2 == 0 else 1
    return 3 * (single * bands + (bands - single) * size)


def tile_multiply_adds(size: int, kernel: int, wide_in: int, wide_out: int) -> tuple[int, int]:
    """Multiply-adds of one tile: in the products of its frequencies, and in its transforms."""
    step, products = size - kernel + 1, num_products(size)
    entering, leaving = size**3 + 2 * size * products, 2 * step * products + step**2 * size
    return products * wide_in * wide_out, entering * wide_in + leaving * wide_out


class Buffer(Enum):
    """Memory for intermediate values, by what it holds and until when.

    All of it is written anew in each convolution and holds nothing from one to the next. It is kept all the same,
    because an intermediate value is many times larger than a map: the first touch of a fresh page costs about 2 µs,
    more than the work that is done in it (docs/performance.md). Where one buffer holds several values, each is read
    for the last time before the next is written. N, K, p, m, c, o, f: as in :class:`_Columns` and
    :func:`tiled_convolution`.
    """

    TAPS = auto()
    """``(K, K, c, o)``, the kernel in another order: from :class:`PassingKernel` to the end of the convolution, where
    pairs are multiplied by it."""
    KERNEL_ROWS = auto()
    """``(N, K·c·o)``, the kernel transformed along the rows: until the last band."""
    SPECTRUM = auto()
    """``(workers, 3·f, c, o)``, the kernel in the band that a worker does."""
    TILES = auto()
    """``(N·N·p, m·c)``, what tiles read: gathered and at once transformed into ``ROWS``. Then, forward,
    ``(N, (N-K+1)·p·m·o)``: each band writes its rows, and all are transformed into ``ROWS`` after the last. Back,
    ``(N, N·p·m·c)``: the gradient of what tiles read, until it is added up."""
    ROWS = auto()
    """``(N, N·p·m·c)``, what tiles read transformed along the rows: a band's rows are read in that band alone, and
    back they then take its gradient, until all are transformed into ``TILES``. Forward, after the last band,
    ``((N-K+1)²·p + 1, m·o)``: the outputs tile by tile, until they are gathered. Back, before all, the gradients of
    those, until they are transformed into ``OUTPUT_ROWS``."""
    OUTPUT_ROWS = auto()
    """``(N, (N-K+1)·p·m·o)``, back: the gradient of the outputs transformed along the rows, until the last band."""
    FACTORS = auto()
    """``(workers, 3·f, p·m, c)``, the input in the band that a worker does; back, then its gradient."""
    PRODUCTS = auto()
    """``(workers, 3·f, p·m, o)``, the output in the band that a worker does, back its gradient."""
    SPECTRUM_GRADIENT = auto()
    """``(workers, 3·f, c, o)``, back: in the band that a worker does."""
    KERNEL_ROWS_GRADIENT = auto()
    """``(N, K·c·o)``, back: each band writes its rows, and all are transformed after the last."""


class Scratch:
    """The buffers of a stack of convolutions, made when first taken. Each thread has its own; copies start empty."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __reduce__(self) -> tuple[type["Scratch"], tuple[()]]:
        return Scratch, ()

    def take(self, buffer: Buffer, like: Tensor, *shape: int) -> Tensor:
        """A buffer in a shape, with the type and device of another tensor; what it held is given up."""
        pool: dict[str, Tensor] = self._local.__dict__
        size = math.prod(shape)
        kept = pool.get(buffer.name)
        if kept is None or kept.numel() < size or (kept.device, kept.dtype) != (like.device, like.dtype):
            pool.pop(buffer.name, None)
            with torch.inference_mode(False):  # training may use it after
                kept = pool[buffer.name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return kept[:size].view(shape)

    def release(self) -> None:
        """Give up this thread's buffers."""
        self._local.__dict__.clear()

    def num_bytes(self) -> int:
        """Of this thread."""
        return sum(kept.nbytes for kept in self._local.__dict__.values())


class Kernel(Protocol):
    """A kernel, ready to be multiplied with.

    Attributes:
        taps: ``(K·K, c, o)``.
    """

    taps: Tensor

    def spectrum(self, band: int, worker: int) -> Tensor:
        """``(3·f, c, o)``, until the same worker asks for another band."""
        ...


class PassingKernel:
    """A kernel whose spectrum, many times larger than it, never exists as a whole: a band at a time for each worker.

    Args:
        weight: ``(o, c, K, K)``.
        size: N, side of the tiles.
        scratch: to work in.
    """

    def __init__(self, weight: Tensor, size: int, scratch: Scratch) -> None:
        wide_out, wide_in, side, _ = weight.shape
        self._matrices = _matrices(size, side, weight.dtype, weight.device)
        self._channels = wide_in, wide_out
        taps = scratch.take(Buffer.TAPS, weight, side, side, wide_in, wide_out)
        taps.copy_(weight.permute(2, 3, 1, 0))
        self.taps = taps.flatten(0, 1)
        self._rows = scratch.take(Buffer.KERNEL_ROWS, weight, size, side * wide_in * wide_out)
        torch.mm(self._matrices.kernel, taps.view(side, -1), out=self._rows)
        workers = num_workers(weight.device, len(self._matrices.bands))
        self._space = scratch.take(Buffer.SPECTRUM, weight, workers, 3 * size, wide_in * wide_out)

    def spectrum(self, band: int, worker: int) -> Tensor:
        """As of :class:`Kernel`."""
        columns = self._matrices.columns[band]
        spectrum = self._space[worker, : len(columns.kernel)]
        rows = self._rows[self._matrices.bands[band]].view(columns.kernel.shape[1], -1)
        return torch.mm(columns.kernel, rows, out=spectrum).view(-1, *self._channels)


class KeptKernel:
    """A kernel whose spectrum is kept whole, and its taps where they are needed.

    Args:
        weight: ``(o, c, K, K)``.
        tiling: of the cells.
        scratch: to work in.
    """

    def __init__(self, weight: Tensor, tiling: Tiling, scratch: Scratch) -> None:
        passing = PassingKernel(weight, tiling.size, scratch)
        self.taps = passing.taps[: None if any(tiling.pairs.counts) else 0].clone()
        self._bands = [passing.spectrum(band, 0).clone() for band in range(tiling.size // 2 + 1)]

    def spectrum(self, band: int, worker: int) -> Tensor:  # noqa: ARG002
        """As of :class:`Kernel`."""
        return self._bands[band]

    def num_bytes(self) -> int:
        return self.taps.nbytes + sum(band.nbytes for band in self._bands)


def tiled_convolution(
    x: Tensor, weight: Tensor, tiling: Tiling, scratch: Scratch, kernel: Kernel | None = None
) -> Tensor:
    """Convolution of a map, where it is known and where it is needed.

    Args:
        x: ``(cells + 1, m, c)`` float32 or float64; the last row is zero.
        weight: ``(o, c, K, K)``, in the same precision.
        tiling: of the cells.
        scratch: to work in.
        kernel: the weight transformed, where it is at hand; not used where gradients are wanted.

    Returns:
        ``(cells + 1, m, o)``, the last row zero.
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        result: Tensor = _TiledConvolution.apply(x, weight, tiling, scratch)  # type: ignore[no-untyped-call]
        return result
    return _correlate(x, weight, tiling, scratch, kernel or PassingKernel(weight, tiling.size, scratch))


def _correlate(x: Tensor, weight: Tensor, tiling: Tiling, scratch: Scratch, kernel: Kernel) -> Tensor:
    size, step, num_maps = tiling.size, tiling.size - tiling.kernel + 1, x.shape[1]
    images, (wide_out, wide_in) = tiling.num_tiles * num_maps, weight.shape[:2]
    matrices = _matrices(size, tiling.kernel, x.dtype, x.device)
    entered = _enter_rows(x, tiling, matrices, scratch)
    workers = num_workers(x.device, len(matrices.bands))
    factors = scratch.take(Buffer.FACTORS, x, workers, 3 * size, images, wide_in)
    products = scratch.take(Buffer.PRODUCTS, x, workers, 3 * size, images, wide_out)
    left = scratch.take(Buffer.TILES, x, size, step * images * wide_out)

    def convolve(worker: int, band: int) -> None:
        columns, rows, spectrum = matrices.columns[band], matrices.bands[band], kernel.spectrum(band, worker)
        factor, product = factors[worker, : len(spectrum)], products[worker, : len(spectrum)]
        torch.mm(columns.enter, entered[rows].view(columns.enter.shape[1], -1), out=factor.flatten(1))
        torch.bmm(factor, spectrum, out=product)
        torch.mm(columns.leave, product.flatten(1), out=left[rows].view(len(columns.leave), -1))

    side_by_side(convolve, range(len(matrices.bands)), workers)
    places = scratch.take(Buffer.ROWS, x, step * step * tiling.num_tiles + 1, num_maps * wide_out)
    torch.mm(matrices.leave, left, out=places[:-1].view(step, -1))
    places[-1] = 0
    result = places.index_select(0, tiling.target).view(-1, num_maps, wide_out)
    for tap, inputs, outputs in tiling.pairs.taps():
        result.index_add_(0, outputs, x[inputs] @ kernel.taps[tap])
    return result


def _enter_rows(x: Tensor, tiling: Tiling, matrices: _Matrices, scratch: Scratch) -> Tensor:
    """``(N, N·p·m·c)``: what the tiles read, transformed along the rows."""
    size, wide = tiling.size, x[0].numel()
    read = scratch.take(Buffer.TILES, x, size * size * tiling.num_tiles, wide)
    torch.index_select(x.flatten(1), 0, tiling.source.flatten(), out=read)
    entered = scratch.take(Buffer.ROWS, x, size, size * tiling.num_tiles * wide)
    return torch.mm(matrices.enter, read.view(size, -1), out=entered)


class _TiledConvolution(torch.autograd.Function):
    """Nothing is kept for the way back but the input: spectra are many times larger than the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, tiling: Tiling, scratch: Scratch) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.tiling, ctx.scratch = tiling, scratch
        return _correlate(x, weight, tiling, scratch, PassingKernel(weight, tiling.size, scratch))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        """Every step of the way there, transposed, in reverse order."""
        x, weight = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        scratch: Scratch = ctx.scratch
        size, kernel, step = tiling.size, tiling.kernel, tiling.size - tiling.kernel + 1
        images, (wide_out, wide_in) = tiling.num_tiles * x.shape[1], weight.shape[:2]
        matrices = _matrices(size, kernel, x.dtype, x.device)

        places = scratch.take(Buffer.ROWS, x, step * step * tiling.num_tiles + 1, x.shape[1] * wide_out).zero_()
        places.index_copy_(0, tiling.target, gradients[0].flatten(1))
        left = scratch.take(Buffer.OUTPUT_ROWS, x, size, step * images * wide_out)
        torch.mm(matrices.leave.T, places[:-1].view(step, -1), out=left)
        entered = _enter_rows(x, tiling, matrices, scratch)
        transformed = PassingKernel(weight, size, scratch)
        workers, pairs = num_workers(x.device, len(matrices.bands)), wide_in * wide_out
        factors = scratch.take(Buffer.FACTORS, x, workers, 3 * size, images, wide_in)
        products = scratch.take(Buffer.PRODUCTS, x, workers, 3 * size, images, wide_out)
        grad_spectra = scratch.take(Buffer.SPECTRUM_GRADIENT, x, workers, 3 * size, wide_in, wide_out)
        grad_rows = scratch.take(Buffer.KERNEL_ROWS_GRADIENT, x, size, kernel * pairs)

        def go_back(worker: int, band: int) -> None:
            columns, rows = matrices.columns[band], matrices.bands[band]
            spectrum = transformed.spectrum(band, worker)
            count = len(spectrum)
            factor, product, gradient = (space[worker, :count] for space in (factors, products, grad_spectra))
            inputs = entered[rows].view(columns.enter.shape[1], -1)
            torch.mm(columns.enter, inputs, out=factor.flatten(1))
            torch.mm(columns.leave.T, left[rows].view(len(columns.leave), -1), out=product.flatten(1))
            torch.bmm(factor.transpose(1, 2), product, out=gradient)
            torch.mm(columns.kernel.T, gradient.flatten(1), out=grad_rows[rows].view(-1, pairs))
            torch.bmm(product, spectrum.transpose(1, 2), out=factor)
            torch.mm(columns.enter.T, factor.flatten(1), out=inputs)  # which are not wanted any more

        side_by_side(go_back, range(len(matrices.bands)), workers)
        grad_flat = matrices.kernel.T @ grad_rows
        for tap, inputs, outputs in tiling.pairs.taps():
            grad_tap = grad_flat.view(-1, wide_in, wide_out)[tap]
            grad_tap.addmm_(x[inputs].flatten(0, 1).T, gradients[0][outputs].flatten(0, 1))
        grad_weight = grad_flat.view(kernel, kernel, wide_in, wide_out).permute(3, 2, 0, 1)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None, None
        grad_read = scratch.take(Buffer.TILES, x, size, size * images * wide_in)
        torch.mm(matrices.enter.T, entered, out=grad_read)
        order, starts = tiling.readers
        rows = grad_read.view(-1, x.shape[1] * wide_in)
        grad_x = torch.zeros_like(x)  # the zero row is nobody's
        grad_x[:-1] = F.embedding_bag(order, rows, starts, mode="sum").view_as(x[:-1])
        for tap, inputs, outputs in tiling.pairs.taps():
            grad_x.index_add_(0, inputs, gradients[0][outputs] @ transformed.taps[tap].T)
        return grad_x, grad_weight, None, None
