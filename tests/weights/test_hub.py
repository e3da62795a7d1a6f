"""Checkpoints sent to a hub, which the test is itself, and taken from it."""

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest

from mrnet.config.run import RunConfig
from mrnet.config.spec import Calibration, ModelSpec
from mrnet.errors import CheckpointError, ConfigError, DataError, FeatureError
from mrnet.features.encoders.color_hog_motion import ColorHogMotion
from mrnet.features.encoders.hashed_words import HashedWords
from mrnet.predictor import Predictor
from mrnet.provenance import Provenance
from mrnet.weights.hub import fetch_checkpoint, model_card, push_to_hub
from tests.conftest import save_untrained, spec_of
from tests.weights.hub_server import Hub, serving

Make = Callable[..., RunConfig]


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client ask this hub, and no other."""
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving() as served:
        point_at(served.address, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "kept"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield served


@pytest.fixture
def config(tiny: Make) -> RunConfig:
    return tiny(
        model={"video_dim": ColorHogMotion.dim, "query_dim": HashedWords.dim},
        data={"train": ["/home/ann/secret/train.json"], "video_features": "/home/ann/secret/videos"},
    )


@pytest.fixture
def spec(config: RunConfig) -> ModelSpec:
    return spec_of(config, video=ColorHogMotion().provenance(), text=HashedWords().provenance())


@pytest.fixture
def checkpoint(config: RunConfig, spec: ModelSpec, tmp_path: Path) -> Path:
    return save_untrained(tmp_path / "checkpoint", config, spec)


REPORT: dict[str, Any] = {
    "checkpoint": "/home/ann/secret/runs/checkpoint",
    "split": "test",
    "query_kind": "text",
    "protocols": ["single"],
    "videos": 203,
    "queries": 523,
    "metrics": {"single": {"R@1,IoU=0.5": 45.12, "mIoU": 41.0}},
    "intervals_95": {"single": {"R@1,IoU=0.5": [40.0, 50.25], "mIoU": [38.0, 44.0]}},
    "baselines": {
        "constant": {"R@1,IoU=0.5": 29.2, "mIoU": 27.7},
        "rank_only": {"R@1,IoU=0.5": 29.7, "mIoU": 31.4},
    },
    "spec": {"name": "tiny"},
    "config": {"data": {"test": ["/home/ann/secret/test.json"]}},
}


def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((20, ColorHogMotion.dim)).astype(np.float32)


def test_what_is_sent_answers_as_it_did(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps(REPORT))
    address = push_to_hub(checkpoint, "ann/tiny", report=report)
    assert address == f"{hub.address}/ann/tiny/commit/{hub.commit}"
    assert hub.private == {"ann/tiny"}
    sent = hub.repos["ann/tiny"]
    assert sorted(set(sent) - {".gitattributes"}) == [
        "README.md", "model.safetensors", "mrnet.json", "recipe.yaml",
    ]  # fmt: skip
    assert all(b"secret" not in content and str(tmp_path).encode() not in content for content in sent.values())
    sent["evil.py"] = b"raise SystemExit"
    sent["pytorch_model.bin"] = pickle.dumps(print)
    shutil.rmtree(tmp_path / "kept", ignore_errors=True)
    ours, theirs = Predictor.load(checkpoint, "cpu"), Predictor.from_pretrained("ann/tiny", device="cpu")
    of_ours, of_theirs = (one.find(one.encode_video(rows()), "a dog") for one in (ours, theirs))
    assert list(of_theirs) == list(of_ours)
    assert len(of_ours) > 1
    assert fetched(tmp_path) == ["model.safetensors", "mrnet.json", "recipe.yaml"]


def fetched(folder: Path) -> list[str]:
    """Names of all files that were downloaded."""
    [snapshot] = (folder / "kept").glob("models--*/snapshots/*")
    return sorted(path.name for path in snapshot.iterdir())


def test_one_that_is_public_is_said_to_be(hub: Hub, checkpoint: Path) -> None:
    push_to_hub(checkpoint, "ann/open", private=False)
    assert hub.private == set()
    assert "None were given." in hub.repos["ann/open"]["README.md"].decode()


def test_a_revision_is_asked_for(hub: Hub, checkpoint: Path) -> None:
    push_to_hub(checkpoint, "ann/tiny")
    assert fetch_checkpoint("ann/tiny", revision=hub.commit).name == hub.commit
    with pytest.raises(CheckpointError) as caught:
        fetch_checkpoint("ann/tiny", revision="v9")
    assert str(caught.value).startswith("ann/tiny at v9: cannot be fetched from the hub (")
    with pytest.raises(CheckpointError, match=r"^ann/nothing: cannot be fetched from the hub"):
        fetch_checkpoint("ann/nothing")


def test_a_folder_needs_no_hub(checkpoint: Path) -> None:
    predictor = Predictor.from_pretrained(checkpoint, device="cpu")
    assert len(predictor.find(predictor.encode_video(rows()), "a dog")) > 1
    with pytest.raises(ConfigError) as caught:
        Predictor.from_pretrained(checkpoint, revision="main")
    assert str(caught.value) == f"{checkpoint} is a folder, and has no revision 'main': leave that out"


@pytest.mark.parametrize("name", ["tiny", "../etc/passwd", "/home/ann/gone", "a/b/c", ""])
def test_names_that_are_none(name: str, checkpoint: Path) -> None:
    said = f"{name!r} is neither a folder nor OWNER/NAME of a model on the hub"
    with pytest.raises(ConfigError) as caught:
        push_to_hub(checkpoint, name)
    assert str(caught.value) == said
    if name:
        with pytest.raises(ConfigError):
            fetch_checkpoint(name)


def test_an_encoder_of_its_own_is_not_loaded(hub: Hub, config: RunConfig, spec: ModelSpec, tmp_path: Path) -> None:
    """A model of a stranger names an encoder of a stranger: nothing is asked for without the user's word."""
    strange = Provenance(backbone="hf:mallory/encoder", dim=HashedWords.dim)
    provenances = {"video": spec.provenances["video"], "text": strange}
    path = save_untrained(tmp_path / "m", config, spec.model_copy(update={"provenances": provenances}))
    push_to_hub(path, "mallory/model")
    predictor = Predictor.from_pretrained("mallory/model", device="cpu")
    before = len(hub.asked)
    with pytest.raises(FeatureError, match="named by the checkpoint alone, and is of no well-known publisher"):
        predictor.find(predictor.encode_video(rows()), "a dog")
    assert len(hub.asked) == before


def test_weights_that_are_pickled_are_refused(hub: Hub, checkpoint: Path) -> None:
    push_to_hub(checkpoint, "ann/tiny")
    hub.repos["ann/tiny"]["model.safetensors"] = pickle.dumps({"a": print})
    with pytest.raises(CheckpointError, match="is missing or damaged"):
        Predictor.from_pretrained("ann/tiny", device="cpu")


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_away(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:9", monkeypatch)
    for call in (lambda: push_to_hub(checkpoint, "ann/tiny"), lambda: fetch_checkpoint("ann/tiny")):
        with pytest.raises(CheckpointError) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1


def test_the_card_has_figures_beside_baselines(spec: ModelSpec) -> None:
    calibration = Calibration(bias=0, weights=(0, 0, 0, 0, 0), threshold=0.4, footage="the made up")
    clip = Provenance(backbone="hf:openai/clip-vit-large-patch14", dim=768, rows_per_s=1.5)
    changes = {"calibration": calibration, "provenances": {"video": clip, "text": spec.provenances["text"]}}
    card = model_card(spec.model_copy(update=changes), "ann/tiny", REPORT)
    assert card.startswith("---\nlibrary_name: mrnet\n")
    assert 'Predictor.from_pretrained("ann/tiny")' in card
    for line in (
        "On 523 text queries of 203 videos of the test split of tiny, in percent, with 95 % intervals over videos.",
        "Protocol `single`: every query is asked alone.",
        "| | R@1,IoU=0.5 | mIoU |",
        "| this model | 45.1 (40.0 to 50.2) | 41.0 (38.0 to 44.0) |",
        "| baseline: best constant moment | 29.2 | 27.7 |",
        "| baseline: rank alone | 29.7 | 31.4 |",
        "| text | hashed-words | MIT | 512 | - |",
        "| video | hf:openai/clip-vit-large-patch14 | its own, see where it is published | 768 | 1.5 |",
        "Its scores are probabilities on the made up; a query whose best moment is below 0.40 counts as not in the "
        "video.",
    ):
        assert line in card.splitlines(), line
    assert "/home" not in card


def test_the_card_says_what_flatters_and_what_is_not_known(spec: ModelSpec) -> None:
    both = {"metrics": {name: {"mIoU": 50.0} for name in ("single", "joint")}, "baselines": {}}
    card = model_card(spec, "ann/tiny", REPORT | both)
    assert "| this model, joint | 50.0 |" in card
    assert "in the order of their true start, which leaks that order." in card
    assert "No baselines were measured." in card
    drawn = model_card(spec, "ann/tiny", REPORT | {"metrics": {"shuffled": {"mIoU": 50.0}}})
    assert "Protocol `shuffled`: all queries of a video in one sequence, in an order that is drawn." in drawn
    assert "This split chose the checkpoint" not in card
    chosen = model_card(spec.model_copy(update={"provenances": {}}), "ann/tiny", REPORT | {"split": "val"})
    assert "This split chose the checkpoint, so that the figures flatter it." in chosen.splitlines()
    assert "| video | not known | not known | - | - |" in chosen.splitlines()
    assert "| text | not known | not known | - | - |" in chosen.splitlines()
    withheld = model_card(spec, "ann/tiny", REPORT | {"metrics": {}})
    assert (
        "523 text queries of 203 videos of the test split of tiny: the answers of this split are withheld."
        in withheld
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"metrics": 3, "baselines": {}}', None])
def test_reports_that_are_none(text: str | None, checkpoint: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    if text is not None:
        report.write_text(text)
    with pytest.raises(DataError, match=r"report\.json"):
        push_to_hub(checkpoint, "ann/tiny", report=report)


def test_the_client_is_an_extra(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: push_to_hub(checkpoint, "ann/tiny"), lambda: fetch_checkpoint("ann/tiny")):
        with pytest.raises(ConfigError) as caught:
            call()
        assert str(caught.value) == "the hub needs huggingface_hub: pip install 'mrnet[hub]'"
