"""Maskable retention: attention whose clip-to-clip logits are multiplied by a decay and a learned mask."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrnet.model.positions import XPos, sine_positions


def decay_mask(length: int, gamma: float, *, bidirectional: bool, doubled_diagonal: bool) -> Tensor:
    """``(t, t)`` decay with distance, γ^|i-j|.

    Args:
        length: t.
        gamma: γ.
        bidirectional: else 0 above the diagonal.
        doubled_diagonal: released quirk: the bidirectional form is the causal matrix plus its transpose, so that its
            diagonal is 2, not 1.

    Source: docs/method.md, section 5.
    """
    position = torch.arange(length, dtype=torch.get_default_dtype())
    causal = (gamma ** (position[:, None] - position).clamp(min=0)).tril()
    if not bidirectional:
        return causal
    return causal + (causal.T if doubled_diagonal else causal.T.triu(diagonal=1))


class _ModalityProjections(nn.Module):
    """Form A: bias-free matrices, one set for clips and one for text."""

    def __init__(self, dim: int, *, text_attends: bool) -> None:
        super().__init__()

        def matrix() -> nn.Linear:
            linear = nn.Linear(dim, dim, bias=False)
            nn.init.normal_(linear.weight, std=1 / dim)
            return linear

        self.video = nn.ModuleDict({name: matrix() for name in ("q", "k", "v")})
        self.text = nn.ModuleDict({name: matrix() for name in (("q", "k", "v") if text_attends else ("v",))})

    def project(self, name: str, text: Tensor | None, video: Tensor) -> Tensor:
        projected: Tensor = self.video[name](video)
        return projected if text is None else torch.cat([self.text[name](text), projected], dim=1)

    def pass_text(self, text: Tensor) -> Tensor:
        passed: Tensor = self.text["v"](text)
        return passed


class _SharedProjections(nn.Module):
    """Form B: one Linear each for Q, K and V over the joined sequence."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.shared = nn.ModuleDict({name: nn.Linear(dim, dim) for name in ("q", "k", "v")})

    def project(self, name: str, text: Tensor | None, video: Tensor) -> Tensor:
        joined = video if text is None else torch.cat([text, video], dim=1)
        projected: Tensor = self.shared[name](joined)
        return projected

    def pass_text(self, text: Tensor) -> Tensor:
        return text


class _NoProjections(nn.Module):
    """Plain attention of form A: Q, K and V are the inputs themselves."""

    def project(self, name: str, text: Tensor | None, video: Tensor) -> Tensor:  # noqa: ARG002
        return video if text is None else torch.cat([text, video], dim=1)


class MaskableRetention(nn.Module):
    """One maskable retention over the sequence [text ; clips].

    Args:
        num_clips: T, side of the masks.
        dim: d.
        heads: attention heads, a divisor of d.
        projections: ``"modality"`` (form A) or ``"shared"`` (form B).
        tied_initialisation: form B's matrices and biases of Q, K, V and output start as copies of one.
        attention: ``"all"``, ``"video"`` or ``"plain"``.
        mask: ``"none"``, ``"decay"``, ``"sparse"`` or ``"both"``.
        mask_on: ``"logits"``, or ``"weights"`` before they are normalised.
        gamma: decay per clip of distance.
        bidirectional: decay both ways in time.
        doubled_diagonal: released quirk, see :func:`decay_mask`.
        text_positions: whether text attends by its number in the sequence too.
        softmax: false gives linear retention.
        zero_linear_retention: released quirk, see :class:`mrnet.config.model.ModelConfig`.
        dropout: on attention weights.

    Source: docs/method.md, section 5 and, for the quirk, 11.2.
    """

    def __init__(
        self,
        *,
        num_clips: int,
        dim: int,
        heads: int,
        projections: Literal["modality", "shared"],
        tied_initialisation: bool,
        attention: Literal["all", "video", "plain"],
        mask: Literal["none", "decay", "sparse", "both"],
        mask_on: Literal["logits", "weights"],
        gamma: float,
        bidirectional: bool,
        doubled_diagonal: bool,
        text_positions: bool,
        softmax: bool,
        zero_linear_retention: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attention = attention
        self.mask_on = mask_on
        self.text_positions = text_positions
        self.softmax = softmax
        self.zero_linear_retention = zero_linear_retention
        self.sparse_logits = (
            nn.Parameter(torch.randn(num_clips, num_clips)) if mask in ("sparse", "both") else None
        )
        decay = (
            decay_mask(num_clips, gamma, bidirectional=bidirectional, doubled_diagonal=doubled_diagonal)
            if mask in ("decay", "both")
            else None
        )
        self.register_buffer("decay", decay, persistent=False)
        self.decay: Tensor | None
        self.projections: _ModalityProjections | _SharedProjections | _NoProjections
        if projections == "shared":
            self.projections = _SharedProjections(dim)
        elif attention == "plain":
            self.projections = _NoProjections()
        else:
            self.projections = _ModalityProjections(dim, text_attends=attention == "all")
        self.positions = XPos(num_clips, dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, dim)
        if tied_initialisation:
            assert isinstance(self.projections, _SharedProjections)
            for linear in self.projections.shared.values():
                linear.load_state_dict(self.output.state_dict())

    def sparse_mask(self) -> Tensor | None:
        """``(t, t)`` learned mask R off the diagonal, which is 0 here; ``None`` where it is not used."""
        if self.sparse_logits is None:
            return None
        off_diagonal = 1 - torch.eye(
            len(self.sparse_logits), device=self.sparse_logits.device, dtype=self.sparse_logits.dtype
        )
        return off_diagonal * self.sparse_logits.sigmoid()

    def sparsity(self) -> Tensor | None:
        """Mean of the learned mask, the term that the loss pushes down; ``None`` where it is not used."""
        mask = self.sparse_mask()
        return None if mask is None else mask.mean()

    def video_mask(self) -> Tensor | None:
        """``(t, t)`` factor on clip-to-clip logits or weights, or ``None`` for 1 everywhere."""
        sparse = self.sparse_mask()
        if sparse is None:
            return self.decay
        sparse = sparse + torch.eye(len(sparse), device=sparse.device, dtype=sparse.dtype)
        return sparse if self.decay is None else sparse * self.decay

    def forward(self, text: Tensor, clips: Tensor, query_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the sequence.

        Args:
            text: ``(m, s, d)``.
            clips: ``(m, t, d)``.
            query_mask: ``(m, s)`` bool, true for real queries.

        Returns:
            text and clips, same shapes.
        """
        q_clips, k_clips = self.positions(clips)
        if self.attention == "video":
            mixed = self._attend(
                self.projections.project("q", None, q_clips),
                self.projections.project("k", None, k_clips),
                self.projections.project("v", None, clips),
                mask=self.video_mask(),
                key_mask=None,
            )
            assert not isinstance(self.projections, _NoProjections)
            return self.projections.pass_text(text), mixed
        num_text = text.shape[1]
        placed = text
        if self.text_positions:
            placed = text + sine_positions(query_mask, text.shape[-1]).to(text.dtype)
        mask = None if self.attention == "plain" else self.video_mask()
        if mask is not None:  # unlimited attention wherever text takes part
            mask = F.pad(mask, (num_text, 0, num_text, 0), value=1.0)
        mixed = self._attend(
            self.projections.project("q", placed, q_clips),
            self.projections.project("k", placed, k_clips),
            self.projections.project("v", text, clips),
            mask=mask,
            key_mask=F.pad(query_mask, (0, clips.shape[1]), value=True),
        )
        return mixed[:, :num_text], mixed[:, num_text:]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, key_mask: Tensor | None) -> Tensor:
        # (m, s+t, d) to (m, h, s+t, d/h)
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))
        logits = (q / q.shape[-1] ** 0.5) @ k.transpose(-1, -2)
        if mask is not None:
            logits = logits * mask if self.mask_on == "logits" else logits + _log(mask)
        if key_mask is not None:
            padding = ~key_mask[:, None, None]
            logits = logits.masked_fill(padding, float("-inf") if self.softmax else 0.0)
        if self.softmax:
            weights = logits.softmax(dim=-1)
        elif self.zero_linear_retention:
            weights = logits * 0  # keeps q and k in the graph, as distributed training needs
        else:
            weights = logits
        mixed = (self.dropout(weights) @ v).transpose(1, 2).flatten(-2)
        output: Tensor = self.output(mixed)
        return output


def _log(mask: Tensor) -> Tensor:
    """Minus infinity where the mask is 0, without the infinite gradient that ``log`` has there."""
    nothing = mask == 0
    return mask.masked_fill(nothing, 1.0).log().masked_fill(nothing, float("-inf"))
