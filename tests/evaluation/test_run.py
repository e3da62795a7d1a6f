"""Running a model over a split."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.config import RunConfig
from mrnet.data.sources import open_source
from mrnet.evaluation import run
from mrnet.evaluation.run import evaluate, git_commit, metric_table, predict
from mrnet.model.mrnet import MRNet
from mrnet.retrieval.rank import fuse_scores, top_moments


@pytest.mark.parametrize("mode", ["single", "joint"])
@pytest.mark.parametrize("maps_at_once", [1, 4, 100])
def test_predictions_do_not_depend_on_how_queries_are_grouped(
    mode: str,
    maps_at_once: int,
    tiny: Callable[..., RunConfig],
    dataset_files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    dataset = source.dataset(source.records(dataset_files["train"]), config)
    torch.manual_seed(0)
    model = MRNet(config.model).eval()
    monkeypatch.setattr(run, "_MAPS_AT_ONCE", maps_at_once)
    predictions = predict(model, dataset, config, torch.device("cpu"), mode)  # type: ignore[arg-type]
    asked = [(record, query) for record in dataset.records for query in record.queries]
    assert [p.qid for p in predictions] == [query.qid for _, query in asked]
    expected = []
    for sample in dataset:  # one video at a time, all of its queries at once
        mask = torch.ones(1, len(sample.queries), dtype=torch.bool)
        with torch.no_grad():
            scores = model.score(model(sample.video[None], sample.queries[None], mask, mode))  # type: ignore[arg-type]
        fused = fuse_scores(scores.iou, scores.contrastive, config.decode.score_power)
        durations = torch.full((len(fused),), sample.record.duration_s)
        expected += list(top_moments(fused, durations, 1, config.decode.nms_threshold)[0][:, 0].numpy())
    np.testing.assert_allclose([p.windows[0][:2] for p in predictions], expected, rtol=1e-5)


def test_videos_whose_queries_share_a_map_are_computed_once(
    tiny: Callable[..., RunConfig], dataset_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(data=dataset_files, model={"attention": "video"}, train={"batch_size": 99})
    source = open_source(config.data)
    dataset = source.dataset(source.records(dataset_files["train"]), config)
    model = MRNet(config.model).eval()
    calls = []
    model.proposal_head.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(run, "_MAPS_AT_ONCE", 1)
    predict(model, dataset, config, torch.device("cpu"), "single")
    assert len(calls) == 1


def test_withheld_answers_are_predicted_and_not_scored(
    tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
) -> None:
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    train = source.split(config.data, "train")
    test = [replace(r, queries=tuple(replace(q, moments=()) for q in r.queries)) for r in train]
    model = MRNet(config.model).eval()
    report, predictions = evaluate(
        model, source.dataset(test, config), train, config, torch.device("cpu"), ["single"], split="test"
    )
    assert report["metrics"] == {}
    assert len(predictions["single"]) == sum(len(record.queries) for record in test)


def test_report_holds_what_is_needed_to_trust_it(
    tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
) -> None:
    config = tiny(data=dataset_files, train={"seed": 7})
    source = open_source(config.data)
    train, test = source.split(config.data, "train"), source.split(config.data, "test")
    model = MRNet(config.model).eval()
    report, predictions = evaluate(
        model, source.dataset(test, config), train, config, torch.device("cpu"), ["single"], split="test"
    )
    assert (report["split"], report["protocols"], report["seed"]) == ("test", ["single"], 7)
    assert (report["videos"], report["queries"]) == (len(test), sum(len(r.queries) for r in test))
    assert report["config"] == config.model_dump(mode="json")
    assert set(report["metrics"]) == set(report["intervals_95"]) == set(predictions) == {"single"}
    assert set(report["baselines"]) == {"constant", "rank_only"}
    low, high = report["intervals_95"]["single"]["mIoU"]
    assert low <= report["metrics"]["single"]["mIoU"] <= high


def test_commit_is_that_of_this_repository() -> None:
    root = Path(__file__).resolve().parents[2]
    head = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    assert git_commit() == (head.stdout.strip() or None)


def test_table_by_hand() -> None:
    table = metric_table({"model": {"mIoU": 12.25, "R@1,IoU=0.5": 7.0}, "other": {"mIoU": 1.0}})
    assert table.splitlines() == [
        "         mIoU  R@1,IoU=0.5",
        "model   12.25         7.00",
        "other    1.00            -",
    ]
