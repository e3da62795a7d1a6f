"""SIMULATED features hold what the sentences say, where they say it."""

import json
from pathlib import Path

import numpy as np
import pytest

from mrnet.config.recipes import load_recipe
from mrnet.data.own import load_dataset_overlay
from mrnet.data.sources import open_source
from mrnet.errors import OutputError
from mrnet.features.store.reader import open_store
from mrnet.provenance import Provenance
from mrnet.types import Query, Span, VideoRecord
from simulate_features import Simulation, ask, choose, simulate, write_simulated

NOTHING_ELSE = Simulation(dim=4, distractors=0, gap=0, background=0, noise=0)
A, B, C = np.eye(4, dtype=np.float32)[:3]
EMBEDDINGS = {"a": A, "b": B, "c": C}
VIDEO = VideoRecord("v", 6.0, (Query("a", (Span(0, 3),), "1"), Query("b", (Span(2, 4),), "2")))
OTHER = VideoRecord("w", 10.0, (Query("c", (Span(0, 5),), "3"),))


def rows(settings: Simulation, seed: int = 0) -> np.ndarray:
    projection = np.eye(4, dtype=np.float32)
    return simulate(VIDEO, [VIDEO, OTHER], EMBEDDINGS, projection, settings, np.random.default_rng(seed))


def test_rows_are_means_of_what_happens() -> None:
    both, none = (A + B) / 2, np.zeros(4)
    np.testing.assert_allclose(rows(NOTHING_ELSE), [A, A, both, B, none, none])


def test_a_distractor_is_of_another_video_and_as_long_as_there() -> None:
    """Half of its own video, so half of this one: three rows of six, or two where it begins late in a row."""
    for seed in range(5):
        found = rows(Simulation(dim=4, distractors=1, gap=0, background=0, noise=0), seed)
        happens = np.flatnonzero(found @ C)
        assert len(happens) == 3
        assert happens.tolist() == list(range(happens[0], happens[0] + 3))


def test_strengths() -> None:
    """What the same noise adds grows with its strength; a gap lasts as long as what it belongs to."""
    plain = rows(NOTHING_ELSE)
    strong, weak = (rows(Simulation(dim=4, distractors=0, gap=0, background=0, noise=n)) - plain for n in (2, 1))
    np.testing.assert_allclose(strong, 2 * weak, rtol=1e-5)
    assert len(np.unique(weak[:, 0])) == 6
    background = rows(Simulation(dim=4, distractors=0, gap=0, background=1, noise=0)) - plain
    np.testing.assert_allclose(background, np.tile(background[0], (6, 1)), atol=1e-6)
    assert np.abs(background[0]).sum() > 0.1
    gap = rows(Simulation(dim=4, distractors=0, gap=1, background=0, noise=0)) - plain
    np.testing.assert_allclose(gap[0], gap[1], atol=1e-6)
    assert np.abs(gap[0] - gap[3]).sum() > 0.1
    np.testing.assert_allclose(gap[4:], 0)


def videos(prefix: str, count: int) -> list[VideoRecord]:
    def queries(name: str) -> tuple[Query, ...]:
        return tuple(Query("abc"[i], (Span(i, i + 1.5),), f"{name}#{i}") for i in range(3))

    return [VideoRecord(f"{prefix}{i}", 6.0, queries(f"{prefix}{i}")) for i in range(count)]


def test_no_video_is_drawn_twice() -> None:
    records = {"train": videos("t", 9), "val": videos("x", 6), "test": videos("x", 6)}
    chosen = choose(records, {"train": 4, "val": 3, "test": 3}, seed=0)
    assert {split: len(of_split) for split, of_split in chosen.items()} == {"train": 4, "val": 3, "test": 3}
    names = [record.video_id for split in ("val", "test") for record in chosen[split]]
    assert sorted(names) == [f"x{i}" for i in range(6)]
    assert choose(records, {"train": 4, "val": 3, "test": 3}, seed=0) == chosen
    assert choose(records, {"train": 4, "val": 3, "test": 3}, seed=1) != chosen
    asked = ask(chosen, 2, seed=0)
    assert {len(record.queries) for of_split in asked.values() for record in of_split} == {2}
    assert ask(chosen, None, seed=0) == chosen


def test_files_make_a_dataset(tmp_path: Path) -> None:
    chosen = {"train": videos("t", 4), "val": videos("x", 3), "test": videos("y", 2)}
    asked, made = ask(chosen, 2, seed=0), Provenance(backbone="minilm-l6-v2", dim=4)
    settings = Simulation(dim=5, rows_per_s=2)
    for name in ("one", "two"):
        write_simulated(tmp_path / name, chosen, asked, EMBEDDINGS, made, settings)
    config = load_recipe("demo", overlay=load_dataset_overlay(tmp_path / "one"))
    source = open_source(config.data)
    store = source.videos
    assert store.provenance is not None
    assert (store.provenance.backbone, store.provenance.details["noise"]) == ("simulated", "1.0")
    again = open_store(tmp_path / "two" / "videos.h5")
    assert all((store.read(name) == again.read(name)).all() for name in store.ids())
    for split in ("train", "val", "test"):
        dataset = source.dataset(source.split(split), config.model, {})
        for record, wanted in zip(dataset.records, asked[split], strict=True):
            assert [query.text for query in record.queries] == [query.text for query in wanted.queries]
            assert dataset.video_rows(record.video_id).shape == (12, 5)
            expected = np.stack([EMBEDDINGS[query.text] for query in record.queries])
            assert (dataset.query_rows(record).numpy() == expected).all()
    assert json.loads((tmp_path / "one" / "val.json").read_text())["x0"]["duration"] == 6.0
    with pytest.raises(OutputError, match="one already exists"):
        write_simulated(tmp_path / "one", chosen, asked, EMBEDDINGS, made, settings)
