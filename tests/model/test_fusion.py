"""Clips joined with the query, and models that do so."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import gelu

from mrnet.config.model import ModelConfig
from mrnet.config.run import RunConfig
from mrnet.errors import ConfigError
from mrnet.model.fusion import GatedFusion
from mrnet.model.mrnet import MRNet
from mrnet.retrieval.trained import fuse_scores


def test_by_hand() -> None:
    """A norm of two values is 1 for the larger and -1 for the other."""
    fusion = GatedFusion(2, dropout=0.0)
    with torch.no_grad():
        fusion.reduce.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0]]))
        fusion.reduce.bias.zero_()
        fusion.norm = torch.nn.Identity()  # type: ignore[assignment]
        fused = fusion(torch.tensor([[[5.0, 1.0], [1.0, 5.0]]]), torch.tensor([[2.0, 0.0]]))
    # clip (1, -1) and (-1, 1), query (1, -1): first entries, and the query's first plus the product of the firsts.
    expected = gelu(torch.tensor([[[1.0, 2.0], [-1.0, 0.0]]]))
    torch.testing.assert_close(fused, expected, atol=1e-4, rtol=0)


def fused_model(tiny_model: Callable[..., ModelConfig], **changes: object) -> MRNet:
    torch.manual_seed(0)
    return MRNet(tiny_model(fusion="gate", attention="video", **changes)).eval()


def test_a_query_has_its_own_map_under_both_protocols(
    tiny_model: Callable[..., ModelConfig], batch_inputs: tuple[torch.Tensor, ...]
) -> None:
    model = fused_model(tiny_model)
    assert model.config.video_depends_on_query
    with torch.no_grad():
        single, joint = (model(*batch_inputs, protocol) for protocol in ("single", "joint"))
    assert single.map_of_query.tolist() == joint.map_of_query.tolist() == list(range(6))
    torch.testing.assert_close(single.iou_logits(), joint.iou_logits())


def test_clips_hear_the_query(
    tiny_model: Callable[..., ModelConfig], batch_inputs: tuple[torch.Tensor, ...]
) -> None:
    model = fused_model(tiny_model)
    video, queries, mask = batch_inputs
    with torch.no_grad():
        one, other = (model(video, q, mask, "single") for q in (queries, queries.flip(-1)))
    assert not torch.allclose(one.iou_proposals, other.iou_proposals)


def test_it_takes_one_query(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(
        ConfigError, match="fusion gate joins clips with one query: it takes attention video or off"
    ):
        tiny(model={"fusion": "gate", "attention": "all"})


def test_the_scale_of_features_does_not_matter_behind_a_norm(
    tiny_model: Callable[..., ModelConfig], batch_inputs: tuple[torch.Tensor, ...]
) -> None:
    video, queries, mask = batch_inputs
    changes = {True: 0.0, False: 0.0}
    for normed in changes:
        torch.manual_seed(0)
        model = MRNet(tiny_model(input_norm=normed)).eval()
        with torch.no_grad():
            one, other = (model(video * s, queries * s, mask, "single").iou_logits() for s in (1, 100))
        changes[normed] = (one - other).abs().max().item()
    assert changes[True] < 1e-3 < changes[False]


def test_proposals_by_themselves(
    tiny_model: Callable[..., ModelConfig], batch_inputs: tuple[torch.Tensor, ...]
) -> None:
    """Without convolutions: the logit is read out of GELU of the cell, whatever the query."""
    torch.manual_seed(0)
    model = MRNet(
        tiny_model(head_layers=0, iou_score="readout", proposals="mean").model_copy(
            update={"contrastive_head": False}
        )
    ).eval()
    video, queries, mask = batch_inputs
    seen: list[torch.Tensor] = []
    cells = model.proposal_map.cells
    model.proposal_map.cells = lambda clips: seen.append(cells(clips)) or seen[0]  # type: ignore[method-assign]
    with torch.no_grad():
        embeddings = model(video, queries, mask, "single")
    torch.testing.assert_close(embeddings.iou_proposals, gelu(seen[0]))
    assert model.readout is not None
    by_hand = embeddings.iou_proposals[3] @ model.readout.weight[0]
    torch.testing.assert_close(embeddings.iou_logits()[3], by_hand)
    assert embeddings.contrastive_proposals is None
    iou = embeddings.iou_logits().sigmoid()
    assert torch.equal(fuse_scores(iou, embeddings.contrastive_scores(), 0.5), iou)


def test_a_readout_needs_proposals_that_know_the_query(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match="iou_score readout does not look at the query: it takes fusion gate"):
        tiny(model={"iou_score": "readout", "attention": "video"})
