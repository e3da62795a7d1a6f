from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.library.store import Store
from mrnet.library.vectors import Vectors
from mrnet.provenance import Provenance


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "library")
    store.create(Provenance(backbone="x", dim=2), 4, 3)
    return store


def fill(store: Store, count: int, seed: int = 0) -> dict[int, torch.Tensor]:
    """Some vectors of each of so many keys."""
    rng = np.random.default_rng(seed)
    by_key = {}
    for key in range(1000 * seed, 1000 * seed + count):
        vectors = torch.from_numpy(rng.normal(size=(1 + key % 5, 4)).astype(np.float32)).half()
        by_key[key] = vectors.float()
    store.add_rows([(key, np.zeros((len(some), 2), np.float32), some) for key, some in by_key.items()])
    return by_key


def test_every_row_is_looked_at(store: Store) -> None:
    by_key = fill(store, 50)
    vectors = Vectors(store, "rows")
    direction = torch.tensor([0.5, -1.0, 2.0, 1e-6])
    expected = sorted(((float((some @ direction).max()), key) for key, some in by_key.items()), reverse=True)
    found, exact = vectors.best(direction, by_key.keys(), 7)
    assert exact
    assert list(found) == [key for _, key in expected[:7]]
    assert list(found.values()) == pytest.approx([score for score, _ in expected[:7]], abs=5e-3)


def test_among_some_keys(store: Store) -> None:
    by_key = fill(store, 10)
    direction = torch.ones(4)
    found, _ = Vectors(store, "rows").best(direction, [3, 4, 99], 5)
    assert sorted(found) == [3, 4]
    assert Vectors(store, "rows").best(direction, [], 5)[0] == {}
    assert len(Vectors(store, "rows").best(direction, by_key.keys(), 100)[0]) == 10


def test_what_is_added_and_removed_is_seen(store: Store) -> None:
    vectors = Vectors(store, "rows")
    direction = torch.ones(4)
    assert vectors.best(direction, [1, 1001], 5)[0] == {}
    fill(store, 3)
    assert set(vectors.best(direction, [1, 1001], 5)[0]) == {1}
    fill(store, 3, seed=1)
    assert set(vectors.best(direction, [1, 1001], 5)[0]) == {1, 1001}
    store.remove_keys("rows", [1])
    assert set(vectors.best(direction, [1, 1001], 5)[0]) == {1001}
