"""Moment-DETR in small: learned slots, each of which asks the clips for a moment, and one of which is matched."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.config.model import ModelConfig
from mrnet.experiments.references.parts import Answers, FusedClips, Reference, transformer_settings

_SLOTS = 10
_DISTANCE, _GIOU, _CLASS = 10.0, 1.0, 4.0
_BACKGROUND = 0.1  # weight of slots that are not matched, of which there are many


class Detr(Reference):
    """Ten answers, whatever the length of the video.

    Source: Lei et al., 2021, "Detecting Moments and Highlights in Videos via Natural Language Queries" (its weights of
    losses too). Deviation: clips meet the query before the encoder, as in the other references.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.clips = FusedClips(config)
        self.slots = nn.Parameter(torch.randn(_SLOTS, config.dim))
        layer = nn.TransformerDecoderLayer(**transformer_settings(config))
        self.decoder = nn.TransformerDecoder(layer, config.layers, nn.LayerNorm(config.dim))
        self.span = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.Linear(config.dim, 2))
        self.foreground = nn.Linear(config.dim, 1)

    def forward(self, video: Tensor, queries: Tensor) -> Answers:
        clips = self.clips(video, queries)
        slots = self.decoder(self.slots.expand(len(clips), -1, -1), clips)
        middle, width = self.span(slots).sigmoid().unbind(dim=-1)
        spans = torch.stack([middle - width / 2, middle + width / 2], dim=-1)
        return Answers(spans, self.foreground(slots)[..., 0])

    def loss(self, answers: Answers, truth: Tensor) -> Tensor:
        return matching_loss(answers, truth)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of spans ``(..., 2)``, less the part of their hull that neither covers; in (-1, 1].

    Source: Rezatofighi et al., 2019, in one dimension.
    """
    overlap = torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])
    hull = torch.maximum(a[..., 1], b[..., 1]) - torch.minimum(a[..., 0], b[..., 0])
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - overlap.clamp(min=0)
    return overlap.clamp(min=0) / union - (hull - union) / hull


def matching_loss(answers: Answers, truth: Tensor) -> Tensor:
    """Match the cheapest slot with the moment, which as there is one is the Hungarian matching, and train it.

    Args:
        answers: of the slots.
        truth: ``(n, 2)`` as fractions of the video.
    """
    spans, moment = (_middle_and_width(span) for span in (answers.spans, truth[:, None]))
    distance = (spans - moment).abs().sum(dim=-1)
    apart = 1 - giou(answers.spans, truth[:, None])
    cost = _DISTANCE * distance + _GIOU * apart - _CLASS * answers.logits.sigmoid()
    matched = F.one_hot(cost.argmin(dim=1), answers.logits.shape[1]).to(cost.dtype)
    weight = matched + _BACKGROUND * (1 - matched)
    foreground = F.binary_cross_entropy_with_logits(answers.logits, matched, weight)
    reached = ((_DISTANCE * distance + _GIOU * apart) * matched).sum(dim=1).mean()
    return reached + _CLASS * foreground


def _middle_and_width(spans: Tensor) -> Tensor:
    return torch.stack([spans.mean(dim=-1), spans[..., 1] - spans[..., 0]], dim=-1)
