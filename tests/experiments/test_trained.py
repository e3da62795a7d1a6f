"""What a network costs."""

import torch
from torch import Tensor, nn

from mrnet.experiments.trained import Trained
from mrnet.retrieval.scorer import Candidates
from mrnet.types import Query, Span, VideoRecord


class Matcher:
    """Videos through a linear layer, queries against the result."""

    def __init__(self, network: nn.Linear) -> None:
        self.network = network
        self.asked = 0

    def encode_video(self, rows: Tensor, duration_s: float) -> Tensor:  # noqa: ARG002
        video: Tensor = self.network(rows)
        return video

    def candidates(self, video: Tensor, queries: Tensor) -> Candidates:
        self.asked += 1
        spans_s = torch.arange(len(video))[:, None] + torch.tensor([0.0, 1.0])
        return Candidates(spans_s, queries @ video.T)


class Questions:
    """Two videos of 7 rows, the first with two queries."""

    records = (
        VideoRecord("v", 7.0, (Query("a", (Span(0, 1),), "1"), Query("b", (Span(0, 1),), "2"))),
        VideoRecord("w", 7.0, (Query("c", (Span(0, 1),), "3"),)),
    )

    def video_rows(self, video_id: str) -> Tensor:  # noqa: ARG002
        return torch.ones(7, 3)

    def query_rows(self, record: VideoRecord) -> Tensor:
        return torch.ones(len(record.queries), 5)


def test_cost_is_that_of_one_query_of_one_video() -> None:
    network = nn.Linear(3, 5)
    fast, plain = Matcher(network), Matcher(network)
    trained = Trained(network, fast, plain, answers=lambda _: {}, seconds=12.34, epochs=3, best_epoch=2)
    cost = trained.cost(Questions(), 0.5)
    assert cost.parameters == 3 * 5 + 5
    assert cost.multiply_adds == 7 * 3 * 5 + 7 * 5  # the layer, and one query
    assert (cost.seconds, cost.epochs, cost.best_epoch) == (12.3, 3, 2)
    assert (fast.asked, plain.asked) == (2, 1)
    assert cost.ms_per_query > 0
