"""A trained model as a scorer: who sees whom, what is computed once, what is refused."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mrnet.config.model import ModelConfig
from mrnet.config.spec import DecodeConfig, RankBy
from mrnet.errors import FeatureShapeError
from mrnet.model.clip_head import ClipOutputs
from mrnet.model.mrnet import Answers, MRNet
from mrnet.retrieval.trained import EncodedVideo, TrainedScorer, expected_worth, fuse_scores
from mrnet.temporal import cell_moments, resample
from mrnet.types import QueryProtocol

Make = Callable[..., ModelConfig]
DECODE = DecodeConfig(score_power=0.5)


def build(config: ModelConfig) -> MRNet:
    torch.manual_seed(0)
    return MRNet(config).eval()


def rows(count: int = 21, width: int = 6) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1))


def queries(count: int, width: int = 5) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(2))


def heads(model: MRNet) -> list[int]:
    """Filled with the number of maps of every call of the proposal head."""
    calls: list[int] = []
    model.proposal_head.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    return calls


def test_fused_score_by_hand() -> None:
    iou, contrastive = torch.tensor([0.8, 0.8, 0.5, 0.8]), torch.tensor([-0.5, 1.0, 0.0, -1.0])
    assert fuse_scores(iou, contrastive, 0.5).tolist() == pytest.approx([0.25**0.5 * 0.8, 0.8, 0.5**1.5, 0.0])
    assert fuse_scores(iou, contrastive, 0.0).tolist() == pytest.approx([0.8, 0.8, 0.5, 0.8])


@pytest.mark.parametrize("protocol", ["single", "joint"])
@pytest.mark.parametrize("changes", [{}, {"attention": "video"}, {"attention": "plain"}, {"transformer": False}])
def test_candidates_are_the_valid_cells_with_the_models_scores(
    changes: dict[str, object], protocol: QueryProtocol, tiny_model: Make
) -> None:
    model = build(tiny_model(**changes))
    scorer = TrainedScorer(model, DECODE, protocol)
    found = scorer.candidates(scorer.encode_video(rows(), 40.0), queries(3))
    with torch.no_grad():
        mask = torch.ones(1, 3, dtype=torch.bool)
        embeddings = model(resample(rows(), 16)[None], queries(3)[None], mask, protocol)
        iou, contrastive = embeddings.iou_logits().sigmoid(), embeddings.contrastive_scores()
    assert torch.equal(found.spans_s, cell_moments(model.valid.nonzero(), 40.0, 8))
    assert found.spans_s[:3].tolist() == [[0.0, 5.0], [0.0, 10.0], [0.0, 15.0]]
    torch.testing.assert_close(found.scores, fuse_scores(iou, contrastive, DECODE.score_power))


def test_single_asks_one_by_one(tiny_model: Make) -> None:
    scorer = TrainedScorer(build(tiny_model()), DECODE)
    video = scorer.encode_video(rows(), 40.0)
    together = scorer.candidates(video, queries(5)).scores
    apart = torch.cat([scorer.candidates(video, query[None]).scores for query in queries(5)])
    torch.testing.assert_close(together, apart)
    backwards = scorer.candidates(video, queries(5).flip(0)).scores.flip(0)
    torch.testing.assert_close(together, backwards)


def test_joint_depends_on_the_others_and_on_their_order(tiny_model: Make) -> None:
    model = build(tiny_model())
    scorer = TrainedScorer(model, DECODE, "joint")
    video = scorer.encode_video(rows(), 40.0)
    together = scorer.candidates(video, queries(5)).scores
    backwards = scorer.candidates(video, queries(5).flip(0)).scores.flip(0)
    assert (together - backwards).abs().max() > 1e-4
    alone = scorer.candidates(video, queries(5)[:1]).scores
    assert (together[:1] - alone).abs().max() > 1e-4
    torch.testing.assert_close(alone, TrainedScorer(model, DECODE).candidates(video, queries(5)[:1]).scores)


@pytest.mark.parametrize("protocol", ["single", "joint"])
@pytest.mark.parametrize(
    "changes", [{"attention": "video"}, {"attention": "off", "mask": "none"}, {"transformer": False}]
)
def test_proposals_that_no_query_touches_are_made_once(
    changes: dict[str, object], protocol: QueryProtocol, tiny_model: Make
) -> None:
    model = build(tiny_model(**changes))
    scorer = TrainedScorer(model, DECODE, protocol)
    calls = heads(model)
    video = scorer.encode_video(rows(), 40.0)
    assert calls == [1]
    assert video.proposals is not None
    given = [scorer.candidates(video, queries(20)).scores for _ in range(2)]
    assert calls == [1]
    made = scorer.candidates(EncodedVideo(video.clips, 40.0), queries(20)).scores
    assert calls == [1, 1]
    assert torch.equal(*given)
    torch.testing.assert_close(given[0], made)


@pytest.mark.parametrize("count", [1, 16, 17, 40])
def test_maps_are_made_a_few_at_a_time(count: int, tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(tiny_model())
    scorer = TrainedScorer(model, DECODE)
    calls = heads(model)
    video = scorer.encode_video(rows(), 40.0)
    assert (video.proposals, calls) == (None, [])
    found = scorer.candidates(video, queries(count)).scores
    assert calls == [16] * (count // 16) + [count % 16] * (count % 16 > 0)
    monkeypatch.setattr("mrnet.retrieval.trained._MAPS_AT_ONCE", 10**6)
    torch.testing.assert_close(found, scorer.candidates(video, queries(count)).scores)
    assert calls[-1] == count


def test_joint_takes_one_map_for_all(tiny_model: Make) -> None:
    model = build(tiny_model())
    scorer = TrainedScorer(model, DECODE, "joint")
    calls = heads(model)
    assert len(scorer.candidates(scorer.encode_video(rows(), 40.0), queries(40)).scores) == 40
    assert calls == [1]


def test_cells_of_score_zero_are_no_candidates(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = TrainedScorer(build(tiny_model()), DECODE)
    video = scorer.encode_video(rows(), 40.0)
    whole = scorer.candidates(video, queries(2)).scores
    assert whole.isfinite().all()

    def some_zero(iou: Tensor, contrastive: Tensor, power: float) -> Tensor:
        fused = fuse_scores(iou, contrastive, power)
        fused[0, 0, 3] = fused[1, 0, :2] = 0
        return fused

    monkeypatch.setattr("mrnet.retrieval.trained.fuse_scores", some_zero)
    found = scorer.candidates(video, queries(2)).scores
    assert (found == float("-inf")).nonzero().tolist() == [[0, 3], [1, 0], [1, 1]]
    kept = found > float("-inf")
    assert torch.equal(found[kept], whole[kept])


def test_features_of_another_width_are_refused(tiny_model: Make) -> None:
    scorer = TrainedScorer(build(tiny_model()), DECODE)
    with pytest.raises(FeatureShapeError) as caught:
        scorer.encode_video(rows(width=7), 40.0)
    assert str(caught.value) == (
        "the video has features of width 7, but model.video_dim is 6: use the features the model was made for, or "
        "train with --set model.video_dim=7"
    )
    video = scorer.encode_video(rows(), 40.0)
    with pytest.raises(FeatureShapeError) as caught:
        scorer.candidates(video, queries(2, width=4))
    assert str(caught.value) == (
        "the query has features of width 4, but model.query_dim is 5: use the features the model was made for, or "
        "train with --set model.query_dim=4"
    )


def test_training_mode_is_left(tiny_model: Make) -> None:
    """Between the epochs of a training: no dropout in an answer, no statistics learnt from it, no gradient kept."""
    config = tiny_model(dropout=0.5, clip_dropout=0.5)
    quiet = TrainedScorer(build(config), DECODE)
    expected = quiet.candidates(quiet.encode_video(rows(), 40.0), queries(3)).scores
    model = build(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scorer = TrainedScorer(model.train(), DECODE)
    video = scorer.encode_video(rows(), 40.0)
    assert not model.training
    found = scorer.candidates(video, queries(3)).scores
    assert torch.equal(found, expected)
    assert not found.requires_grad
    model.train()
    assert torch.equal(scorer.candidates(video, queries(3)).scores, expected)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


SPANS = torch.tensor([[0, 0.25], [0, 0.5], [0.75, 1]])
"""Moments 0-1, 0-2 and 3-4 of a video of four clips: the IoU of the first two is a half."""
SURE = ClipOutputs(torch.tensor([[0.0, -200.0]]), torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.25))
"""Two clips, one of which is sure: its middle is 1/4, and its moment reaches to 0 and 1/2."""


def test_expected_overlap_by_hand() -> None:
    decode = DecodeConfig(rank_by="expected_overlap")
    logits = torch.tensor([[0.0, math.log(2), 0.0]])  # a quarter, a half, a quarter
    alone = expected_worth(Answers.alone(logits, logits, None), SPANS, decode)
    assert alone[:, 0].tolist() == [pytest.approx([0.25 + 0.5 / 4, 0.5 + 0.25 / 4, 0.25])]
    both = expected_worth(Answers.alone(logits, logits, SURE), SPANS, decode)
    assert both[:, 0].tolist() == [pytest.approx([(0.375 + 0.25) / 2, (0.5625 + 1) / 2, 0.25 / 2])]


def test_clear_overlap_by_hand() -> None:
    """Of an IoU of a half, half is clear; of 1 nearly all, of 0 nearly nothing. Twice as sharp: 1/6, 2/3, 1/6."""
    decode = DecodeConfig(rank_by="clear_overlap", sharpness=2.0)
    logits = torch.tensor([[0.0, math.log(2), 0.0]])
    all_, none = 1 / (1 + math.exp(-5)), 1 / (1 + math.exp(5))
    alone = expected_worth(Answers.alone(logits, logits, None), SPANS, decode)
    by_map = [(all_ + 2 + none) / 6, (0.5 + 4 * all_ + none) / 6, (5 * none + all_) / 6]
    assert alone[:, 0].tolist() == [pytest.approx(by_map)]
    both = expected_worth(Answers.alone(logits, logits, SURE), SPANS, decode)
    assert both[:, 0].tolist() == [
        pytest.approx([(a + b) / 2 for a, b in zip(by_map, [0.5, all_, none], strict=True)])
    ]


@pytest.mark.parametrize("rank_by", ["expected_overlap", "clear_overlap"])
def test_a_scorer_ranks_by_what_is_to_be_expected_where_asked(tiny_model: Make, rank_by: RankBy) -> None:
    model = build(tiny_model().model_copy(update={"clip_head": True}))
    scorer = TrainedScorer(model, DecodeConfig(rank_by=rank_by, sharpness=1.5))
    video = scorer.encode_video(rows(), 40.0)
    found = scorer.candidates(video, queries(2))
    answers = model.answer(video.clips, None, queries(2), "single")
    assert answers.inside is not None
    expected = expected_worth(answers, found.spans_s / 40.0, scorer.decode)[:, 0]
    torch.testing.assert_close(found.scores, expected)
