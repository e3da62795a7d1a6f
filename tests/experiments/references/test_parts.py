"""Inputs of the reference networks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from mrnet.config.model import ModelConfig
from mrnet.experiments.references.parts import FusedClips, Inputs


def test_clips_are_means_of_projected_rows(tiny_model: Callable[..., ModelConfig]) -> None:
    config = tiny_model()
    inputs = Inputs(config).eval()
    video, queries = torch.randn(2, 16, 6), torch.randn(2, 5)
    clips, query = inputs(video, queries)
    rows = F.linear(F.layer_norm(video, (6,)), inputs.video[2].weight, inputs.video[2].bias)
    torch.testing.assert_close(clips, rows.unflatten(1, (8, 2)).mean(dim=2))
    torch.testing.assert_close(
        query, F.linear(F.layer_norm(queries, (5,)), inputs.query[2].weight, inputs.query[2].bias)
    )


def test_fused_clips_know_query_and_place(tiny_model: Callable[..., ModelConfig]) -> None:
    torch.manual_seed(0)
    fused = FusedClips(tiny_model()).eval()
    video = torch.ones(2, 16, 6)
    same, other = fused(video, torch.stack([torch.ones(5), torch.arange(5.0)])).detach()
    assert same.shape == (8, 8)
    assert not torch.allclose(same, other)
    assert not torch.allclose(same[0], same[1])
