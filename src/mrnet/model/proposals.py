"""The map of all proposals: features of every valid (start clip, end clip)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.grid import map_diagonals
from mrnet.precision import at_least_float32


class ProposalMap(nn.Module):
    """Features of proposals, diagonal by diagonal.

    The main diagonal holds the clips. Each further diagonal is made from the one before it: by a max
    pool of width 2, or of width 3 and stride 2 where the stride doubles; ``features="conv"`` learns a
    convolution of that width and stride instead. ``features="mean"`` averages the clips of each proposal.

    Args:
        num_clips: T.
        pooling_counts: diagonals at strides 1, 2, 4, ...
        dim: d.
        features: ``"pool"``, ``"conv"`` or ``"mean"``.
        boundary: ``"none"``; ``"add"`` adds the clips at both ends; ``"concat"`` puts start, proposal and
            end side by side and reduces them with a 1x1 convolution.
        boundary_replaces_conv: released quirk of conv with add: only the two ends are kept.

    Source: docs/method.md, section 6.
    """

    def __init__(
        self,
        *,
        num_clips: int,
        pooling_counts: list[int],
        dim: int,
        features: Literal["pool", "conv", "mean"],
        boundary: Literal["none", "add", "concat"],
        boundary_replaces_conv: bool,
    ) -> None:
        super().__init__()
        self.diagonals = map_diagonals(num_clips, pooling_counts)
        self.boundary = boundary
        self.averaged = features == "mean"
        strides = [stride for _, stride in self.diagonals]
        # A step is (kernel, stride): it halves the rate where the diagonals' stride doubles.
        self.steps = [
            (2, 1) if stride == before else (3, 2) for before, stride in zip([1, *strides], strides, strict=False)
        ]
        self.drop_inner = boundary_replaces_conv
        self.convs = (
            nn.ModuleList(nn.Conv1d(dim, dim, kernel, stride) for kernel, stride in self.steps)
            if features == "conv" and not self.drop_inner
            else None
        )
        self.fuse = nn.Conv2d(3 * dim, dim, kernel_size=1) if boundary == "concat" else None

        clips = torch.arange(num_clips)
        starts = [clips] + [clips[: num_clips - offset : stride] for offset, stride in self.diagonals]
        ends = [clips] + [start + offset for start, (offset, _) in zip(starts[1:], self.diagonals, strict=True)]
        self.register_buffer("starts", torch.cat(starts), persistent=False)
        self.register_buffer("ends", torch.cat(ends), persistent=False)
        self.register_buffer(
            "row_major", (torch.cat(starts) * num_clips + torch.cat(ends)).argsort(), persistent=False
        )
        self.starts: Tensor
        self.ends: Tensor
        self.row_major: Tensor

    def forward(self, clips: Tensor) -> Tensor:
        """``(m, t, d)`` clips to the ``(m, d, t, t)`` map; invalid cells are 0 before any fusing."""
        x = clips.transpose(1, 2)  # (m, d, t)
        num_clips = x.shape[-1]
        if self.fuse is not None and self.averaged:
            return self._map(self._fused_means(clips, self.fuse).transpose(1, 2), num_clips)
        # (m, d, valid cells, diagonal by diagonal)
        inner = self._means(clips).transpose(1, 2) if self.averaged else torch.cat(self._levels(x), dim=-1)
        if self.boundary == "concat":
            features = torch.cat([x[..., self.starts], inner, x[..., self.ends]], dim=1)
        elif self.boundary == "add":
            ends = x[..., self.starts] + x[..., self.ends]
            ends[..., :num_clips] = 0  # the main diagonal stays the clip itself
            features = inner + ends
        else:
            features = inner
        proposal_map = self._map(features, num_clips)
        if self.fuse is not None:
            proposal_map = self.fuse(proposal_map)
        return proposal_map

    def cells(self, clips: Tensor) -> Tensor:
        """``(m, t, d)`` clips to the ``(m, v, d)`` valid cells of :meth:`forward`'s map, row by row.

        Where proposals are averaged and their ends concatenated, the map itself is never made.
        """
        if self.fuse is not None and self.averaged:
            return self._fused_means(clips, self.fuse).index_select(1, self.row_major)
        flat = self(clips).flatten(2)
        cells: Tensor = flat[..., (self.starts * clips.shape[1] + self.ends)[self.row_major]].transpose(1, 2)
        return cells

    def _map(self, features: Tensor, num_clips: int) -> Tensor:
        flat = features.new_zeros(*features.shape[:2], num_clips * num_clips)
        flat = flat.index_copy(-1, self.starts * num_clips + self.ends, features)
        return flat.view(*flat.shape[:2], num_clips, num_clips)

    def _fused_means(self, clips: Tensor, fuse: nn.Conv2d) -> Tensor:
        """Start, mean and end fused: by three products a clip, as the mean of products is the product of the mean."""
        first, inner, last = (F.linear(clips, weight) for weight in fuse.weight[..., 0, 0].chunk(3, dim=1))
        ends = first.index_select(1, self.starts) + last.index_select(1, self.ends)
        assert fuse.bias is not None
        return ends + self._means(inner) + fuse.bias

    def _means(self, clips: Tensor) -> Tensor:
        """``(m, t, d)`` to ``(m, v, d)``"""
        sums = F.pad(at_least_float32(clips).cumsum(dim=1), (0, 0, 1, 0))
        totals = sums.index_select(1, self.ends + 1) - sums.index_select(1, self.starts)
        means: Tensor = totals / (self.ends + 1 - self.starts)[:, None]
        return means.to(clips.dtype)

    def _levels(self, x: Tensor) -> list[Tensor]:
        levels = [x]
        for index, (kernel, stride) in enumerate(self.steps):
            if self.drop_inner:
                offset, every = self.diagonals[index]
                levels.append(torch.zeros_like(levels[0][..., : levels[0].shape[-1] - offset : every]))
            elif self.convs is not None:
                levels.append(self.convs[index](levels[-1]))
            else:
                levels.append(F.max_pool1d(levels[-1], kernel, stride))
        return levels
