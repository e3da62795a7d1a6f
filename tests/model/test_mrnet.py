"""The assembled network: padding, protocols, variants."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from mrnet.config.model import ModelConfig
from mrnet.model.fast.routes import Route
from mrnet.model.mrnet import Embeddings, MRNet
from mrnet.types import QueryProtocol

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Scores(NamedTuple):
    """``(n, v)`` of the valid cells."""

    iou: torch.Tensor
    contrastive: torch.Tensor


def scores_of(embeddings: Embeddings) -> Scores:
    return Scores(embeddings.iou_logits().sigmoid(), embeddings.contrastive_scores())


def build(config: ModelConfig) -> MRNet:
    torch.manual_seed(0)
    return MRNet(config).eval()


def test_batching_and_padding_change_nothing(tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs) -> None:
    model = build(tiny_model())
    video, queries, mask = batch_inputs
    for protocol in ("single", "joint"):
        together = scores_of(model(video, queries, mask, protocol))
        apart = []
        for i, n in enumerate([2, 1, 3]):
            all_real = torch.ones(1, n, dtype=torch.bool)
            apart.append(scores_of(model(video[i : i + 1], queries[i : i + 1, :n], all_real, protocol)))
        torch.testing.assert_close(together.iou, torch.cat([scores.iou for scores in apart]))
        torch.testing.assert_close(together.contrastive, torch.cat([scores.contrastive for scores in apart]))


def test_single_means_that_no_other_query_is_seen(
    tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    model = build(tiny_model())
    video, queries, mask = batch_inputs
    changed = queries.clone()
    changed[2, 1:] += 1  # two of the third video's queries
    single, single_changed = (scores_of(model(video, q, mask, "single")).iou for q in (queries, changed))
    joint, joint_changed = (scores_of(model(video, q, mask, "joint")).iou for q in (queries, changed))
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
        scores_of(model(*batch_inputs, "single")).iou, scores_of(model(*batch_inputs, "joint")).iou
    )


@pytest.mark.parametrize("protocol", ["single", "joint"])
def test_scores_are_of_each_querys_own_valid_cells(
    protocol: QueryProtocol, tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    model = build(tiny_model())
    embeddings = model(*batch_inputs, protocol)
    scores = scores_of(embeddings)
    cells = int(model.valid.sum())
    assert cells == 8 + 7 + 6 + 5 + 2 + 1  # the main diagonal, three of stride 1, two of stride 2
    assert scores.iou.shape == scores.contrastive.shape == (6, cells)
    for query, its_map in enumerate(embeddings.map_of_query.tolist()):
        iou = torch.sigmoid(10 * embeddings.iou_proposals[its_map] @ embeddings.iou_queries[query])
        contrastive = embeddings.contrastive_proposals[its_map] @ embeddings.contrastive_queries[query]
        torch.testing.assert_close(scores.iou[query], iou)
        torch.testing.assert_close(scores.contrastive[query], contrastive)
    assert (scores.iou > 0).all()
    assert (scores.iou < 1).all()
    assert scores.contrastive.abs().max() <= 1 + 1e-6


def test_proposals_that_no_query_touches_may_be_given(
    tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    video, queries, mask = batch_inputs
    model = build(tiny_model(attention="video"))
    clips = model.encode_video(video)
    made = scores_of(model.embed(clips, queries, mask, "single"))
    given = scores_of(model.embed(clips, queries, mask, "single", model.embed_proposals(clips)))
    torch.testing.assert_close(given.iou, made.iou)
    torch.testing.assert_close(given.contrastive, made.contrastive)
    touched = build(tiny_model())
    with pytest.raises(ValueError) as caught:
        touched.embed_proposals(clips)
    assert str(caught.value) == (
        "the proposals of this model depend on the query: they cannot be embedded without one"
    )


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
    {"projections": "shared", "tied_initialisation": True},
    {"mask": "decay", "doubled_diagonal": False},
    *({"softmax": False, "zero_linear_retention": True, "attention": attention} for attention in ("all", "video")),
    *({"proposals": p, "boundary": b} for p in ("pool", "conv") for b in ("none", "add", "concat")),
    {"num_clips": 5, "num_pre_clips": 10, "pooling_counts": [2, 1], "head_kernel": 5, "head_layers": 1},
    {"dim": 6, "heads": 3, "layers": 1, "head_hidden": 4, "head_kernel": 1, "head_layers": 3},
]


def untrained(config: ModelConfig) -> set[str]:
    """Weights without a gradient, each for a reason."""
    # Batch norm removes these biases, so they are not trained.
    names = {f"proposal_head.convs.{i}.bias" for i in range(config.head_layers)}
    for layer in range(config.layers):
        retention = f"transformer.layers.{layer}.retention"
        if config.zero_linear_retention:  # the quirk multiplies all that goes through attention by 0
            attending = ("video", "text") if config.attention == "all" else ("video",)
            names |= {f"{retention}.projections.{who}.{which}.weight" for who in attending for which in "qkv"}
            names |= {f"{retention}.output.weight"}
            if config.attention == "all":  # then nothing goes past it but the sums that layers add to
                names |= {f"transformer.layers.{layer}.norm1.{kind}" for kind in ("weight", "bias")}
        unmasked = config.mask == "none" or config.attention == "plain"
        if config.projections == "shared" and config.softmax and unmasked:
            names |= {f"{retention}.projections.shared.k.bias"}  # adds the same to all of a softmax's logits
    return names


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda c: "-".join(str(v) for v in c.values()))
@pytest.mark.parametrize("protocol", ["single", "joint"])
def test_every_variant_trains_every_weight(
    changes: dict[str, object],
    protocol: QueryProtocol,
    tiny_model: Callable[..., ModelConfig],
    batch_inputs: Inputs,
) -> None:
    """Each parameter gets a gradient that is not zero, but for those that cannot have one."""
    config = tiny_model(**changes)
    model = build(config).double().train()
    video, queries, mask = batch_inputs
    embeddings = model(video[:, : config.num_pre_clips].double(), queries.double(), mask, protocol)
    scores = scores_of(embeddings)
    (scores.iou.sum() + scores.contrastive.sum() + embeddings.sparsity).backward()
    zero = set()
    for name, parameter in model.named_parameters():
        largest = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        assert largest < 1e6, name
        if largest < 1e-12:
            zero.add(name)
    assert zero == untrained(config)


@pytest.mark.parametrize("route", ["dense", "tiled"])
def test_double_precision_is_kept(
    route: Route, tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs
) -> None:
    torch.manual_seed(0)
    model = MRNet(tiny_model(), route=route).double().eval()
    video, queries, mask = batch_inputs
    embeddings = model(video.double(), queries.double(), mask, "single")
    lengths = embeddings.iou_proposals.norm(dim=-1)
    assert lengths.dtype == embeddings.contrastive_queries.dtype == embeddings.sparsity.dtype == torch.float64
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-14)


def test_route_and_budget_reach_the_head(tiny_model: Callable[..., ModelConfig]) -> None:
    stack = MRNet(tiny_model(), route="tiled", memory_budget=123).proposal_head.stack
    assert (stack.route, stack.memory_budget) == ("tiled", 123)
    stack = MRNet(tiny_model()).proposal_head.stack
    assert (stack.route, stack.memory_budget) == ("auto", None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_cpu(tiny_model: Callable[..., ModelConfig], batch_inputs: Inputs) -> None:
    model = build(tiny_model())
    expected = scores_of(model(*batch_inputs, "single"))
    found = scores_of(model.cuda()(*(tensor.cuda() for tensor in batch_inputs), "single"))
    torch.testing.assert_close(found.iou.cpu(), expected.iou, atol=1e-4, rtol=1e-3)
