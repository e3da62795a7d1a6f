"""The assembled network: padding, protocols, variants."""

import itertools
from collections.abc import Callable

import pytest
import torch

from mrnet.config import ModelConfig
from mrnet.model.mrnet import MRNet

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def build(config: ModelConfig) -> MRNet:
    torch.manual_seed(0)
    return MRNet(config).eval()


def test_batching_and_padding_change_nothing(tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs) -> None:
    model = build(tiny_model())
    video, queries, mask = batch_inputs
    for mode in ("single", "joint"):
        together = model.score(model(video, queries, mask, mode))
        apart = [
            model.score(model(video[i : i + 1], queries[i : i + 1, :n], torch.ones(1, n, dtype=torch.bool), mode))
            for i, n in enumerate([2, 1, 3])
        ]
        torch.testing.assert_close(together.iou, torch.cat([scores.iou for scores in apart]))
        torch.testing.assert_close(together.contrastive, torch.cat([scores.contrastive for scores in apart]))


def test_single_means_that_no_other_query_is_seen(
    tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    model = build(tiny_model())
    video, queries, mask = batch_inputs
    changed = queries.clone()
    changed[2, 1:] += 1  # two of the third video's queries
    single, single_changed = (model.score(model(video, q, mask, "single")).iou for q in (queries, changed))
    joint, joint_changed = (model.score(model(video, q, mask, "joint")).iou for q in (queries, changed))
    torch.testing.assert_close(single[:4], single_changed[:4])
    assert (single[4:] - single_changed[4:]).abs().max() > 1e-4
    assert (joint[3] - joint_changed[3]).abs().max() > 1e-4  # the leak


@pytest.mark.parametrize("changes", [{"attention": "video"}, {"transformer": False}])
def test_protocols_agree_where_queries_do_not_meet(
    changes: dict[str, object], tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    config = tiny_model(**changes)
    assert not config.video_depends_on_query
    model = build(config)
    torch.testing.assert_close(
        model.score(model(*batch_inputs, "single")).iou, model.score(model(*batch_inputs, "joint")).iou
    )


def test_scores_stay_in_valid_cells_and_range(
    tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    model = build(tiny_model())
    scores = model.score(model(*batch_inputs))
    assert scores.iou.shape == scores.contrastive.shape == (6, 8, 8)
    assert (scores.iou[:, ~model.valid] == 0).all()
    assert (scores.contrastive[:, ~model.valid] == 0).all()
    assert (scores.iou[:, model.valid] > 0).all()
    assert scores.contrastive.abs().max() <= 1 + 1e-6


def test_embeddings_say_which_video_and_map_a_query_belongs_to(
    tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    model = build(tiny_model())
    joint = model(*batch_inputs, "joint")
    single = model(*batch_inputs, "single")
    assert joint.video_of_query.tolist() == single.video_of_query.tolist() == [0, 0, 1, 2, 2, 2]
    assert joint.map_of_query.tolist() == [0, 0, 1, 2, 2, 2]
    assert joint.video_of_map.tolist() == [0, 1, 2]
    assert single.map_of_query.tolist() == [0, 1, 2, 3, 4, 5]
    assert single.video_of_map.tolist() == [0, 0, 1, 2, 2, 2]


VARIANTS = [
    {"projections": projections, "attention": attention, "mask": mask, "softmax": softmax}
    for projections, attention, mask, softmax in itertools.product(
        ["modality", "shared"], ["all", "video", "plain"], ["none", "decay", "sparse", "both"], [True, False]
    )
] + [
    {"attention": "off", "mask": "none"},
    {"transformer": False},
    {"bidirectional": False},
    *({"proposals": p, "boundary": b} for p in ("pool", "conv") for b in ("none", "add", "concat")),
    {"num_clips": 5, "num_pre_clips": 10, "pooling_counts": [2, 1], "head_kernel": 5, "head_layers": 1},
    {"dim": 6, "heads": 3, "layers": 1, "head_hidden": 4, "head_kernel": 1, "head_layers": 3},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda c: "-".join(str(v) for v in c.values()))
def test_every_variant_trains_every_weight(
    changes: dict[str, object], tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    """Each parameter gets a finite gradient in both modes: none is created and then left out."""
    config = tiny_model(**changes)
    for mode in ("single", "joint"):
        model = build(config).train()
        video, queries, mask = batch_inputs
        embeddings = model(video[:, : config.num_pre_clips], queries, mask, mode)
        scores = model.score(embeddings)
        (scores.iou.sum() + scores.contrastive.sum() + embeddings.sparsity).backward()
        untrained = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert untrained == {f"proposal_head.convs.{i}.bias" for i in range(config.head_layers)}
        for name, parameter in model.named_parameters():
            if name not in untrained:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_cpu(tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs) -> None:
    model = build(tiny_model())
    expected = model.score(model(*batch_inputs))
    found = model.cuda().score(model(*(tensor.cuda() for tensor in batch_inputs)))
    torch.testing.assert_close(found.iou.cpu(), expected.iou, atol=1e-4, rtol=1e-3)
