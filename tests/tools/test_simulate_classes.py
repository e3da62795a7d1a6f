"""SIMULATED rows show the classes that the sentences are near to, when they say it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mrnet.config.recipes import load_recipe
from mrnet.data.own import load_dataset_overlay
from mrnet.data.sources import open_source
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import write_store
from mrnet.model.ensemble import make_network
from mrnet.provenance import Provenance
from mrnet.retrieval.aligned import packaged_bridge
from mrnet.types import Query, Span, VideoRecord
from mrnet.weights.native import load_checkpoint
from simulate_classes import (
    SPACES,
    Camera,
    Simulation,
    follow,
    join,
    main,
    make_videos,
    named_sentences,
    read_classes,
    see,
    softmax,
    tie,
)

PLAIN = Simulation(gap=0, scene=0, objects=0, picture_noise=0, row_noise=0, temperature=0.01)
CLASSES = np.eye(4)
EMBEDDINGS = dict(zip("abcd", np.eye(4, dtype=np.float32), strict=True))


def camera(settings: Simulation = PLAIN, seed: int = 0) -> Camera:
    return Camera(CLASSES, settings, np.random.default_rng(seed))


def test_a_picture_shows_the_class_of_its_sentence() -> None:
    for number in range(4):
        shown = softmax(camera().film(CLASSES[number], np.zeros(4), 30))
        assert shown.shape == (30, 4)
        assert (shown.argmax(axis=1) == number).all()
        np.testing.assert_allclose(shown.sum(axis=1), 1)


@pytest.mark.parametrize("strength", ["gap", "objects", "picture_noise", "row_noise"])
def test_strengths(strength: str) -> None:
    """Each makes pictures of one sentence differ; that of rows, rows of one picture."""

    def film(value: float) -> np.ndarray:
        settings = replace(PLAIN, temperature=1.0, **{strength: value})
        return camera(settings).film(CLASSES[0], np.zeros(4), 60)

    def steps(shown: np.ndarray) -> int:
        return int(np.abs(np.diff(shown, axis=0)).max(axis=1).astype(bool).sum())

    assert steps(film(3.0)) == 59 if strength == "row_noise" else 0 < steps(film(3.0)) < 30
    assert np.abs(film(3.0) - film(0.0)).max() > 0.1


def test_spaces() -> None:
    probabilities = np.array([[0.64, 0.36, 0, 0]])
    names = see(probabilities, 2 * CLASSES, "names")
    np.testing.assert_allclose(names, 2 * np.array([[0.8, 0.6, 0, 0]]) / np.sqrt(1.4), rtol=1e-6)
    np.testing.assert_allclose(np.exp(see(probabilities, CLASSES, "logs")) - 1e-4, probabilities, atol=1e-6)


def test_joined_videos_show_each_part_in_its_turn() -> None:
    crossfades = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        record, shown = join("v", "abcd", EMBEDDINGS, camera(), rng)
        assert [query.text for query in record.queries] == list("abcd")
        spans = np.array([query.moments[0] for query in record.queries])
        assert (spans[1:, 0] == spans[:-1, 1]).all()
        assert spans[0, 0] == 0
        assert spans[-1, 1] == record.duration_s
        lengths_s = spans[:, 1] - spans[:, 0]
        assert 1.3 < lengths_s.min() < lengths_s.max() < 20.1
        starts = np.round(2 * spans[:, 0]).astype(int)
        expected = np.repeat(np.arange(4), np.diff([*starts, len(shown)]))
        assert shown.argmax(axis=1).tolist() == expected.tolist()
        crossfades += bool((shown[starts[1:]].max(axis=1) < 0.9).all())
    assert 0 < crossfades < 8


def test_an_annotated_video_keeps_its_moments() -> None:
    """One of 280 s is halved; what happens at once is seen at once; where nothing does, all is seen a little."""
    queries = (Query("a", (Span(0, 140),), "1"), Query("b", (Span(70, 140), Span(210, 280)), "2"))
    record, shown = follow("v", VideoRecord("w", 280.0, queries), EMBEDDINGS, camera())
    assert (record.video_id, record.duration_s, len(shown)) == ("v", 140.0, 280)
    assert [query.moments for query in record.queries] == [(Span(0, 70),), (Span(35, 70), Span(105, 140))]
    assert (shown[:70].argmax(axis=1) == 0).all()
    assert (shown[210:].argmax(axis=1) == 1).all()
    np.testing.assert_allclose(np.sort(shown[[71, 139, 141, 209]], axis=1)[:, :2], 0, atol=1e-6)


def test_captions_name_the_classes() -> None:
    made = named_sentences(["owl", "cup"], np.random.default_rng(0))
    assert len(set(made)) == 5
    assert sum("an owl" in text for text in made) == sum("a cup" in text for text in made) == 3


def test_videos_are_of_both_kinds() -> None:
    annotated = [VideoRecord("w", 30.0, (Query("a", (Span(0, 9),), "1"), Query("b", (Span(9, 20),), "2")))]

    def made(settings: Simulation) -> tuple[list[VideoRecord], dict[str, np.ndarray]]:
        rng = np.random.default_rng(1)
        names = [f"v{number}" for number in range(20)]
        return make_videos(names, annotated, ["c"], EMBEDDINGS, Camera(CLASSES, settings, rng), settings, rng)

    records, shown = made(PLAIN)
    timed = [record for record in records if record.duration_s == 30]
    assert 0 < len(timed) < 20
    assert {query.text for record in records if record not in timed for query in record.queries} == set("abc")
    again = made(PLAIN)
    assert again[0] == records
    assert all((again[1][name] == shown[name]).all() for name in shown)
    assert {query.text for record in made(Simulation(timed=0, named=1))[0] for query in record.queries} == {"c"}


@pytest.mark.parametrize("space", SPACES)
def test_clips_and_queries_begin_in_one_space(space: str) -> None:
    """What a sentence says and what its class shows have like codes, which others have not."""
    class_texts = np.random.default_rng(0).standard_normal((40, 24))
    class_texts /= np.linalg.norm(class_texts, axis=1, keepdims=True)
    probabilities = np.full((40, 40), 0.2 / 39)
    np.fill_diagonal(probabilities, 0.8)
    shown, said = torch.from_numpy(see(probabilities, class_texts, space)), torch.from_numpy(class_texts).float()
    sizes = {"video_dim": shown.shape[1], "query_dim": 24, "dim": 16, "members": 1}
    config = load_recipe("mrnet-plus", overrides=[f"model.{name}={size}" for name, size in sizes.items()])
    network = make_network(config.model).eval()
    tie(network, shown, said, said)
    with torch.no_grad():
        clips = network.clip_encoder(shown.repeat_interleave(config.model.pool_kernel, dim=0)[None])[0]
        queries = network.query_encoder(network.query_norm(said))
    alike = F.normalize(clips, dim=1) @ F.normalize(queries, dim=1).T
    assert alike.argmax(dim=1).tolist() == list(range(40))


def test_a_dataset_and_real_rows_in_its_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["simulate_classes.py", *map(str, arguments)])
        main()

    monkeypatch.setattr("simulate_classes.named_sentences", lambda names, _: names[:20])
    run("simulate", "--videos", 3, 2, "--objects", 0, "--out", tmp_path / "made")
    config = load_recipe("mrnet-plus", overlay=load_dataset_overlay(tmp_path / "made"))
    source = open_source(config.data)
    names, class_texts = read_classes()
    asked = {split: source.split(split) for split in ("train", "val")}
    assert [len(records) for records in asked.values()] == [3, 2]
    assert {query.text for record in asked["train"] for query in record.queries} <= set(names[:20]) - {
        names[0],
        names[10],
    }
    assert {query.text for record in asked["val"] for query in record.queries} <= {names[0], names[10]}
    assert max(len(record.queries) for records in asked.values() for record in records) == 4
    assert source.videos.provenance is not None
    assert source.videos.provenance.details["objects"] == "0.0"

    run("start", "--data", tmp_path / "made", "--set", "model.members=1", "--out", tmp_path / "start")
    assert load_checkpoint(tmp_path / "start").spec.provenances["video"] == source.videos.provenance

    features = np.random.default_rng(0).random((5, 1280)).astype(np.float32)
    write_store(tmp_path / "videos.h5", [("v", features)], Provenance(backbone="efficientnet-lite0", dim=1280))
    run("rows", "--features", tmp_path / "videos.h5", "--out", tmp_path / "rows.h5")
    store = open_store(tmp_path / "rows.h5")
    probabilities = packaged_bridge().project(torch.from_numpy(features))[1].numpy()
    np.testing.assert_allclose(store.read("v"), see(probabilities.astype(float), class_texts, "names"), rtol=1e-5)
    assert store.provenance is not None
    assert store.provenance.same_encoder(source.videos.provenance)
