"""Every reference network learns by heart, answers as a scorer does, and repeats itself."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from mrnet.config.run import RunConfig
from mrnet.data.sources import open_source
from mrnet.errors import FeatureShapeError, TrainingError
from mrnet.evaluation.predictions import Prediction
from mrnet.experiments.references.clip_regressor import ClipRegressor
from mrnet.experiments.references.detr import Detr
from mrnet.experiments.references.parts import Reference
from mrnet.experiments.references.tan import Tan
from mrnet.experiments.references.training import ReferenceScorer, train_reference
from mrnet.retrieval.rank import rank
from mrnet.temporal import hull_iou

KINDS = [ClipRegressor, Tan, Detr]


@pytest.fixture
def config(tiny: Callable[..., RunConfig], dataset_files: dict[str, str]) -> Callable[..., RunConfig]:
    def make(**changes: Any) -> RunConfig:
        return tiny(data=dataset_files | changes.pop("data", {}), **changes)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_learns_by_heart(kind: type[Reference], config: Callable[..., RunConfig]) -> None:
    torch.manual_seed(0)
    network = kind(config(model={"dim": 32, "ffn_dim": 64, "layers": 1, "head_hidden": 32}).model)
    video, queries = torch.randn(6, 16, 6), torch.randn(6, 5)
    truth = torch.tensor([[0, 0.25], [0.5, 1], [0.25, 0.625], [0.75, 0.875], [0, 0.75], [0.375, 0.5]])
    optimizer = torch.optim.AdamW(network.parameters(), 0.005)
    for _ in range(150):
        optimizer.zero_grad()
        network.loss(network(video, queries), truth).backward()
        optimizer.step()
    spans, logits = network.eval()(video, queries)
    best = spans[torch.arange(6), logits.argmax(dim=1)]
    assert hull_iou(best, truth).mean() > 0.8


def test_the_best_epoch_answers(config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(evaluation={"select_by": "mIoU"})
    source, scores, records = open_source(made.data), iter([10.0, 30.0, 20.0]), []

    def scored(predictions: Sequence[Prediction], *_: object) -> dict[str, float]:
        records.append(predictions)
        return {"mIoU": next(scores)}

    monkeypatch.setattr("mrnet.experiments.references.training.evaluate_predictions", scored)
    trained = train_reference(ClipRegressor, made, source)
    assert (trained.epochs, trained.best_epoch) == (3, 2)
    assert trained.answers("val")["single"] == records[1]
    assert records[1] not in (records[0], records[2])


@pytest.mark.parametrize("kind", KINDS)
def test_queries_are_answered_each_by_itself(kind: type[Reference], config: Callable[..., RunConfig]) -> None:
    torch.manual_seed(0)
    made = config()
    scorer = ReferenceScorer(kind(made.model))
    video, queries = scorer.encode_video(torch.randn(9, 6), 9.0), torch.randn(3, 5)
    together = rank(scorer.candidates(video, queries), 3, 0.5)
    alone = [rank(scorer.candidates(video, query[None]), 3, 0.5)[0] for query in queries]
    for several, one in zip(together, alone, strict=True):
        assert torch.tensor([moment[:3] for moment in several]).flatten().tolist() == pytest.approx(
            torch.tensor([moment[:3] for moment in one]).flatten().tolist(), abs=1e-4
        )
        assert all(0 <= moment.start_s < moment.end_s <= 9 and 0 < moment.score < 1 for moment in one)


def test_the_same_seed_gives_the_same_weights(config: Callable[..., RunConfig]) -> None:
    made = config(model={"dropout": 0.3, "clip_dropout": 0.3})
    first, second = (train_reference(ClipRegressor, made, open_source(made.data)).network for _ in range(2))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name
    other = config(model={"dropout": 0.3, "clip_dropout": 0.3}, train={"seed": 1})
    third = train_reference(ClipRegressor, other, open_source(other.data)).network.state_dict()
    assert not torch.equal(third["foreground.weight"], first.state_dict()["foreground.weight"])


def test_refusals(config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    made = config()
    scorer = ReferenceScorer(ClipRegressor(made.model))
    with pytest.raises(FeatureShapeError, match=r"the video has features of width 7, but model\.video_dim is 6"):
        scorer.encode_video(torch.ones(3, 7), 3.0)
    with pytest.raises(FeatureShapeError, match=r"the query has features of width 4, but model\.query_dim is 5"):
        scorer.candidates(scorer.encode_video(torch.ones(3, 6), 3.0), torch.ones(1, 4))
    monkeypatch.setattr(ClipRegressor, "loss", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match=r"the loss is not finite in epoch 1: lower train\.lr"):
        train_reference(ClipRegressor, made, open_source(made.data))
