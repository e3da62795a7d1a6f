"""Video moment retrieval with the Maskable Retentive Network.

The product is :class:`mrnet.predictor.Predictor` and, for many videos, :class:`mrnet.library.library.Library`. The rest
follows the data: ``media``, ``features`` and ``data`` make batches, ``model`` and ``losses`` learn, ``retrieval``
answers, ``training`` and ``evaluation`` join them.
"""

import os
from typing import Any

from mrnet.version import __version__

__all__ = ["Library", "Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    """``mrnet.Predictor`` and ``mrnet.Library``, imported when asked for: they bring PyTorch."""
    if name == "Predictor":
        from mrnet.predictor import Predictor

        return Predictor
    if name == "Library":
        from mrnet.library.library import Library

        return Library
    raise AttributeError(f"module 'mrnet' has no attribute {name!r}")


# Threads that wait for another sleep. By default they spin, and beside a program that needs their core, most of the
# time of both goes into that. OpenMP reads this once, when torch is imported: where that was before, nothing changes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
