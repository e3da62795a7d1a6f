"""Stored rows whose principal components are known."""

import numpy as np

from mrnet.features.store.reader import Rows
from mrnet.provenance import Provenance

SOURCE = Provenance(backbone="c3d", dim=5, rows_per_s=2.0, revision="1")
_MIX = np.random.default_rng(7).standard_normal((5, 5))


def make_videos(count: int = 6, offset: float = 0.0) -> dict[str, Rows]:
    """Videos of ten rows and more, spread differently in every direction."""
    rng = np.random.default_rng(0)
    scales = np.array([5.0, 3.0, 1.0, 0.3, 0.1])
    return {
        f"v{i}": (rng.standard_normal((10 + i, 5)) * scales @ _MIX + offset + i).astype(np.float32)
        for i in range(count)
    }


def exact(rows: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, components and variances by singular values of the rows themselves."""
    rows = rows.astype(np.float64)
    mean = rows.mean(axis=0)
    _, values, directions = np.linalg.svd(rows - mean, full_matrices=False)
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    return mean, (directions * np.sign(largest)[:, None])[:dim], (values**2 / (len(rows) - 1))[:dim]
