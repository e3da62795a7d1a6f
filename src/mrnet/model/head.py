"""Stacked large-kernel convolutions over the proposal map, and the two embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.model.fast.routes import Plan, Route, Router
from mrnet.model.fast.spectral import Kernel, Scratch, tiled_convolution, transform_kernel
from mrnet.model.fast.tiling import Tiling
from mrnet.model.norm import MapNorm
from mrnet.precision import at_least_float32


class ProposalHead(nn.Module):
    """Convolutions that let neighbouring proposals see each other.

    L stacked KxK convolutions, all padding in the first. Each is followed by batch norm, ReLU and a
    weight that divides by the number of valid cells in the window (0 where there are none); the set of
    valid cells grows with each layer.

    Two routes give the same: ``dense``, plain convolutions of whole maps, and ``tiled``, which computes only what
    valid cells depend on, in the frequency domain (:mod:`mrnet.model.fast.spectral`).

    Args:
        valid: ``(t, t)`` bool.
        filled: whether the maps may differ from 0 in invalid cells.
        dim: d, channels in and of each embedding.
        hidden: channels between.
        kernel: K.
        layers: L; (K - 1)·L must be even.

    Attributes:
        route: ``auto`` takes the faster one, by shape and device, that the memory budget allows.
        memory_budget: bytes that the tiled route may take beside weights and activations; ``None`` for a quarter of
            this machine's memory.

    Deviation: the biases of the stacked convolutions are not trained. Batch norm removes them, so their
    gradient is zero but for rounding, which Adam would blow up into a random walk. No output changes.

    Source: docs/method.md, section 6.
    """

    def __init__(self, *, valid: Tensor, filled: bool, dim: int, hidden: int, kernel: int, layers: int) -> None:
        super().__init__()
        paddings = [(kernel - 1) * layers // 2] + [0] * (layers - 1)
        widths = [dim] + [hidden] * layers
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernel, padding=paddings[i]) for i in range(layers)
        )
        for conv in self.convs:
            conv.bias.requires_grad_(False)
        self.norms = nn.ModuleList(MapNorm(hidden) for _ in range(layers))
        self.iou = nn.Conv2d(hidden, dim, kernel_size=1)
        self.contrastive = nn.Conv2d(hidden, dim, kernel_size=1)

        ones = torch.ones(1, 1, kernel, kernel)
        support = valid[None, None].to(ones.dtype)
        weights = []
        for padding in paddings:
            count = F.conv2d(support, ones, padding=padding).round()
            support = (count > 0).to(ones.dtype)
            weights.append(support / count.clamp(min=1))
        for index, weight in enumerate(weights):
            self.register_buffer(f"weight_{index}", weight, persistent=False)
        self.register_buffer("valid", valid, persistent=False)
        self.valid: Tensor
        self.route: Route = "auto"
        self.memory_budget: int | None = None
        self._router = Router(valid=valid, filled=filled, weights=weights, kernel=kernel, widths=widths)
        self._plans: dict[tuple[object, ...], Plan | None] = {}
        self._kept: _KeptKernels | None = None
        self._scratch = Scratch()

    def forward(self, proposal_map: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the proposals.

        Args:
            proposal_map: ``(m, d, t, t)`` features.

        Returns:
            the IoU and the contrastive embeddings of the valid cells, both ``(m, v, d)``.
        """
        plan = self.plan(proposal_map)
        hidden = self._dense(proposal_map) if plan is None else self._tiled(proposal_map, plan)
        return _pointwise(self.iou, hidden), _pointwise(self.contrastive, hidden)

    def train(self, mode: bool = True) -> Self:
        """As of every module; the spectra of weights that will change are given up."""
        self._kept = None
        return super().train(mode)

    def plan(self, proposal_map: Tensor) -> Plan | None:
        """How maps like these are gone about; ``None``: by the dense route."""
        wanted = proposal_map.requires_grad or any(conv.weight.requires_grad for conv, _ in self._layers)
        learning = self.training or (torch.is_grad_enabled() and wanted)
        num_maps = 2 ** (len(proposal_map) - 1).bit_length()  # about so many: plans take time to make
        key = (self.training, learning, num_maps, proposal_map.device, self.route, self.memory_budget)
        if key not in self._plans:
            self._plans[key] = self._router.plan(
                num_maps=num_maps,
                training=self.training,
                learning=learning,
                device=proposal_map.device,
                route=self.route,
                budget=self.memory_budget,
            )
        return self._plans[key]

    def memory_in_use(self) -> int:
        """Bytes that the tiled route holds at the moment, of this thread, beside weights and activations."""
        kernels = self._kept.kernels if self._kept else []
        tensors = [tensor for kernel in kernels for tensor in (kernel.taps, *kernel.spectrum)]
        return self._scratch.num_bytes() + sum(tensor.nbytes for tensor in tensors)

    def multiply_adds(self, proposal_map: Tensor) -> int:
        """Of the stacked convolutions for one map, on the route that maps like these take."""
        return self._router.multiply_adds(self.plan(proposal_map))

    def _dense(self, x: Tensor) -> Tensor:
        """``(m, d, t, t)`` to ``(m, v, hidden)``."""
        for index, (conv, norm) in enumerate(self._layers):
            x = norm(conv(x)).relu() * self.get_buffer(f"weight_{index}")
        return x[:, :, self.valid].transpose(1, 2)

    def _tiled(self, proposal_map: Tensor, plan: Plan) -> Tensor:
        """The same, through the rows of each layer's cells and one of zeros, ``(cells + 1, m, c)``."""
        with torch.autocast(proposal_map.device.type, enabled=False):
            x = at_least_float32(proposal_map).flatten(2).permute(2, 0, 1)[plan.inputs]
            x = F.pad(x, (0, 0, 0, 0, 0, 1))
            kernels = self._kept_kernels(plan)
            for index, (conv, norm) in enumerate(self._layers):
                parts = [
                    tiled_convolution(part, conv.weight, plan.tilings[index], self._scratch, kernels[index])
                    for part in torch.split(x, plan.maps_at_once, dim=1)
                ]
                values = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
                mean, scale = norm.moments(values[:-1], x.shape[1] * plan.sides[index] ** 2, conv.bias)
                x = torch.addcmul(norm.bias - mean * scale, values, scale).relu() * plan.weights[index]
        return x[plan.outputs].transpose(0, 1)

    @property
    def _layers(self) -> list[tuple[nn.Conv2d, MapNorm]]:
        return [(cast(nn.Conv2d, c), cast(MapNorm, n)) for c, n in zip(self.convs, self.norms, strict=True)]

    def _kept_kernels(self, plan: Plan) -> Sequence[Kernel | None]:
        """Of each layer, transformed, where there is memory to keep them."""
        weights = [conv.weight for conv, _ in self._layers]
        untold = any(weight.is_inference() for weight in weights)  # such tensors do not tell when they change
        if untold or not plan.keeps_spectra:
            return [None] * len(weights)
        of = (plan.tilings[0].size, *((weight.data_ptr(), weight._version) for weight in weights))
        if self._kept is None or self._kept.of != of:
            self._kept = None  # two at a time would not fit
            with torch.no_grad():
                kernels = [
                    self._kept_kernel(weight, tiling) for weight, tiling in zip(weights, plan.tilings, strict=True)
                ]
            self._kept = _KeptKernels(of, kernels)
        return self._kept.kernels

    def _kept_kernel(self, weight: Tensor, tiling: Tiling) -> Kernel:
        kernel = transform_kernel(weight, tiling.size, self._scratch)
        spectrum = [band.clone() for band in kernel.spectrum]
        return Kernel((kernel.taps if any(tiling.pairs.counts) else kernel.taps[:0]).clone(), spectrum)


@dataclass(frozen=True)
class _KeptKernels:
    """Of all layers, and of which state of the weights they are."""

    of: tuple[object, ...]
    kernels: list[Kernel]


def _pointwise(conv: nn.Conv2d, hidden: Tensor) -> Tensor:
    """A 1x1 convolution of channels-last values."""
    return F.linear(hidden, conv.weight[:, :, 0, 0], conv.bias)
