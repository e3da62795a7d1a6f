"""The stack of maskable retention layers."""

from typing import Literal

import torch
from torch import Tensor, nn

from mrnet.config.model import ModelConfig
from mrnet.model.retention import MaskableRetention


class RetentionLayer(nn.Module):
    """Pre-norm residual block: maskable retention, or nothing where attention is off, then a feed-forward network.

    Source: docs/method.md, section 5.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.retention = None if config.attention == "off" else _retention(config, config.attention)
        self.norm1 = nn.LayerNorm(config.dim)
        self.norm2 = nn.LayerNorm(config.dim)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim), nn.GELU(), nn.Linear(config.ffn_dim, config.dim)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, text: Tensor, clips: Tensor, query_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes as :meth:`MaskableRetention.forward`."""
        mixed = self.norm1(text), self.norm1(clips)
        if self.retention is not None:
            mixed = self.retention(*mixed, query_mask)
        return self._feed(text + self.dropout(mixed[0])), self._feed(clips + self.dropout(mixed[1]))

    def _feed(self, x: Tensor) -> Tensor:
        fed: Tensor = x + self.dropout(self.ffn(self.norm2(x)))
        return fed


def _retention(config: ModelConfig, attention: Literal["all", "video", "plain"]) -> MaskableRetention:
    return MaskableRetention(
        num_clips=config.num_clips,
        dim=config.dim,
        heads=config.heads,
        projections=config.projections,
        tied_initialisation=config.tied_initialisation,
        attention=attention,
        mask=config.mask,
        mask_on=config.mask_on,
        gamma=config.gamma,
        bidirectional=config.bidirectional,
        doubled_diagonal=config.doubled_diagonal,
        text_positions=config.text_positions,
        softmax=config.softmax,
        zero_linear_retention=config.zero_linear_retention,
        dropout=config.attention_dropout,
    )


class RetentionTransformer(nn.Module):
    """Layers of maskable retention over [text ; clips], then a LayerNorm.

    Source: docs/method.md, section 5.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(RetentionLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, text: Tensor, clips: Tensor, query_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes as :meth:`MaskableRetention.forward`."""
        for layer in self.layers:
            text, clips = layer(text, clips, query_mask)
        return self.norm(text), self.norm(clips)

    def sparsity(self) -> Tensor:
        """Scalar: the layers' sparsity terms summed, 0 where no layer has a learned mask."""
        retentions = [module for module in self.modules() if isinstance(module, MaskableRetention)]
        terms = [retention.sparsity() for retention in retentions]
        used = [term for term in terms if term is not None]
        return torch.stack(used).sum() if used else self.norm.weight.new_zeros(())
