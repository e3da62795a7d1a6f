"""A checkpoint on a split: protocols, kinds of queries, and what can be left unsaid."""

import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.errors import ConfigError, FeatureShapeError, OutputError
from mrnet.evaluation.predictions import read_predictions
from mrnet.evaluation.report import Evaluation, evaluate_checkpoint, write_evaluation
from mrnet.features.store.writer import write_store
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.types import AskedProtocol, QueryKind
from mrnet.version import __version__, git_commit
from mrnet.weights.native import save_checkpoint

Make = Callable[..., RunConfig]
NO_BASELINES = "no baselines: they are fitted on training annotations, and data.train is not set"


@pytest.fixture
def config(tiny: Make, tmp_path: Path) -> RunConfig:
    """A dataset whose queries are written and said."""
    rng = np.random.default_rng(0)
    videos = {f"v{i}": rng.standard_normal((12, 6)).astype(np.float32) for i in range(6)}
    text, speech = {}, {}
    for split, names in {"train": list(videos)[:4], "test": list(videos)[4:]}.items():
        tree = {}
        for name in names:
            stems = [f"{name}_{i}" for i in range(3)]
            tree[name] = {
                "duration": 24.0,
                "timestamps": [[0.0, 6.0], [2.0, 20.0], [15.0, 24.0]],
                "sentences": [f"sentence {stem}" for stem in stems],
                "audios": [f"{stem}.wav" for stem in stems],
            }
            text |= {stem: rng.standard_normal((1, 2)) for stem in stems}
            speech |= {stem: rng.standard_normal((1, 3)) for stem in stems}
        (tmp_path / f"{split}.json").write_text(json.dumps(tree))
    for name, rows, dim in (("video", videos, 6), ("text", text, 2), ("speech", speech, 3)):
        write_store(tmp_path / f"{name}.h5", rows.items(), Provenance(backbone=f"random-{name}", dim=dim))
    data = {f"{name}_features": str(tmp_path / f"{name}.h5") for name in ("video", "text", "speech")}
    return tiny(
        data={
            **data,
            "train": str(tmp_path / "train.json"),
            "val": str(tmp_path / "train.json"),
            "test": str(tmp_path / "test.json"),
            "query_kinds": ["text", "speech"],
        },
        train={"seed": 7},
    )


def save(folder: Path, config: RunConfig, widths: dict[QueryKind, int]) -> Path:
    torch.manual_seed(0)
    model = config.model.model_copy(update={"query_dim": sum(widths.values())})
    spec = ModelSpec(
        name="tiny",
        model=model,
        query_widths=widths,
        provenances={"video": Provenance(backbone="random-video", dim=6)},
    )
    save_checkpoint(folder, spec, config, MRNet(model).state_dict())
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path, config: RunConfig) -> Path:
    return save(tmp_path / "checkpoint", config, {"text": 2, "speech": 3})


def with_data(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def test_report(checkpoint: Path, config: RunConfig) -> None:
    evaluations = evaluate_checkpoint(checkpoint, config, device="cpu")
    assert list(evaluations) == ["text", "speech"]
    for kind, evaluation in evaluations.items():
        report = evaluation.report
        assert list(report) == [
            "checkpoint", "split", "query_kind", "protocols", "videos", "queries", "metrics", "intervals_95",
            "baselines", "seed", "commit", "version", "spec", "config",
        ]  # fmt: skip
        assert (report["checkpoint"], report["split"], report["query_kind"]) == (str(checkpoint), "test", kind)
        assert (
            report["protocols"] == list(report["metrics"]) == list(report["intervals_95"]) == ["single", "joint"]
        )
        assert (report["videos"], report["queries"]) == (2, 6)
        assert set(report["baselines"]) == {"constant", "rank_only"}
        assert (report["seed"], report["commit"], report["version"]) == (7, git_commit(), __version__)
        assert report["spec"] == json.loads((checkpoint / "mrnet.json").read_text())["spec"]
        assert report["config"] == config.model_dump(mode="json")
        assert [record.video_id for record in evaluation.records] == ["v4", "v5"]
        assert {query.kind for record in evaluation.records for query in record.queries} == {kind}
        asked = [query.qid for record in evaluation.records for query in record.queries]
        for ranked in evaluation.predictions.values():
            assert [prediction.qid for prediction in ranked] == asked
        assert evaluation.predictions["single"] != evaluation.predictions["joint"]
    text, speech = evaluations.values()
    assert text.predictions["single"] != speech.predictions["single"]
    assert text.report["baselines"] == speech.report["baselines"]


def test_one_kind_one_protocol_another_split(checkpoint: Path, config: RunConfig) -> None:
    whole = evaluate_checkpoint(checkpoint, config, device="cpu")
    [(kind, alone)] = evaluate_checkpoint(checkpoint, config, "test", ["joint"], ["speech"], device="cpu").items()
    assert kind == "speech"
    assert list(alone.predictions) == list(alone.report["metrics"]) == ["joint"]
    assert alone.predictions["joint"] == whole["speech"].predictions["joint"]
    assert alone.report["metrics"]["joint"] == whole["speech"].report["metrics"]["joint"]
    for kind, other in itertools.permutations(["text", "speech"]):  # whose features need not be there
        without = with_data(config, **{f"{other}_features": None})
        found = evaluate_checkpoint(checkpoint, without, kinds=[kind], device="cpu")[kind]
        assert found.report["metrics"] == whole[kind].report["metrics"]
    [val] = evaluate_checkpoint(checkpoint, config, "val", ["single"], ["text"], device="cpu").values()
    assert (val.report["split"], val.report["videos"], val.report["queries"]) == ("val", 4, 12)


def test_shuffled_is_joint_in_another_order(checkpoint: Path, config: RunConfig) -> None:
    protocols: list[AskedProtocol] = ["single", "joint", "shuffled"]
    [found] = evaluate_checkpoint(checkpoint, config, "test", protocols, ["text"], device="cpu").values()
    assert list(found.report["metrics"]) == protocols
    joint, shuffled = (found.predictions[name] for name in ("joint", "shuffled"))
    assert [one.qid for one in joint] == [one.qid for one in shuffled]
    assert joint != shuffled
    assert found.predictions["single"] != shuffled
    [again] = evaluate_checkpoint(checkpoint, config, "test", ["shuffled"], ["text"], device="cpu").values()
    assert again.predictions["shuffled"] == shuffled


def test_decoding_is_that_of_the_configuration(checkpoint: Path, config: RunConfig) -> None:
    strict = config.model_copy(update={"decode": config.decode.model_copy(update={"nms_threshold": 0.0})})
    [usual] = evaluate_checkpoint(checkpoint, config, "test", ["single"], ["text"], device="cpu").values()
    [alone] = evaluate_checkpoint(checkpoint, strict, "test", ["single"], ["text"], device="cpu").values()
    for before, after in zip(usual.predictions["single"], alone.predictions["single"], strict=True):
        assert before.windows[0] == after.windows[0]
        ordered = sorted(after.windows)
        assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(ordered))
        assert len(after.windows) < len(before.windows)


@pytest.mark.parametrize("protocol", ["single", "joint"])
def test_without_training_annotations_there_are_no_baselines(
    checkpoint: Path, config: RunConfig, caplog: pytest.LogCaptureFixture, protocol: Any
) -> None:
    with caplog.at_level(logging.INFO, logger="mrnet"):
        found = evaluate_checkpoint(checkpoint, with_data(config, train=[]), "test", [protocol], device="cpu")
        assert caplog.messages.count(NO_BASELINES) == 1
        caplog.clear()
        whole = evaluate_checkpoint(checkpoint, config, "test", [protocol], device="cpu")
        assert NO_BASELINES not in caplog.messages
    for kind, evaluation in found.items():
        assert evaluation.report["baselines"] == {}
        assert evaluation.report["metrics"] == whole[kind].report["metrics"]
        assert evaluation.predictions == whole[kind].predictions


def test_withheld_answers(checkpoint: Path, config: RunConfig, tmp_path: Path) -> None:
    lines = [
        {"qid": 1, "query": "a", "vid": "v4", "duration": 24},
        {"qid": 2, "query": "b", "vid": "v4", "duration": 24},
    ]
    (tmp_path / "hidden.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rng = np.random.default_rng(1)
    store = {str(line["qid"]): rng.standard_normal((1, 2)) for line in lines}
    write_store(tmp_path / "hidden.h5", store.items(), Provenance(backbone="random-text", dim=2))
    hidden = with_data(config, test=[str(tmp_path / "hidden.jsonl")], text_features=str(tmp_path / "hidden.h5"))
    [evaluation] = evaluate_checkpoint(
        checkpoint, with_data(hidden, train=[]), "test", kinds=["text"], device="cpu"
    ).values()
    report = evaluation.report
    assert (report["metrics"], report["intervals_95"], report["baselines"]) == ({}, {}, {})
    assert (report["videos"], report["queries"]) == (1, 2)
    assert [prediction.qid for prediction in evaluation.predictions["joint"]] == ["1", "2"]
    assert all(prediction.windows for prediction in evaluation.predictions["joint"])


class TestRefused:
    def refusal(self, checkpoint: Path, config: RunConfig, *rest: Any, **options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            evaluate_checkpoint(checkpoint, config, *rest, device="cpu", **options)
        return str(caught.value)

    @pytest.mark.parametrize("kinds", [["speech"], ["text", "speech"]])
    def test_a_kind_that_the_model_does_not_take(
        self, tmp_path: Path, config: RunConfig, kinds: list[QueryKind]
    ) -> None:
        text = save(tmp_path / "text", config, {"text": 2})
        assert self.refusal(text, config, kinds=kinds) == (
            "the model takes text queries alone: it cannot be asked speech ones"
        )

    def test_a_model_of_one_kind_is_asked_that_alone(self, tmp_path: Path, config: RunConfig) -> None:
        speech = save(tmp_path / "speech", config, {"speech": 3})
        found = evaluate_checkpoint(speech, with_data(config, text_features="nowhere"), device="cpu")
        assert list(found) == ["speech"]

    def test_a_split_that_is_not_named(self, checkpoint: Path, config: RunConfig) -> None:
        assert self.refusal(checkpoint, with_data(config, test=[])) == (
            "data.test is not set: add --set data.test=ANNOTATIONS"
        )

    def test_features_of_another_encoder(self, checkpoint: Path, config: RunConfig, tmp_path: Path) -> None:
        rows = {f"v{i}": np.ones((3, 6), np.float32) for i in range(6)}
        write_store(tmp_path / "other.h5", rows.items(), Provenance(backbone="other", dim=6))
        with pytest.raises(FeatureShapeError) as caught:
            evaluate_checkpoint(
                checkpoint, with_data(config, video_features=str(tmp_path / "other.h5")), device="cpu"
            )
        assert str(caught.value) == (
            "the video features come from 'other', the model was trained on 'random-video': point "
            "data.video_features at features of that backbone"
        )


class TestWriting:
    @pytest.fixture
    def evaluation(self, checkpoint: Path, config: RunConfig) -> Evaluation:
        return evaluate_checkpoint(checkpoint, config, kinds=["text"], device="cpu")["text"]

    def test_a_report_and_predictions_of_each_protocol(self, evaluation: Evaluation, tmp_path: Path) -> None:
        out = tmp_path / "a" / "out"
        assert write_evaluation(out, evaluation) == out / "report.json"
        assert sorted(path.name for path in out.iterdir()) == [
            "predictions.joint.jsonl",
            "predictions.single.jsonl",
            "report.json",
        ]
        text = (out / "report.json").read_text()
        assert text == json.dumps(evaluation.report, indent=2) + "\n"
        assert json.loads(text) == evaluation.report
        for protocol, ranked in evaluation.predictions.items():
            assert read_predictions(out / f"predictions.{protocol}.jsonl") == ranked

    def test_below_a_file(self, evaluation: Evaluation, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError) as caught:
            write_evaluation(tmp_path / "file", evaluation)
        assert str(caught.value) == (f"{tmp_path / 'file'}: cannot be written (File exists); choose another place")
