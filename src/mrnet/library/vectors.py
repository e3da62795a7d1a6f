"""Which videos have a row that points where a query does.

As long as that is fast, every row is looked at: the vectors are held in memory, at half precision. Beyond, an index of
LanceDB looks at the rows near the query alone.
"""

import threading
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrnet.library.store import Store

EXACT_ROWS = 250_000
"""Up to so many rows are all looked at."""


@dataclass(frozen=True)
class _Held:
    """All vectors of a table.

    Attributes:
        version: of the table.
        vectors: ``(r, e)`` float16.
        keys: ``(u,)`` int64, each once.
        owner: ``(r,)`` number of each row's key.
    """

    version: int
    vectors: Tensor
    keys: np.ndarray
    owner: Tensor


class Vectors:
    """The vectors of a table, searched.

    Args:
        store: the library.
        name: of the table.
        exact_rows: up to so many rows are all looked at.
    """

    def __init__(self, store: Store, name: str, exact_rows: int = EXACT_ROWS) -> None:
        self._store, self._name, self._exact_rows = store, name, exact_rows
        self._held: _Held | None = None
        self._lock = threading.Lock()

    def best(self, direction: Tensor, keys: Collection[int], count: int) -> tuple[dict[int, float], bool]:
        """The keys whose best row has the largest inner product with a direction.

        Args:
            direction: ``(e,)``.
            keys: to choose among.
            count: how many; fewer where there are no more.

        Returns:
            key -> inner product, the best first; and whether every row was looked at.
        """
        held = self._hold()
        scale = direction.abs().max().clamp(min=1e-30)  # small numbers lose digits at half precision
        scores = (held.vectors @ (direction / scale).half()).float() * scale
        best = torch.full((len(held.keys),), -torch.inf).scatter_reduce(0, held.owner, scores, "amax")
        wanted = np.isin(held.keys, np.fromiter(keys, np.int64, len(keys)))
        best[torch.from_numpy(~wanted)] = -torch.inf
        values, order = best.topk(min(count, int(wanted.sum())))
        return dict(zip(held.keys[order.numpy()].tolist(), values.tolist(), strict=True)), True

    def _hold(self) -> _Held:
        with self._lock:
            version = self._store.version(self._name)
            if self._held is None or self._held.version != version:
                self._held = None  # before another takes as much
                self._held = self._read(version)
            return self._held

    def _read(self, version: int) -> _Held:
        with self._store.errors():
            table = self._store.table(self._name)
            count, width = table.count_rows(), table.schema.field("vector").type.list_size
            vectors, keys, at = torch.empty(count, width, dtype=torch.float16), np.empty(count, np.int64), 0
            for batch in table.search().select(["key", "vector"]).to_batches():
                size = min(len(batch), count - at)  # more may have come since
                flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
                vectors.numpy()[at : at + size] = flat.reshape(-1, width)[:size]
                keys[at : at + size] = batch["key"].to_numpy()[:size]
                at += size
        found, owner = np.unique(keys[:at], return_inverse=True)
        return _Held(version, vectors[:at], found, torch.from_numpy(owner))
