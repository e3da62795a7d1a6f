from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnet.library import vectors as module
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


def test_equal_scores_are_in_order_of_keys(store: Store) -> None:
    for key in (5, 2, 9, 4):
        store.add_rows([(key, np.zeros((1, 2), np.float32), torch.ones(1, 4).half())])
    found, _ = Vectors(store, "rows").best(torch.ones(4), [2, 4, 5, 9], 3)
    assert list(found) == [2, 4, 5]


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


def test_the_best_rows_count_together(store: Store) -> None:
    strong, steady, short = torch.eye(4)[:1] * 9, torch.eye(4)[:1].repeat(4, 1) * 5, torch.eye(4)[:1] * 6
    parts = {1: torch.cat([strong, torch.zeros(9, 4)]), 2: steady, 3: short}
    store.add_rows([(key, np.zeros((len(some), 2), np.float32), some) for key, some in parts.items()])
    found, _ = Vectors(store, "rows", averaged=4).best(torch.eye(4)[0], [1, 2, 3], 3)
    assert list(found.items()) == [
        (2, 5.0),
        (1, 9 / 4),
        (3, 6 / 4),
    ]  # the third has no more rows, which count as the worst row of all


def test_one_video_may_have_all_the_best_rows(store: Store) -> None:
    many = torch.eye(4)[:1].repeat(500, 1)
    store.add_rows([(1, np.zeros((500, 2), np.float32), many)])
    store.add_rows([(key, np.zeros((1, 2), np.float32), 0.1 * many[:1]) for key in range(2, 7)])
    assert set(Vectors(store, "rows").best(torch.eye(4)[0], range(7), 6)[0]) == set(range(1, 7))


@pytest.fixture
def indexed(store: Store, monkeypatch: pytest.MonkeyPatch) -> dict[int, torch.Tensor]:
    monkeypatch.setattr(module, "EXACT_ROWS", 100)
    by_key = fill(store, 400)
    store.index("rows", 100)
    return by_key


def test_an_index_is_asked_beyond(store: Store, indexed: dict[int, torch.Tensor]) -> None:
    """All of its few parts are looked at here, so that the answer is known."""
    assert store.has_index("rows")
    direction = torch.tensor([0.5, -1.0, 2.0, 0.1])
    expected = sorted(((float((some @ direction).max()), key) for key, some in indexed.items()), reverse=True)[:7]
    found, exact = Vectors(store, "rows").best(direction, indexed.keys(), 7)
    assert not exact
    assert list(found) == [key for _, key in expected]
    assert list(found.values()) == pytest.approx([score for score, _ in expected], abs=1e-2)


def test_few_among_many_are_all_looked_at(store: Store, indexed: dict[int, torch.Tensor]) -> None:
    direction = torch.ones(4)
    found, exact = Vectors(store, "rows").best(direction, [3, 4, 5], 5)
    assert exact
    assert {key: pytest.approx(float((indexed[key] @ direction).max()), abs=1e-2) for key in (3, 4, 5)} == found
    some = [key for key in indexed if key % 2]
    found, exact = Vectors(store, "rows").best(direction, some, 5)
    assert not exact
    assert len(found) == 5
    assert all(key % 2 for key in found)


def test_an_index_is_asked_while_another_thread_looks_anew(
    store: Store, indexed: dict[int, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, table = Vectors(store, "rows"), store.table
    expected = vectors.best(torch.ones(4), indexed.keys(), 7)

    def meanwhile(name: str) -> Any:
        vectors._held = None
        return table(name)

    monkeypatch.setattr(store, "table", meanwhile)
    assert vectors.best(torch.ones(4), indexed.keys(), 7) == expected


def test_what_has_come_since_is_found(store: Store, indexed: dict[int, torch.Tensor]) -> None:
    store.add_rows([(9999, np.zeros((1, 2), np.float32), 9 * torch.ones(1, 4))])
    vectors = Vectors(store, "rows")
    assert next(iter(vectors.best(torch.ones(4), [*indexed, 9999], 3)[0])) == 9999

    def unindexed() -> int:
        return int(store.table("rows").index_stats("vector_idx").num_unindexed_rows)

    store.index("rows", 100)
    assert unindexed() == 1
    fill(store, 400, seed=1)
    store.index("rows", 100)
    assert unindexed() == 0
    assert next(iter(vectors.best(torch.ones(4), [*indexed, 9999], 3)[0])) == 9999
