"""A per-clip regressor: every clip says whether it is inside the moment, and how far the moment reaches from there."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.config.model import ModelConfig
from mrnet.experiments.references.parts import Answers, FusedClips, Reference
from mrnet.temporal import clip_middles, hull_iou


class ClipRegressor(Reference):
    """One answer a clip, the span that it reaches, scored by whether it is inside the moment.

    Source: after VSLNet (Zhang et al., 2020) and 2D proposals done away with, as in DRN (Zeng et al., 2020) or FCOS.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.clips = FusedClips(config)
        self.foreground = nn.Linear(config.dim, 1)
        self.reach = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.Linear(config.dim, 2))

    def forward(self, video: Tensor, queries: Tensor) -> Answers:
        clips = self.clips(video, queries)
        before, after = F.softplus(self.reach(clips)).unbind(dim=-1)
        middle = clip_middles(self.config.num_clips, clips.device)
        spans = torch.stack([middle - before, middle + after], dim=-1)
        return Answers(spans, self.foreground(clips)[..., 0])

    def loss(self, answers: Answers, truth: Tensor) -> Tensor:
        return clip_loss(answers, truth)


def clip_loss(answers: Answers, truth: Tensor) -> Tensor:
    """Cross-entropy of being inside, and of the clips that are, 1 - IoU of their span plus the distance of its ends.

    A moment between the middles of two clips has the one in whose stretch its own middle lies.

    Args:
        answers: of t clips.
        truth: ``(n, 2)`` as fractions of the video.
    """
    num_clips = answers.logits.shape[1]
    middle = clip_middles(num_clips, truth.device)
    inside = (middle >= truth[:, :1]) & (middle <= truth[:, 1:])
    central = (truth.mean(dim=1) * num_clips).long().clamp(max=num_clips - 1)
    inside |= ~inside.any(dim=1, keepdim=True) & (torch.arange(num_clips, device=truth.device) == central[:, None])
    cost = 1 - hull_iou(answers.spans, truth[:, None]) + (answers.spans - truth[:, None]).abs().sum(dim=-1)
    foreground = F.binary_cross_entropy_with_logits(answers.logits, inside.to(answers.logits.dtype))
    return foreground + cost[inside].mean()
