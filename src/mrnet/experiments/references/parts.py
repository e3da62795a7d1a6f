"""What the reference networks share: their interface, their inputs, and clips that have met the query."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.config.model import ModelConfig


class Answers(NamedTuple):
    """Moments that may answer n queries.

    Attributes:
        spans: ``(n, k, 2)`` as fractions of the video, start before end; they may reach beyond it.
        logits: ``(n, k)``, higher is better.
    """

    spans: Tensor
    logits: Tensor


class Reference(nn.Module):
    """A network that answers each query of a video by itself.

    Args:
        config: widths, lengths, layers and dropout.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, video: Tensor, queries: Tensor) -> Answers:
        """Answer n queries, each of a video of its own.

        Args:
            video: ``(n, p, c)`` resampled features.
            queries: ``(n, q)``.
        """
        raise NotImplementedError

    def loss(self, answers: Answers, truth: Tensor) -> Tensor:
        """Of the answers, a scalar; ``truth``: ``(n, 2)`` as fractions of the video."""
        raise NotImplementedError


class Inputs(nn.Module):
    """Features to clips ``(n, t, d)`` and a query ``(n, d)`` in one space."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool = nn.AvgPool1d(config.pool_kernel, config.pool_stride)
        self.video = nn.Sequential(
            nn.LayerNorm(config.video_dim),
            nn.Dropout(config.clip_dropout),
            nn.Linear(config.video_dim, config.dim),
        )
        self.query = nn.Sequential(
            nn.LayerNorm(config.query_dim), nn.Dropout(config.dropout), nn.Linear(config.query_dim, config.dim)
        )

    def forward(self, video: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool(self.video(video).transpose(1, 2)).transpose(1, 2), self.query(queries)


class FusedClips(nn.Module):
    """Clips joined with the query, then a transformer over them: ``(n, t, d)``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.inputs = Inputs(config)
        self.fuse = nn.Sequential(nn.Linear(3 * config.dim, config.dim), nn.GELU(), nn.LayerNorm(config.dim))
        self.positions = nn.Parameter(0.02 * torch.randn(config.num_clips, config.dim))
        layer = nn.TransformerEncoderLayer(**transformer_settings(config))
        self.encoder = nn.TransformerEncoder(
            layer, config.layers, nn.LayerNorm(config.dim), enable_nested_tensor=False
        )

    def forward(self, video: Tensor, queries: Tensor) -> Tensor:
        clips, query = self.inputs(video, queries)
        query = query[:, None].expand_as(clips)
        fused: Tensor = self.encoder(self.fuse(torch.cat([clips, query, clips * query], dim=-1)) + self.positions)
        return fused


def transformer_settings(config: ModelConfig) -> dict[str, Any]:
    """Of a layer of PyTorch's own, which normalises first."""
    return {
        "d_model": config.dim,
        "nhead": config.heads,
        "dim_feedforward": config.ffn_dim,
        "dropout": config.dropout,
        "activation": F.gelu,
        "batch_first": True,
        "norm_first": True,
    }
