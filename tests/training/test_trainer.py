"""Single steps of a training."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from mrnet.config.run import RunConfig
from mrnet.data.dataset import Batch
from mrnet.errors import ConfigError, TrainingError
from mrnet.losses import compute_losses, total_loss
from mrnet.model.ensemble import make_network, members_of
from mrnet.model.mrnet import MRNet
from mrnet.temporal import iou_map
from mrnet.training.trainer import Trainer, learning_rate, make_accelerator
from mrnet.types import Query, Span, VideoRecord


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    records = tuple(
        VideoRecord(name, 10.0, tuple(Query("q", (Span(1, 4),), f"{name}#{i}") for i in range(count)))
        for name, count in (("a", 2), ("b", 1))
    )
    return Batch(
        video=torch.randn(2, 16, 6, generator=generator),
        queries=torch.randn(2, 2, 5, generator=generator),
        query_mask=torch.tensor([[True, True], [True, False]]),
        duration_s=torch.full((3,), 10.0),
        moments=torch.tensor([[[1.0, 4.0]], [[5.0, 9.0]], [[0.0, 3.0]]]),
        records=records,
    )


def make(config: RunConfig) -> Trainer:
    torch.manual_seed(0)
    return Trainer(MRNet(config.model), config, Accelerator(cpu=True))


@pytest.mark.parametrize("protocol", ["single", "joint"])
def test_a_step_by_hand(protocol: str, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(train={"protocol": protocol, "grad_clip": 0.5})
    trainer = make(config)
    trainer.begin_epoch(1)
    record = trainer.step(batch())

    torch.manual_seed(0)
    network, given = MRNet(config.model).train(), batch()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=1e-5)
    embeddings = network(given.video, given.queries, given.query_mask, config.train.protocol)
    assert given.moments is not None
    targets = iou_map(given.moments, given.duration_s, 8)[:, network.valid]
    losses = compute_losses(embeddings, targets, given.moments, given.duration_s, config.loss)
    loss = total_loss(losses, config.loss, full=True, batch_size=3)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    optimizer.step()
    assert record.losses["total"] == pytest.approx(loss.item(), rel=1e-6)
    assert record.losses["iou"] == pytest.approx(losses.iou.item(), rel=1e-6)
    assert (record.norm, record.lr) == (pytest.approx(norm.item(), rel=1e-5), 0.01)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(trainer.network.state_dict()[name], weight, rtol=1e-4, atol=1e-6)


def test_rates_fall_after_milestones(tiny: Callable[..., RunConfig]) -> None:
    trainer = make(tiny(train={"epochs": 4, "milestones": [1, 3]}))
    rates = []
    for epoch in (1, 2, 3, 4):
        trainer.begin_epoch(epoch)
        rates.append(trainer.lr)
    assert rates == pytest.approx([0.01, 0.001, 0.001, 0.0001])


def test_late_epochs_learn_from_the_iou_loss_almost_alone(tiny: Callable[..., RunConfig]) -> None:
    totals = {}
    for epoch in (2, 3):
        trainer = make(tiny(train={"full_loss_epochs": 2}))
        trainer.begin_epoch(epoch)
        totals[epoch] = trainer.step(batch()).losses
    assert totals[2]["iou"] == totals[3]["iou"]
    side = totals[2]["total"] - totals[2]["iou"]
    assert totals[3]["total"] - totals[3]["iou"] == pytest.approx(0.01 * side, rel=1e-4)


def test_answers_that_are_withheld_teach_nothing(tiny: Callable[..., RunConfig]) -> None:
    trainer = make(tiny())
    trainer.begin_epoch(1)
    given = batch()
    first = replace(given.records[0], queries=(Query("q", (), "a#0"),))
    with pytest.raises(TrainingError, match=r"^video 'a' has a query without a moment: it cannot be trained on$"):
        trainer.step(replace(given, moments=None, records=(first, given.records[1])))


def test_a_loss_that_is_not_finite_names_the_batch(tiny: Callable[..., RunConfig]) -> None:
    trainer = make(tiny())
    trainer.begin_epoch(2)
    given = batch()
    with pytest.raises(
        TrainingError, match=r"^the loss is not finite in epoch 2 \(iou nan.*videos a, b: the last"
    ):
        trainer.step(replace(given, video=given.video * float("nan")))


def test_precision_that_the_device_lacks(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match=r"^train\.precision fp16 needs a CUDA device: use fp32, or bf16$"):
        make_accelerator(tiny(train={"precision": "fp16"}).train, cpu=True)


def test_the_cosine_falls_to_nothing(tiny: Callable[..., RunConfig]) -> None:
    train = tiny(train={"schedule": "cosine", "milestones": [], "epochs": 4, "lr": 0.1}).train
    assert [learning_rate(train, epoch) for epoch in (1, 2, 3, 4)] == pytest.approx(
        [0.1, 0.05 * (1 + 0.5**0.5), 0.05, 0.05 * (1 - 0.5**0.5)]
    )


def test_the_average_of_weights_by_hand(tiny: Callable[..., RunConfig]) -> None:
    """The first step's weights, then a quarter of every new step's."""
    trainer = make(tiny(train={"averaging": 0.75}))
    trainer.begin_epoch(1)
    seen = []
    for _ in range(3):
        trainer.step(batch())
        seen.append(trainer.network.query_iou.weight.detach().clone())
    expected = 0.75 * (0.75 * seen[0] + 0.25 * seen[1]) + 0.25 * seen[2]
    torch.testing.assert_close(trainer.result.query_iou.weight, expected)
    assert make(tiny()).result is not None
    assert make(tiny()).average is None


def test_members_learn_as_each_would_alone(tiny: Callable[..., RunConfig]) -> None:
    """The loss is the mean of theirs, and so is each gradient but for that factor."""
    config = tiny(model={"members": 2, "dropout": 0.0, "clip_dropout": 0.0}, train={"grad_clip": 1e9})
    torch.manual_seed(0)
    network = make_network(config.model)
    first, second = (copy.deepcopy(member) for member in members_of(network))
    trainer = Trainer(network, config, Accelerator(cpu=True))
    trainer.begin_epoch(1)
    record = trainer.step(batch())
    alone = []
    for member in (first, second):
        by_itself = Trainer(member, config, Accelerator(cpu=True))
        by_itself.begin_epoch(1)
        alone.append(by_itself.step(batch()).losses["total"])
    assert record.losses["total"] == pytest.approx(sum(alone) / 2, rel=1e-5)
    for together, by_itself in zip(members_of(trainer.network), (first, second), strict=True):
        # AdamW does not see the factor.
        torch.testing.assert_close(together.query_iou.weight, by_itself.query_iou.weight, atol=1e-5, rtol=1e-4)


def test_withheld_answers_are_said_before_anything_is_pasted(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(
        model={"contrastive_head": False},
        train={"paste": 0.5, "protocol": "single"},
        loss={"contrastive_weight": 0.0},
    )
    trainer = make(config)
    trainer.begin_epoch(1)
    records = (VideoRecord("a", 10.0, (Query("q", (), "a#0"), Query("q", (), "a#1"))), batch().records[1])
    with pytest.raises(TrainingError, match="video 'a' has a query without a moment: it cannot be trained on"):
        trainer.step(replace(batch(), moments=None, records=records))
