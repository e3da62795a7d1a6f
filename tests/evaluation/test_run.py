"""A scorer over a split, and what is reported of it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnet.config.run import RunConfig
from mrnet.data.dataset import MomentDataset
from mrnet.data.sources import DataSource, open_source
from mrnet.evaluation.run import evaluate, metric_table, predict
from mrnet.model.mrnet import MRNet
from mrnet.retrieval.rank import rank
from mrnet.retrieval.scorer import Candidates
from mrnet.retrieval.trained import TrainedScorer, fuse_scores
from mrnet.temporal import cell_moments
from mrnet.types import Moment, QueryProtocol, VideoRecord

Make = Callable[..., RunConfig]


def dataset_of(config: RunConfig, split: str = "train") -> tuple[MomentDataset, DataSource]:
    source = open_source(config.data)
    return source.dataset(source.split(split), config.model, {}), source  # type: ignore[arg-type]


class FirstSeconds:
    """A scorer of a kind of its own: moments from the start, the longer the better, of the length it is asked for.

    It keeps what it was given.
    """

    def __init__(self) -> None:
        self.videos: list[tuple[Tensor, float]] = []
        self.asked: list[Tensor] = []

    def encode_video(self, rows: Tensor, duration_s: float) -> float:
        self.videos.append((rows, duration_s))
        return duration_s

    def candidates(self, video: float, queries: Tensor) -> Candidates:
        self.asked.append(queries)
        ends = torch.arange(1, 13) * video / 12
        spans = torch.stack([ends - video / 12, ends], dim=1)
        return Candidates(spans, torch.arange(12.0).expand(len(queries), 12) / 12)


def test_any_scorer_answers_video_by_video(tiny: Make, dataset_files: dict[str, str]) -> None:
    dataset, _ = dataset_of(tiny(data=dataset_files))
    scorer = FirstSeconds()
    predictions = predict(scorer, dataset, 0.5)
    asked = [(record, query) for record in dataset.records for query in record.queries]
    assert [(p.qid, p.query, p.vid) for p in predictions] == [(q.qid, q.text, r.video_id) for r, q in asked]
    assert [duration for _, duration in scorer.videos] == [record.duration_s for record in dataset.records]
    for (rows, _), queries, record in zip(scorer.videos, scorer.asked, dataset.records, strict=True):
        assert torch.equal(rows, torch.from_numpy(dataset.video_store.read(record.video_id)))  # as they are stored
        assert torch.equal(queries, dataset.query_rows(record))
    for prediction, (record, _) in zip(predictions, asked, strict=True):  # the last ten twelfths, best first
        starts = [moment.start_s * 12 / record.duration_s for moment in prediction.windows]
        assert starts == pytest.approx(list(range(11, 1, -1)))
        assert [moment.score * 12 for moment in prediction.windows] == pytest.approx(list(range(11, 1, -1)))


@pytest.mark.parametrize("protocol", ["single", "joint"])
def test_predictions_are_those_of_the_model(
    protocol: QueryProtocol, tiny: Make, dataset_files: dict[str, str]
) -> None:
    config = tiny(data=dataset_files)
    dataset, _ = dataset_of(config)
    torch.manual_seed(0)
    model = MRNet(config.model).eval()
    predictions = predict(TrainedScorer(model, config.decode, protocol), dataset, 0.5)
    expected: list[list[Moment]] = []
    for sample in dataset:  # one video at a time, all of its queries at once
        mask = torch.ones(1, len(sample.queries), dtype=torch.bool)
        with torch.no_grad():
            embeddings = model(sample.video[None], sample.queries[None], mask, protocol)
            iou, contrastive = embeddings.iou_logits().sigmoid(), embeddings.contrastive_scores()
        fused = fuse_scores(iou, contrastive, config.decode.score_power)
        spans = cell_moments(model.valid.nonzero(), sample.record.duration_s, 8)
        expected += rank(Candidates(spans, fused), 10, 0.5)
    assert [len(p.windows) for p in predictions] == [len(moments) for moments in expected]
    for prediction, moments in zip(predictions, expected, strict=True):
        found, wanted = ([moment[:3] for moment in some] for some in (prediction.windows, moments))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def withheld(records: list[VideoRecord]) -> list[VideoRecord]:
    return [replace(r, queries=tuple(replace(q, moments=()) for q in r.queries)) for r in records]


def test_withheld_answers_are_predicted_and_not_scored(tiny: Make, dataset_files: dict[str, str]) -> None:
    config = tiny(data=dataset_files)
    dataset, source = dataset_of(config)
    test = source.dataset(withheld(dataset.records), config.model, {})
    report, predictions = evaluate({"single": FirstSeconds()}, test, dataset.records, config)
    queries = sum(len(record.queries) for record in dataset.records)
    assert report == {
        "videos": 7, "queries": queries, "metrics": {}, "intervals_95": {}, "baselines": {},
    }  # fmt: skip
    assert len(predictions["single"]) == queries


def test_report_holds_what_is_needed_to_trust_it(tiny: Make, dataset_files: dict[str, str]) -> None:
    config = tiny(data=dataset_files, train={"seed": 7})
    test, source = dataset_of(config, "test")
    scorer = FirstSeconds()
    report, predictions = evaluate({"one": scorer, "two": scorer}, test, source.split("train"), config)
    assert (report["videos"], report["queries"]) == (len(test), sum(len(r.queries) for r in test.records))
    assert set(report["metrics"]) == set(report["intervals_95"]) == set(predictions) == {"one", "two"}
    assert report["metrics"]["one"] == report["metrics"]["two"]
    assert set(report["baselines"]) == {"constant", "rank_only"}
    names = [*(f"R@{n},IoU={tiou}" for n in (1, 5) for tiou in (0.3, 0.5, 0.7)), "mIoU"]
    tables = [report["metrics"]["one"], report["intervals_95"]["one"], *report["baselines"].values()]
    assert [sorted(table) for table in tables] == [sorted(names)] * 4
    for name in names:
        low, high = report["intervals_95"]["one"][name]
        assert low <= report["metrics"]["one"][name] <= high
    # By hand: the last twelfth of a video is its first answer.
    overlaps = []
    for record in test.records:
        for query in record.queries:
            [(start, end)] = query.moments
            length, last = record.duration_s, record.duration_s * 11 / 12
            overlaps.append(max(0.0, end - max(start, last)) / (length - min(start, last)))
    assert report["metrics"]["one"]["mIoU"] == pytest.approx(100 * float(np.mean(overlaps)), abs=1e-4)


def test_no_baselines_without_training_annotations(tiny: Make, dataset_files: dict[str, str]) -> None:
    config = tiny(data=dataset_files)
    test, _ = dataset_of(config, "test")
    report, _ = evaluate({"one": FirstSeconds()}, test, [], config)
    assert report["baselines"] == {}
    assert "mIoU" in report["metrics"]["one"]


def test_table_by_hand() -> None:
    table = metric_table({"model": {"mIoU": 12.25, "R@1,IoU=0.5": 7.0}, "other": {"mIoU": 1.0}})
    assert table.splitlines() == [
        "         mIoU  R@1,IoU=0.5",
        "model   12.25         7.00",
        "other    1.00            -",
    ]
