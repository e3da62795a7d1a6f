"""Networks side by side: as each by itself."""

from collections.abc import Callable

import torch

from mrnet.config.model import ModelConfig
from mrnet.config.spec import DecodeConfig
from mrnet.model.ensemble import Ensemble, make_network, members_of
from mrnet.model.mrnet import MRNet
from mrnet.retrieval.trained import TrainedScorer


def test_one_is_a_network_as_ever(tiny_model: Callable[..., ModelConfig]) -> None:
    network = make_network(tiny_model())
    assert isinstance(network, MRNet)
    assert members_of(network) == [network]


def test_scores_are_the_mean_of_the_members(tiny_model: Callable[..., ModelConfig]) -> None:
    torch.manual_seed(0)
    network = make_network(tiny_model().model_copy(update={"members": 3}))
    assert isinstance(network, Ensemble)
    first, second, third = members_of(network)
    assert not torch.equal(first.query_encoder.weight, second.query_encoder.weight)
    rows, queries = torch.randn(20, first.config.video_dim), torch.randn(4, first.config.query_dim)
    found = []
    for scored in (network, first, second, third):
        scorer = TrainedScorer(scored, DecodeConfig())
        video = scorer.encode_video(rows, 30.0)
        found.append(scorer.candidates(video, queries))
    together, *alone = found
    torch.testing.assert_close(together.scores, torch.stack([one.scores for one in alone]).mean(dim=0))
    assert torch.equal(together.spans_s, alone[0].spans_s)


def test_what_is_kept_of_a_video_is_counted(tiny_model: Callable[..., ModelConfig]) -> None:
    config = tiny_model().model_copy(update={"members": 2})
    rows = torch.randn(20, config.video_dim)
    one, two = (
        TrainedScorer(network, DecodeConfig()).encode_video(rows, 30.0).nbytes
        for network in (make_network(config.model_copy(update={"members": 1})), make_network(config))
    )
    assert two == 2 * one > 0
