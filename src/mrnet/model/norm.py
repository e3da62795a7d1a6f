"""Batch norm of maps that are given in full or by some of their cells, over one process or several."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class MapNorm(nn.BatchNorm2d):
    """Batch norm of maps; parameters and state are those of ``BatchNorm2d``.

    Attributes:
        total: sums a tensor over all processes that share a batch, differentiably; ``None`` where there is one.
    """

    total: Callable[[Tensor], Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """``(m, c, h, w)`` in and out."""
        if not self.training or self.total is None:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32)).movedim(1, -1)
        mean, scale = self.mean_and_scale(values, values[..., 0].numel())
        return ((values - mean) * scale + self.bias).movedim(-1, 1).to(input.dtype)

    def mean_and_scale(self, values: Tensor, count: int, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The mean and the scale of the norm, ``(values - mean) · scale + bias``.

        In training they are those of the values, and the running ones follow.

        Args:
            values: ``(..., c)`` of some cells of maps; all of their other cells hold 0.
            count: cells of all the maps together, those not given included.
            offset: ``(c,)``, constant that the maps have on top of their values; the norm removes it.

        Returns:
            both ``(c,)``.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        offset = torch.zeros_like(self.running_mean) if offset is None else offset
        if self.training:
            mean, variance = self._of_batch(values.flatten(0, -2), count, offset)
        else:
            mean, variance = self.running_mean - offset, self.running_var
        return mean, self.weight * torch.rsqrt(variance + self.eps)

    def _of_batch(self, values: Tensor, count: int, offset: Tensor) -> tuple[Tensor, Tensor]:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        total = self.total or (lambda tensor: tensor)
        number, given = total(values.new_tensor([count, len(values)]))
        mean = total(values.sum(dim=0)) / number
        squares = total((values - mean).square().sum(dim=0)) + (number - given) * mean.square()
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean + offset, momentum)
            self.running_var.lerp_(squares / (number - 1), momentum)
        return mean, squares / number
