"""What encoders that are networks have in common."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mrnet.features.backbone import Rows


def weights_revision(files: Iterable[Path], recipe: str) -> str:
    """A revision that follows the content of the weights, wherever they lie, and what is done with them.

    Args:
        files: of the weights, in a fixed order.
        recipe: how the network is used; two uses of the same weights are two encoders.
    """
    digest = hashlib.sha256(recipe.encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


def encode_alike(
    inputs: Sequence[npt.NDArray[Any]], network: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> list[Rows]:
    """Rows of inputs, those of one shape together: nothing is padded, so no row depends on its batch.

    Args:
        inputs: arrays of any shapes.
        network: ``(inputs, …)`` to ``(inputs, dim)`` rows.
        device: where it is.

    Returns:
        ``(1, dim)`` float32 of each input.
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, array in enumerate(inputs):
        by_shape.setdefault(array.shape, []).append(index)
    rows: list[Rows] = [np.empty((0, 0), np.float32)] * len(inputs)
    with torch.inference_mode():
        for indices in by_shape.values():
            batch = torch.from_numpy(np.stack([inputs[index] for index in indices])).to(device)
            for index, row in zip(indices, network(batch).float().cpu().numpy(), strict=True):
                rows[index] = row[None]
    return rows
