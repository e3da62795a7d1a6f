"""From resampled video features to clips of the joint width."""

from torch import Tensor, nn


class ClipEncoder(nn.Module):
    """1x1 convolution, average pooling, then two blocks of LayerNorm, dropout and Linear.

    Args:
        video_dim: c, width of the features.
        hidden: channels of the convolution.
        dim: d, width of the clips.
        pool_kernel: rows averaged into a clip.
        pool_stride: rows between clips.
        dropout: in each block.

    Source: docs/method.md, section 4.
    """

    def __init__(
        self, *, video_dim: int, hidden: int, dim: int, pool_kernel: int, pool_stride: int, dropout: float
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv1d(video_dim, hidden, kernel_size=1)
        self.pool = nn.AvgPool1d(pool_kernel, pool_stride)
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
        pooled = self.pool(self.reduce(video.transpose(1, 2)).relu())
        clips: Tensor = self.project(pooled.transpose(1, 2))
        return clips
