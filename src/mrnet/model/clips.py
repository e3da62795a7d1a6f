"""From resampled video features to clips of the joint width."""

from typing import Literal

from torch import Tensor, nn


class ClipEncoder(nn.Module):
    """Features reduced, averaged into clips, projected.

    ``"blocks"``: 1x1 convolution, ReLU, average pooling, then two blocks of LayerNorm, dropout and Linear.
    ``"linear"``: dropout, one 1x1 convolution, average pooling.

    Args:
        projection: ``"blocks"`` or ``"linear"``.
        video_dim: c, width of the features.
        hidden: channels of the convolution of ``"blocks"``.
        dim: d, width of the clips.
        pool_kernel: rows averaged into a clip.
        pool_stride: rows between clips.
        dropout: of each block, or of the features.
        input_norm: layer norm of the features first.

    Source: docs/method.md, section 4; ``"linear"``: docs/evidence.md.
    """

    def __init__(
        self,
        *,
        projection: Literal["blocks", "linear"],
        video_dim: int,
        hidden: int,
        dim: int,
        pool_kernel: int,
        pool_stride: int,
        dropout: float,
        input_norm: bool,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(video_dim) if input_norm else nn.Identity()
        self.pool = nn.AvgPool1d(pool_kernel, pool_stride)
        if projection == "linear":
            self.before: nn.Module = nn.Dropout(dropout)
            self.reduce = nn.Conv1d(video_dim, dim, kernel_size=1)
            self.after: nn.Module = nn.Identity()
            self.project: nn.Module = nn.Identity()
            return
        self.before = nn.Identity()
        self.reduce = nn.Conv1d(video_dim, hidden, kernel_size=1)
        self.after = nn.ReLU()
        self.project = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
            nn.ReLU(),
            nn.LayerNorm(dim),
            nn.Dropout(dropout),
            nn.Linear(dim, dim),
        )

    def forward(self, video: Tensor) -> Tensor:
        """``(b, p, c)`` resampled features to ``(b, t, d)`` clips."""
        reduced = self.after(self.reduce(self.before(self.norm(video)).transpose(1, 2)))
        clips: Tensor = self.project(self.pool(reduced).transpose(1, 2))
        return clips
