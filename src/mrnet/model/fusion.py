"""Clips joined with the query before the transformer."""

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """Every clip with the query and their product, side by side, reduced to the joint width.

    Args:
        dim: d.
        dropout: on clips and query.

    Source: none in MRNet, where clips meet the query in the transformer's attention; see docs/evidence.md.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_clips = nn.LayerNorm(dim)
        self.norm_query = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.reduce = nn.Linear(3 * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, clips: Tensor, query: Tensor) -> Tensor:
        """``(m, t, d)`` clips and the ``(m, d)`` query of each to fused ``(m, t, d)`` clips."""
        clips = self.dropout(self.norm_clips(clips))
        query = self.dropout(self.norm_query(query))[:, None].expand_as(clips)
        joined = torch.cat([clips, query, clips * query], dim=-1)
        fused: Tensor = self.norm(nn.functional.gelu(self.reduce(joined)))
        return fused
