"""Losses against the formulas written out with plain loops."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mrnet.config.run import LossConfig, RunConfig
from mrnet.losses import Losses, clip_loss, compute_losses, listwise_loss, total_loss
from mrnet.model.clip_head import ClipOutputs
from mrnet.model.mrnet import Embeddings, MRNet
from mrnet.temporal import iou_map, union_iou
from mrnet.types import QueryProtocol

DURATIONS = torch.tensor([20.0, 20.0, 10.0, 30.0, 30.0, 30.0])
MOMENTS = torch.tensor([[0.0, 8.0], [1.0, 9.0], [2.0, 5.0], [0.0, 10.0], [9.0, 25.0], [20.0, 30.0]])[:, None]


def setup(
    tiny: Callable[..., RunConfig], inputs: tuple[torch.Tensor, ...], protocol: QueryProtocol
) -> tuple[Embeddings, torch.Tensor]:
    torch.manual_seed(0)
    model = MRNet(tiny().model)
    embeddings = model(*inputs, protocol)
    return embeddings, iou_map(MOMENTS, DURATIONS, 8)[:, model.valid]


def plain_losses(e: Embeddings, target: torch.Tensor, c: LossConfig) -> tuple[float, float, float]:
    """IoU, video and sentence loss, one pair at a time."""
    e = replace(e, **{name: value.detach() for name, value in vars(e).items() if isinstance(value, torch.Tensor)})
    n = len(target)
    bce, video, sentence = [], [], []
    for s in range(n):
        own = e.iou_proposals[e.map_of_query[s]]
        probability = torch.sigmoid(10 * own @ e.iou_queries[s])
        goal = ((target[s] - c.min_iou) / (c.max_iou - c.min_iou)).clamp(0, 1)
        bce.append(-(goal * probability.log() + (1 - goal) * (1 - probability).log()).mean())
        query = e.contrastive_queries[s]
        proposals = e.contrastive_proposals[e.map_of_query[s]]
        for p in target[s].topk(c.top_k).indices:
            cosine = proposals[p] @ query - c.margin
            total = 0.0
            for other in range(n):
                same_video = e.video_of_query[other] == e.video_of_query[s]
                if other != s and same_video:
                    overlap = union_iou(MOMENTS[s, 0], MOMENTS[other, 0])
                    if overlap >= c.sentence_removal_iou:
                        continue
                logit = proposals[p] @ e.contrastive_queries[other] - (c.margin if other == s else 0)
                total += math.exp(logit / c.tau_video)
            video.append(-(cosine / c.tau_video - math.log(total)))
            total = math.exp(cosine / c.tau_sentence) + 1e-6
            for q in range(target.shape[1]):
                kept = float(target[s, q] < c.negative_iou)
                total += math.exp(float(proposals[q] @ query) * kept / c.tau_sentence)
            for m, its_video in enumerate(e.video_of_map):
                if its_video != e.video_of_query[s]:
                    total += float(torch.exp(e.contrastive_proposals[m] @ query / c.tau_sentence).sum())
            sentence.append(-(cosine / c.tau_sentence - math.log(total)))
    return tuple(float(sum(parts) / len(parts)) for parts in (bce, video, sentence))  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", ["single", "joint"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_agree_with_the_formulas(
    protocol: QueryProtocol, top_k: int, tiny: Callable[..., RunConfig], batch_inputs: tuple[torch.Tensor, ...]
) -> None:
    embeddings, target = setup(tiny, batch_inputs, protocol)
    config = LossConfig(top_k=top_k, min_iou=0.2, max_iou=0.8, margin=0.2, negative_iou=0.4, tau_sentence=0.2)
    losses = compute_losses(embeddings, target, MOMENTS, DURATIONS, config)
    iou, video, sentence = plain_losses(embeddings, target, config)
    assert losses.iou.item() == pytest.approx(iou, rel=1e-5)
    assert losses.video.item() == pytest.approx(video, rel=1e-5)
    assert losses.sentence.item() == pytest.approx(sentence, rel=1e-5)
    assert losses.sparsity.item() == pytest.approx(3 * embeddings.sparsity.item())


def test_overlapping_sentences_of_a_video_are_no_negatives(
    tiny: Callable[..., RunConfig], batch_inputs: tuple[torch.Tensor, ...]
) -> None:
    """Queries 0 and 1 overlap by 7/9: raising the threshold above it makes them negatives of each other."""
    embeddings, target = setup(tiny, batch_inputs, "joint")
    apart = compute_losses(embeddings, target, MOMENTS, DURATIONS, LossConfig(sentence_removal_iou=0.5)).video
    counted = compute_losses(embeddings, target, MOMENTS, DURATIONS, LossConfig(sentence_removal_iou=0.8)).video
    assert counted > apart


def parts(sparsity: float) -> Losses:
    return Losses(*(torch.tensor(value) for value in (1.0, 2.0, 3.0, sparsity, 5.0)))


@pytest.mark.parametrize(
    ("ratio", "sparsity", "full", "expected"),
    [
        (None, 0.4, True, 1 + 0.1 * 5 + 4.0),
        (0.15, 0.4, True, 1 + 0.1 * 5 + 4.0),  # 4 < 0.15·4·10 = 6
        (0.15, 0.6, True, 1 + 0.1 * 5 + 12.0),  # at the threshold it is doubled
        (0.0, 0.4, True, 1 + 0.1 * 5 + 8.0),
        (0.0, 0.4, False, 1 + 0.01 * (0.1 * 5 + 8.0)),
    ],
)
def test_total_by_hand(ratio: float | None, sparsity: float, full: bool, expected: float) -> None:
    config = LossConfig(sparsity_weight=10, sparsity_doubling_ratio=ratio, contrastive_weight=0.1)
    total = total_loss(parts(sparsity), config, full=full, batch_size=4)
    assert total.item() == pytest.approx(expected)


def test_sparsity_once_a_batch(tiny: Callable[..., RunConfig], batch_inputs: tuple[torch.Tensor, ...]) -> None:
    embeddings, target = setup(tiny, batch_inputs, "single")
    losses = compute_losses(embeddings, target, MOMENTS, DURATIONS, LossConfig(sparsity_per_video=False))
    assert losses.sparsity.item() == pytest.approx(embeddings.sparsity.item())


def test_no_queries_share_a_video_with_themselves_only(tiny: Callable[..., RunConfig]) -> None:
    """A batch of one query: nothing to contrast with but its own proposals; every term stays finite."""
    torch.manual_seed(0)
    model = MRNet(tiny().model)
    embeddings = model(torch.randn(1, 16, 6), torch.randn(1, 1, 5), torch.ones(1, 1, dtype=torch.bool), "single")
    target = iou_map(MOMENTS[:1], DURATIONS[:1], 8)[:, model.valid]
    losses = compute_losses(embeddings, target, MOMENTS[:1], DURATIONS[:1], LossConfig())
    assert losses.video.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(losses.sentence)


def test_the_listwise_loss_by_hand() -> None:
    """Logits 0 and ln 3 say 1/4 and 3/4; IoUs 1 and 1/2, squared, say 4/5 and 1/5."""

    class TwoProposals:
        def iou_logits(self) -> torch.Tensor:
            return torch.tensor([[0.0, math.log(3)]])

    config = LossConfig(proposal_loss="listwise", listwise_power=2)
    loss = listwise_loss(TwoProposals(), torch.tensor([[1.0, 0.5]]), config)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(0.8 * math.log(0.8 / 0.25) + 0.2 * math.log(0.2 / 0.75))


def test_the_listwise_loss_leaves_out_moments_of_no_length() -> None:
    """No proposal overlaps them: a second row of zeros changes nothing, and nothing but such rows costs nothing."""
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 1.0]], requires_grad=True)

    class TwoQueries:
        def iou_logits(self) -> torch.Tensor:
            return logits

    config = LossConfig(proposal_loss="listwise", listwise_power=2)
    loss = listwise_loss(TwoQueries(), torch.tensor([[1.0, 0.5], [0.0, 0.0]]), config)  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == pytest.approx(0.8 * math.log(0.8 / 0.25) + 0.2 * math.log(0.2 / 0.75))
    assert logits.grad is not None
    # Softmax less target, as of the first row alone.
    assert logits.grad.flatten().tolist() == pytest.approx([0.25 - 0.8, 0.75 - 0.2, 0, 0])
    logits.grad = None
    loss = listwise_loss(TwoQueries(), torch.zeros(2, 2), config)  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_what_clips_say_of_a_moment_of_no_length(
    tiny: Callable[..., RunConfig], batch_inputs: tuple[torch.Tensor, ...]
) -> None:
    """The clip whose middle is nearest says it: here the moment reaches 0.125 too far on both sides of it."""
    embeddings, _ = setup(tiny, batch_inputs, "single")
    inside = torch.tensor([[-20.0, 20.0, -20.0, -20.0]])
    reach = torch.full((1, 4, 2), 0.125, requires_grad=True)
    said = ClipOutputs(inside, torch.zeros(1, 4, 2), reach)
    one = replace(embeddings, clips=said, map_of_query=torch.tensor([0]))
    loss = clip_loss(one, torch.tensor([[[0.375, 0.375]]]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) + 1 + 0.25, abs=1e-5)
    assert reach.grad is not None
    assert reach.grad[0].tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


def test_what_clips_say_by_hand(tiny: Callable[..., RunConfig], batch_inputs: tuple[torch.Tensor, ...]) -> None:
    """Four clips; the moment is the second and the third, which say 0.1 too much before and nothing wrong after."""
    embeddings, _ = setup(tiny, batch_inputs, "single")
    inside = torch.tensor([[-20.0, 20.0, 20.0, -20.0]])
    reach = torch.tensor([[[9.0, 9.0], [0.225, 0.375], [0.475, 0.125], [9.0, 9.0]]])
    said = ClipOutputs(inside, torch.zeros(1, 4, 2), reach)
    one = replace(embeddings, clips=said, map_of_query=torch.tensor([0]))
    span_cost = (1 - 0.5 / 0.6) + 0.1
    assert clip_loss(one, torch.tensor([[[0.25, 0.75]]])).item() == pytest.approx(
        math.log(2) + span_cost, abs=1e-5
    )
    # A moment between the middles of the second and the third counts as in the nearer one.
    short = torch.tensor([[[0.4, 0.45]]])
    nearest = replace(one, clips=said._replace(inside=torch.tensor([[-20.0, 20.0, -20.0, -20.0]])))
    span_cost = (1 - 0.05 / 0.6) + (0.4 - 0.15) + (0.75 - 0.45)
    assert clip_loss(nearest, short).item() == pytest.approx(math.log(2) + span_cost, abs=1e-5)


def test_what_has_no_weight_is_not_computed(
    tiny: Callable[..., RunConfig], batch_inputs: tuple[torch.Tensor, ...]
) -> None:
    embeddings, target = setup(tiny, batch_inputs, "single")
    losses = compute_losses(embeddings, target, MOMENTS, DURATIONS, LossConfig(contrastive_weight=0))
    assert (losses.video.item(), losses.sentence.item(), losses.clip.item()) == (0, 0, 0)
    assert losses.iou.item() > 0


def test_the_clip_loss_counts_in_full_in_late_epochs() -> None:
    config = LossConfig(sparsity_weight=10, contrastive_weight=0.1, clip_weight=2.0)
    total = total_loss(parts(0.4), config, full=False, batch_size=4)
    assert total.item() == pytest.approx(1 + 2 * 5 + 0.01 * (0.1 * 5 + 4))
