"""Temporal geometry: overlap of moments, the proposal map, rows of features to clips.

Everything here is a pure function of tensors. Axis letters are those of :mod:`mrnet.types`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrnet.errors import FeatureShapeError
from mrnet.grid import map_diagonals
from mrnet.precision import at_least_float32


def hull_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of moments as the map, the decoding and the metrics measure it.

    The denominator is the hull ``max(end) - min(start)``, which equals the union wherever the two
    moments touch.

    Args:
        a: ``(..., 2)`` start and end, any one unit.
        b: ``(..., 2)`` in the same unit; the leading axes broadcast.

    Returns:
        ``(...)`` in [0, 1].

    Source: docs/method.md, section 3.
    """
    intersection = torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])
    hull = torch.maximum(a[..., 1], b[..., 1]) - torch.minimum(a[..., 0], b[..., 0])
    return intersection.clamp(min=0) / hull


def union_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap with the true union (lengths minus intersection), 0 for moments that do not touch.

    Args and Returns: as :func:`hull_iou`.

    Source: docs/method.md, section 8, overlap of two sentences' moments.
    """
    intersection = torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])
    intersection = intersection.clamp(min=0)
    return intersection / ((a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - intersection)


def cell_moments(cells: Tensor, duration_s: Tensor | float, num_clips: int) -> Tensor:
    """Moments of cells of the proposal map.

    Args:
        cells: ``(..., 2)`` integer start clip and (inclusive) end clip.
        duration_s: length of the video, a number or ``(...)``.
        num_clips: T, clips a video is cut into.

    Returns:
        ``(..., 2)`` float32 seconds: cell (i, j) is ``[i·D/T, (j+1)·D/T]``.
    """
    edges = torch.stack([cells[..., 0], cells[..., 1] + 1], dim=-1)
    duration = torch.as_tensor(duration_s, dtype=torch.get_default_dtype(), device=cells.device)
    # Multiply before dividing: the released order of operations, so that ties at a threshold agree.
    return edges * duration[..., None] / num_clips


def clip_middles(num_clips: int, device: torch.device) -> Tensor:
    """``(t,)`` the middle of every clip, as a fraction of the video."""
    return (torch.arange(num_clips, device=device) + 0.5) / num_clips


def iou_map(moments: Tensor, duration_s: Tensor, num_clips: int) -> Tensor:
    """IoU of every cell of the proposal map with ground-truth moments.

    Args:
        moments: ``(n, w, 2)`` seconds; a query with fewer than w moments repeats one of them.
        duration_s: ``(n,)`` length of each query's video.
        num_clips: T.

    Returns:
        ``(n, t, t)`` float32, the best of the w moments in each cell. Cells below the diagonal are 0.

    Source: docs/method.md, section 3.
    """
    clips = torch.arange(num_clips, device=moments.device)
    cells = torch.stack(torch.meshgrid(clips, clips, indexing="ij"), dim=-1)  # (t, t, 2)
    candidates = cell_moments(cells[None], duration_s[:, None, None], num_clips)  # (n, t, t, 2)
    overlap = hull_iou(candidates[:, None], at_least_float32(moments)[:, :, None, None])
    return overlap.amax(dim=1)


def valid_cells(num_clips: int, pooling_counts: list[int]) -> Tensor:
    """Cells of the proposal map that hold a proposal.

    Returns:
        ``(t, t)`` bool, row = start clip, column = end clip.

    Source: docs/method.md, section 3.
    """
    valid = torch.eye(num_clips, dtype=torch.bool)
    for offset, stride in map_diagonals(num_clips, pooling_counts):
        starts = torch.arange(0, num_clips - offset, stride)
        valid[starts, starts + offset] = True
    return valid


def resample(rows: Tensor, num_rows: int) -> Tensor:
    """L2-normalise feature rows and average them into a fixed number of rows.

    Cut points are ``round(i·r / num_rows)`` (half to even) clamped to r - 1; each output row is the mean
    of its input rows, or the single row at its cut point where the cell is empty.

    Args:
        rows: ``(r, c)``, r >= 1.
        num_rows: p, rows wanted.

    Returns:
        ``(p, c)`` float32.

    Source: docs/method.md, section 2.
    """
    return average_rows(F.normalize(at_least_float32(rows), dim=1), num_rows)


def average_rows(rows: Tensor, num_rows: int) -> Tensor:
    """The averaging half of :func:`resample`, without the normalisation."""
    n = rows.shape[0]
    cuts = (torch.arange(num_rows + 1, dtype=torch.float32) / num_rows * n).round().long().clamp(max=n - 1)
    start = cuts[:-1]
    length = (cuts[1:] - start).clamp(min=1)  # an empty cell takes the row at its cut point
    cell_of_row = torch.repeat_interleave(torch.arange(num_rows), length)
    first = torch.repeat_interleave(start - (length.cumsum(0) - length), length)
    gathered = rows[torch.arange(cell_of_row.numel()) + first]
    sums = rows.new_zeros(num_rows, rows.shape[1]).index_add_(0, cell_of_row, gathered)
    return sums / length[:, None]


def check_width(rows: Tensor, width: int, where: str, key: str) -> None:
    """Refuse features of another width than the model's.

    Args:
        rows: ``(..., c)``.
        width: of the model.
        where: what they are or where they lie, for the message.
        key: field of the configuration that holds the width.

    Raises:
        FeatureShapeError: naming the source and the field to change.
    """
    if rows.shape[-1] != width:
        raise FeatureShapeError(
            f"{where} has features of width {rows.shape[-1]}, but {key} is {width}: use the features the model "
            f"was made for, or train with --set {key}={rows.shape[-1]}"
        )
