"""2D-TAN in small: a map of pooled proposals, each multiplied by the query, and convolutions over it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.config.model import ModelConfig
from mrnet.experiments.references.parts import Answers, Inputs, Reference
from mrnet.model.proposals import ProposalMap
from mrnet.temporal import hull_iou

_MIN_IOU, _MAX_IOU = 0.5, 1.0


class Tan(Reference):
    """One answer a cell of the proposal map, all cells of it.

    Source: Zhang et al., 2020, "Learning 2D Temporal Adjacent Networks for Moment Localization with Natural Language".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        num_clips, hidden = config.num_clips, config.head_hidden
        self.inputs = Inputs(config)
        self.pooled = pooled_map(num_clips, config.dim)
        self.proposals = nn.Conv2d(config.dim, hidden, 1)
        self.query = nn.Linear(config.dim, hidden)
        self.stack = nn.ModuleList(
            nn.Conv2d(hidden, hidden, config.head_kernel, padding="same") for _ in range(config.head_layers)
        )
        self.score = nn.Conv2d(hidden, 1, 1)
        valid = torch.ones(num_clips, num_clips, dtype=torch.bool).triu()
        starts, ends = valid.nonzero().unbind(dim=1)
        self.register_buffer("valid", valid, persistent=False)
        self.register_buffer("spans", torch.stack([starts, ends + 1], dim=1) / num_clips, persistent=False)
        self.valid: Tensor
        self.spans: Tensor

    def forward(self, video: Tensor, queries: Tensor) -> Answers:
        clips, query = self.inputs(video, queries)
        proposals = self.proposals(self.pooled(clips))
        x = F.normalize(proposals * self.query(query)[..., None, None], dim=1) * self.valid
        for convolution in self.stack:
            x = F.relu(convolution(x)) * self.valid
        logits = self.score(x)[:, 0][:, self.valid]
        return Answers(self.spans.expand(len(logits), -1, 2), logits)

    def loss(self, answers: Answers, truth: Tensor) -> Tensor:
        return map_loss(answers, truth)


def pooled_map(num_clips: int, dim: int) -> ProposalMap:
    """``(n, t, d)`` to ``(n, d, t, t)``: in cell (i, j) the largest of clips i to j, and 0 below the diagonal."""
    return ProposalMap(
        num_clips=num_clips,
        pooling_counts=[num_clips - 1],
        dim=dim,
        features="pool",
        boundary="none",
        boundary_replaces_conv=False,
    )


def map_loss(answers: Answers, truth: Tensor) -> Tensor:
    """Cross-entropy of every cell against its IoU, scaled from 0.5 to 1 onto 0 to 1.

    Args:
        answers: of all cells.
        truth: ``(n, 2)`` as fractions of the video.
    """
    iou = hull_iou(answers.spans, truth[:, None])
    target = ((iou - _MIN_IOU) / (_MAX_IOU - _MIN_IOU)).clamp(0, 1)
    return F.binary_cross_entropy_with_logits(answers.logits, target)
