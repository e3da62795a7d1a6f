"""What each clip says of the moment by itself: an auxiliary task, which answers do not need."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class ClipOutputs(NamedTuple):
    """Of m maps with t clips each.

    Attributes:
        inside: ``(m, t)`` logit that the clip's middle lies in the moment.
        ends: ``(m, t, 2)`` logits that the moment starts, and that it ends, near the clip.
        reach: ``(m, t, 2)`` how far the moment reaches before and after the clip's middle, as fractions of the video.
    """

    inside: Tensor
    ends: Tensor
    reach: Tensor


class ClipHead(nn.Module):
    """Three logits and two distances of every clip.

    Args:
        dim: d.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.logits = nn.Linear(dim, 3)
        self.reach = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 2))

    def forward(self, clips: Tensor) -> ClipOutputs:
        """Of ``(m, t, d)`` clips."""
        logits = self.logits(clips)
        return ClipOutputs(logits[..., 0], logits[..., 1:], F.softplus(self.reach(clips)))
