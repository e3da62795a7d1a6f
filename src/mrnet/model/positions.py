"""Positions of text (sine) and of clips (xPos)."""

import math

import torch
from torch import Tensor, nn


def sine_positions(query_mask: Tensor, dim: int) -> Tensor:
    """Sine encoding of positions 1..S, normalised by the number of queries and scaled by 2π.

    Args:
        query_mask: ``(m, s)`` bool, true for real queries (they come first).
        dim: d, even.

    Returns:
        ``(m, s, d)`` float32, sines and cosines interleaved.

    Source: docs/method.md, section 5.
    """
    position = query_mask.cumsum(dim=1, dtype=torch.float32)
    position = position / (position[:, -1:] + 1e-6) * (2 * math.pi)
    pair = torch.arange(dim // 2, dtype=torch.float32, device=query_mask.device)
    angle = position[..., None] / 10000 ** (2 * pair / dim)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class XPos(nn.Module):
    """Extrapolatable rotary positions over the full width: rotates pairs and scales them with position.

    Args:
        length: T, number of positions.
        dim: d, even.

    Source: docs/method.md, section 5.
    """

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        pair = torch.arange(dim // 2, dtype=torch.get_default_dtype())
        position = torch.arange(length, dtype=torch.get_default_dtype())[:, None]
        zeta = (2 * pair + 0.4 * dim) / (1.4 * dim)
        angle = position / 10000 ** (pair / (dim // 2))
        self.register_buffer("scale", zeta ** (position / 512), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.scale: Tensor
        self.sin: Tensor
        self.cos: Tensor

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """``(m, t, d)`` clips to the inputs of Q (scaled) and of K (scaled by the inverse), same shape."""
        even, odd = clips[..., ::2], clips[..., 1::2]
        rotated_even = even * self.cos - odd * self.sin
        rotated_odd = odd * self.cos + even * self.sin

        def interleave(scale: Tensor) -> Tensor:
            return torch.stack([rotated_even * scale, rotated_odd * scale], dim=-1).flatten(-2)

        return interleave(self.scale), interleave(1 / self.scale)
