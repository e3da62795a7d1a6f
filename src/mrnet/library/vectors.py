"""Which videos have rows that point where a query does.

As long as that is fast, every row is looked at: the vectors are held in memory, at half precision. Beyond, LanceDB
looks at those parts of an index that lie nearest to the query. The index (IVF_FLAT) keeps vectors as they are: what it
finds has its exact score.
"""

import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrnet.library.store import Store

EXACT_ROWS = 250_000
"""Up to so many rows are all looked at."""

# Rows looked through for each key that is wanted, as those of a video are much alike.
_ROWS_A_KEY = 32
# Of an index, so many of about sqrt(rows) / 4 parts are looked at: see docs/library.md.
_PROBES = 32


@dataclass(frozen=True)
class _Held:
    """What is held in memory of a table.

    Attributes:
        version: of the table.
        keys: ``(u,)`` int64, each once.
        counts: ``(u,)`` how many rows each has.
        vectors: ``(r, e)`` float16; ``None`` where an index is asked.
        owner: ``(r,)`` number of each row's key, likewise.
    """

    version: int
    keys: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    vectors: Tensor | None = None
    owner: Tensor | None = None


class Vectors:
    """The vectors of a table, searched.

    Args:
        store: the library.
        name: of the table.
        averaged: how many of a key's best rows count.
    """

    def __init__(self, store: Store, name: str, *, averaged: int = 1) -> None:
        self._store, self._name, self._averaged = store, name, averaged
        self._held: _Held | None = None
        self._lock = threading.Lock()

    def best(self, direction: Tensor, keys: Collection[int], count: int) -> tuple[dict[int, float], bool]:
        """The keys whose rows have the largest inner products with a direction.

        Args:
            direction: ``(e,)``.
            keys: to choose among.
            count: how many; fewer where there are no more.

        Returns:
            key -> mean of its best inner products, the best first, of equal ones the least key; and whether every row
            was looked at.
        """
        held = self._hold()
        scale = direction.abs().max().clamp(min=1e-30)  # small numbers lose digits at half precision
        scaled = direction / scale
        wanted = np.isin(held.keys, np.fromiter(keys, np.int64, len(keys)))
        num_rows = int(held.counts[wanted].sum())
        exact = held.vectors is not None or num_rows <= EXACT_ROWS
        most, found = min(_ROWS_A_KEY * count, num_rows), {}
        while num_rows:
            if held.vectors is None:
                owners, scores = self._near(held, scaled, wanted, most, exact=exact)
            else:
                owners, scores = _nearest(held, scaled, wanted, most)
            found = self._grouped(owners, scores * float(scale))
            if len(found) >= min(count, int(wanted.sum())) or len(owners) < most or most == num_rows:
                break
            most = min(4 * most, num_rows)  # a few videos had them all
        ranked = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
        return dict(ranked[:count]), exact

    def _grouped(self, owners: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> dict[int, float]:
        """The mean of each key's best rows; those that are not among these rows count as the last of them.

        Args:
            owners: key of each row, the best row first.
            scores: of each row.
        """
        seen: Counter[int] = Counter()
        sums: dict[int, float] = {}
        for key, score in zip(owners.tolist(), scores.tolist(), strict=True):
            if seen[key] < self._averaged:
                seen[key] += 1
                sums[key] = sums.get(key, 0.0) + score
        last = float(scores[-1]) if len(scores) else 0.0
        return {key: (total + (self._averaged - seen[key]) * last) / self._averaged for key, total in sums.items()}

    def _near(
        self, held: _Held, direction: Tensor, wanted: npt.NDArray[np.bool_], most: int, *, exact: bool
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """As :func:`_nearest`, by LanceDB."""
        with self._store.errors():
            table = self._store.table(self._name)
            query = table.search(direction.numpy(), vector_column_name="vector").distance_type("dot")
            query = query.select(["key", "_distance"]).limit(most)
            query = query.bypass_vector_index() if exact else query.nprobes(_PROBES)
            if not wanted.all():
                keys = ", ".join(map(str, held.keys[wanted].tolist()))
                query = query.where(f"key IN ({keys})", prefilter=True)
            found = query.to_arrow()
        return found["key"].to_numpy(), 1 - found["_distance"].to_numpy()

    def _hold(self) -> _Held:
        with self._lock:
            version = self._store.version(self._name)
            if self._held is None or self._held.version != version:
                self._held = None  # before another takes as much
                self._held = self._read(version)
            return self._held

    def _read(self, version: int) -> _Held:
        if self._store.has_index(self._name):
            counts = self._store.counts(self._name)
            keys = np.array(sorted(counts), np.int64)
            return _Held(version, keys, np.array([counts[key] for key in keys.tolist()], np.int64))
        with self._store.errors():
            table = self._store.table(self._name)
            count, width = table.count_rows(), table.schema.field("vector").type.list_size
            vectors, owners, at = torch.empty(count, width, dtype=torch.float16), np.empty(count, np.int64), 0
            for batch in table.search().select(["key", "vector"]).to_batches():
                size = min(len(batch), count - at)  # more may have come since
                flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
                vectors.numpy()[at : at + size] = flat.reshape(-1, width)[:size]
                owners[at : at + size] = batch["key"].to_numpy()[:size]
                at += size
        found, owner, counted = np.unique(owners[:at], return_inverse=True, return_counts=True)
        return _Held(version, found, counted, vectors[:at], torch.from_numpy(owner))


def _nearest(
    held: _Held, direction: Tensor, wanted: npt.NDArray[np.bool_], most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Key and inner product of rows of the keys wanted, the best first."""
    assert held.vectors is not None
    assert held.owner is not None
    scores = (held.vectors @ direction.half()).float()
    if not wanted.all():
        scores[~torch.from_numpy(wanted)[held.owner]] = -torch.inf
    values, rows = scores.topk(most)
    return held.keys[held.owner[rows].numpy()], values.numpy()
