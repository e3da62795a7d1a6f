"""The stacked convolutions by tiles, as the proposal head sees them: one object, and nothing behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.model.fast.routes import Plan, Route, Router
from mrnet.model.fast.spectral import KeptKernel, Scratch, tiled_convolution
from mrnet.model.norm import MapNorm


@dataclass(frozen=True)
class StackLayer:
    """A convolution, its norm, and the ``(s, s)`` factor on its output, after a ReLU."""

    conv: nn.Conv2d
    norm: MapNorm
    weight: Tensor


class TiledStack:
    """Stacked convolutions over proposal maps: which route they take, and the tiled one.

    It holds what that costs: plans, spectra of the kernels, which are kept from one call to the next while weights
    stay as they are, and memory to work in. Weights and the state of the norms are the layers' own, read in each call.

    Args:
        layers: first to last.
        valid: ``(t, t)`` bool, cells of the last output that are wanted.
        filled: whether maps may differ from 0 in invalid cells.
        route: ``auto`` takes the faster one, by shape and device, that the memory budget allows.
        memory_budget: bytes that the tiled route may take beside weights and activations; ``None`` for a quarter of
            this machine's memory.
    """

    def __init__(
        self,
        layers: Sequence[StackLayer],
        *,
        valid: Tensor,
        filled: bool,
        route: Route = "auto",
        memory_budget: int | None = None,
    ) -> None:
        self.route: Route = route
        self.memory_budget = memory_budget
        self._convs = [layer.conv for layer in layers]
        self._norms = [layer.norm for layer in layers]
        self._router = Router(
            valid=valid,
            filled=filled,
            weights=[layer.weight for layer in layers],
            kernel=self._convs[0].kernel_size[0],
            widths=[self._convs[0].in_channels, *(conv.out_channels for conv in self._convs)],
        )
        self._plans: dict[tuple[object, ...], Plan | None] = {}
        self._kept: _KeptKernels | None = None
        self._scratch = Scratch()

    def plan(self, proposal_map: Tensor) -> Plan | None:
        """The route of ``(m, d, t, t)`` maps like these; ``None`` is the dense one."""
        if self.route == "dense":
            return None
        wanted = proposal_map.requires_grad or any(conv.weight.requires_grad for conv in self._convs)
        training = any(norm.training for norm in self._norms)
        learning = training or (torch.is_grad_enabled() and wanted)
        num_maps = 2 ** (len(proposal_map) - 1).bit_length()  # about so many: plans take time to make
        itemsize = self._convs[0].weight.itemsize
        key = (training, learning, num_maps, itemsize, proposal_map.device)
        if key not in self._plans:
            self._plans[key] = self._router.plan(
                num_maps=num_maps,
                training=training,
                learning=learning,
                device=proposal_map.device,
                itemsize=itemsize,
                route=self.route,
                budget=self.memory_budget,
            )
        return self._plans[key]

    def __call__(self, proposal_map: Tensor, plan: Plan) -> Tensor:
        """Convolve by tiles, in the weights' precision, which autocast does not lower.

        Args:
            proposal_map: ``(m, d, t, t)``.
            plan: of :meth:`plan`, for these maps.

        Returns:
            the last output in the valid cells, ``(m, v, hidden)``.
        """
        with torch.autocast(proposal_map.device.type, enabled=False):
            # Through the rows of each layer's cells and one of zeros, (cells + 1, m, c).
            x = proposal_map.to(self._convs[0].weight.dtype).flatten(2).permute(2, 0, 1)[plan.inputs]
            x = F.pad(x, (0, 0, 0, 0, 0, 1))
            kernels = self._kernels(plan)
            for index, (conv, norm) in enumerate(zip(self._convs, self._norms, strict=True)):
                parts = [
                    tiled_convolution(part, conv.weight, plan.tilings[index], self._scratch, kernels[index])
                    for part in torch.split(x, plan.maps_at_once, dim=1)
                ]
                values = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
                mean, scale = norm.mean_and_scale(values[:-1], x.shape[1] * plan.sides[index] ** 2, conv.bias)
                x = torch.addcmul(norm.bias - mean * scale, values, scale).relu()
                x = x * plan.weights[index].to(x.dtype)
        return x[plan.outputs].transpose(0, 1)

    def release(self) -> None:
        """Give up the spectra of weights that will change."""
        self._kept = None

    def memory_in_use(self) -> int:
        """Bytes that are held at the moment, of this thread, beside weights and activations."""
        kernels = self._kept.kernels if self._kept else []
        return self._scratch.num_bytes() + sum(kernel.num_bytes() for kernel in kernels)

    def multiply_adds(self, plan: Plan | None) -> int:
        """Of the convolutions of one map on a route."""
        return self._router.multiply_adds(plan)

    def _kernels(self, plan: Plan) -> Sequence[KeptKernel | None]:
        """Of each layer, transformed, where there is memory to keep them."""
        weights = [conv.weight for conv in self._convs]
        untracked = any(weight.is_inference() for weight in weights)  # such tensors do not tell when they change
        if untracked or not plan.keeps_spectra:
            return [None] * len(weights)
        of = (plan.tilings[0].size, *((weight.data_ptr(), weight._version) for weight in weights))
        if self._kept is None or self._kept.of != of:
            self._kept = None  # two at a time would not fit
            with torch.no_grad():
                kernels = [
                    KeptKernel(weight, tiling, self._scratch)
                    for weight, tiling in zip(weights, plan.tilings, strict=True)
                ]
            self._scratch.release()  # of what only this takes
            self._kept = _KeptKernels(of, kernels)
        return self._kept.kernels


@dataclass(frozen=True)
class _KeptKernels:
    """Of all layers, and of which state of the weights they are."""

    of: tuple[object, ...]
    kernels: list[KeptKernel]
