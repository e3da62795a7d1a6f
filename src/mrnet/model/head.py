"""Stacked large-kernel convolutions over the proposal map, and the two embeddings."""

from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.model.fast.routes import Route
from mrnet.model.fast.stack import StackLayer, TiledStack
from mrnet.model.norm import MapNorm


class ProposalHead(nn.Module):
    """Convolutions that let neighbouring proposals see each other.

    L stacked KxK convolutions, all padding in the first. Each is followed by batch norm, ReLU and a
    weight that divides by the number of valid cells in the window (0 where there are none); the set of
    valid cells grows with each layer.

    Two routes give the same: ``dense``, plain convolutions of whole maps, and ``tiled``, which computes only what
    valid cells depend on, in the frequency domain (:mod:`mrnet.model.fast`).

    Args:
        valid: ``(t, t)`` bool.
        filled: whether the maps may differ from 0 in invalid cells.
        dim: d, channels in and of each embedding.
        hidden: channels between.
        kernel: K.
        layers: L; (K - 1)·L must be even.
        contrastive: whether there is a contrastive embedding.
        route: see :class:`mrnet.model.fast.stack.TiledStack`, as for the next.
        memory_budget: bytes that speed may cost.

    Attributes:
        stack: the tiled route.

    Deviation: the biases of the stacked convolutions are not trained. Batch norm removes them, so that their
    gradient is zero but for rounding, which Adam blows up into a random walk of about the learning rate a step. What
    training computes is the same either way. Evaluation is not quite: running means lag some ten steps behind biases
    that walk. Against a model that trains them, fused scores differ by up to 3e-4 in float32, 1e-9 in float64.

    Source: docs/method.md, section 6.
    """

    def __init__(
        self,
        *,
        valid: Tensor,
        filled: bool,
        dim: int,
        hidden: int,
        kernel: int,
        layers: int,
        contrastive: bool = True,
        route: Route = "auto",
        memory_budget: int | None = None,
    ) -> None:
        super().__init__()
        padding = (kernel - 1) * layers // 2
        self.convs = nn.ModuleList(
            nn.Conv2d(hidden if index else dim, hidden, kernel, padding=0 if index else padding)
            for index in range(layers)
        )
        for conv in self.convs:
            conv.bias.requires_grad_(False)
        self.norms = nn.ModuleList(MapNorm(hidden) for _ in range(layers))
        self.iou = nn.Conv2d(hidden, dim, kernel_size=1)
        self.contrastive = nn.Conv2d(hidden, dim, kernel_size=1) if contrastive else None
        weights = window_weights(valid, kernel, layers)
        for index, weight in enumerate(weights):
            self.register_buffer(f"weight_{index}", weight, persistent=False)
        self.register_buffer("valid", valid, persistent=False)
        self.valid: Tensor
        self.register_buffer("cells", valid.flatten().nonzero()[:, 0], persistent=False)
        self.cells: Tensor
        self.stack = TiledStack(
            [StackLayer(*layer, weight) for layer, weight in zip(self._layers, weights, strict=True)],
            valid=valid,
            filled=filled,
            route=route,
            memory_budget=memory_budget,
        )

    def forward(self, proposal_map: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed the proposals.

        Args:
            proposal_map: ``(m, d, t, t)`` features.

        Returns:
            the IoU and the contrastive embeddings of the valid cells, both ``(m, v, d)``; the latter may be ``None``.
        """
        plan = self.stack.plan(proposal_map)
        hidden = self.convolve(proposal_map) if plan is None else self.stack(proposal_map, plan)
        contrastive = None if self.contrastive is None else _pointwise(self.contrastive, hidden)
        return _pointwise(self.iou, hidden), contrastive

    def convolve(self, x: Tensor) -> Tensor:
        """The stacked convolutions by the dense route: ``(m, d, t, t)`` to ``(m, v, hidden)``."""
        for index, (conv, norm) in enumerate(self._layers):
            x = norm(conv(x)).relu() * self.get_buffer(f"weight_{index}")
        return _at(x, self.cells)

    def train(self, mode: bool = True) -> Self:
        """As of every module; the spectra of weights that will change are given up."""
        if mode:
            self.stack.release()
        return super().train(mode)

    @property
    def _layers(self) -> list[tuple[nn.Conv2d, MapNorm]]:
        return [(cast(nn.Conv2d, c), cast(MapNorm, n)) for c, n in zip(self.convs, self.norms, strict=True)]


class CellHead(nn.Module):
    """The two embeddings of each proposal by itself, without convolutions.

    Args:
        dim: d.
        contrastive: whether there is a contrastive embedding.
        readout: leave the IoU embedding to the one layer that reads the score out of it.

    Source: none in MRNet; see docs/evidence.md.
    """

    def __init__(self, *, dim: int, contrastive: bool, readout: bool) -> None:
        super().__init__()
        self.iou = nn.Identity() if readout else nn.Linear(dim, dim)
        self.contrastive = nn.Linear(dim, dim) if contrastive else None

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """``(m, v, d)`` features of the valid cells to both embeddings, as of :meth:`ProposalHead.forward`."""
        cells = F.gelu(cells)
        return self.iou(cells), None if self.contrastive is None else self.contrastive(cells)


def window_weights(valid: Tensor, kernel: int, layers: int) -> list[Tensor]:
    """Of each layer's output ``(s, s)`` float32: 1 over the number of valid cells in the window, 0 where none is.

    Args:
        valid: ``(t, t)`` bool.
        kernel: K.
        layers: L; all padding, (K - 1)·L cells along each axis, is in the first.
    """
    ones = torch.ones(1, 1, kernel, kernel)
    support = F.pad(valid.to(ones.dtype), ((kernel - 1) * layers // 2,) * 4)[None, None]
    weights = []
    for _ in range(layers):
        count = F.conv2d(support, ones).round()
        support = (count > 0).to(ones.dtype)
        weights.append((support / count.clamp(min=1))[0, 0])
    return weights


def _at(maps: Tensor, cells: Tensor) -> Tensor:
    """``(m, c, t, t)`` maps to the ``(m, v, c)`` values of cells, which are given by their place in a flattened map."""
    return maps.flatten(2).index_select(2, cells).transpose(1, 2)


def _pointwise(conv: nn.Conv2d, hidden: Tensor) -> Tensor:
    """A 1x1 convolution of channels-last values."""
    return F.linear(hidden, conv.weight[:, :, 0, 0], conv.bias)
