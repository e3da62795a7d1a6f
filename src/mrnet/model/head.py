"""Stacked large-kernel convolutions over the proposal map, and the two embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ProposalHead(nn.Module):
    """Convolutions that let neighbouring proposals see each other.

    L stacked KxK convolutions, all padding in the first. Each is followed by batch norm, ReLU and a
    weight that divides by the number of valid cells in the window (0 where there are none); the set of
    valid cells grows with each layer.

    Args:
        valid: ``(t, t)`` bool.
        dim: d, channels in and of each embedding.
        hidden: channels between.
        kernel: K.
        layers: L; (K - 1)·L must be even.

    Deviation: the biases of the stacked convolutions are not trained. Batch norm removes them, so their
    gradient is zero but for rounding, which Adam would blow up into a random walk. No output changes.

    Source: spec section 6.
    """

    def __init__(self, *, valid: Tensor, dim: int, hidden: int, kernel: int, layers: int) -> None:
        super().__init__()
        paddings = [(kernel - 1) * layers // 2] + [0] * (layers - 1)
        widths = [dim] + [hidden] * layers
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernel, padding=paddings[i]) for i in range(layers)
        )
        for conv in self.convs:
            conv.bias.requires_grad_(False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(hidden) for _ in range(layers))
        self.iou = nn.Conv2d(hidden, dim, kernel_size=1)
        self.contrastive = nn.Conv2d(hidden, dim, kernel_size=1)

        ones = torch.ones(1, 1, kernel, kernel)
        support = valid[None, None].float()
        for index, padding in enumerate(paddings):
            count = F.conv2d(support, ones, padding=padding).round()
            support = (count > 0).float()
            self.register_buffer(f"weight_{index}", support / count.clamp(min=1), persistent=False)

    def forward(self, proposal_map: Tensor) -> tuple[Tensor, Tensor]:
        """``(m, d, t, t)`` features to the IoU and the contrastive embeddings, both ``(m, d, t, t)``."""
        x = proposal_map
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x)).relu() * self.get_buffer(f"weight_{index}")
        return self.iou(x), self.contrastive(x)
