"""Queries in a drawn order, answers in the order given."""

import torch
from torch import Tensor

from mrnet.evaluation.order import Shuffled
from mrnet.retrieval.scorer import Candidates


class Numbering:
    """Scores a query by its own value, and by the place at which it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[float]] = []

    def encode_video(self, rows: Tensor, duration_s: float) -> float:
        return float(rows.sum()) + duration_s

    def candidates(self, video: float, queries: Tensor) -> Candidates:
        self.asked.append(queries[:, 0].tolist())
        places = torch.arange(len(queries), dtype=torch.float32)
        return Candidates(torch.full((2, 2), video), torch.stack([queries[:, 0], places], dim=1))


def test_order_is_drawn_anew_for_each_video_and_undone_in_the_answers() -> None:
    queries = torch.arange(6.0)[:, None]
    scorer = Numbering()
    shuffled = Shuffled(scorer, seed=1)
    assert shuffled.encode_video(torch.ones(2, 1), 3.0) == 5.0
    answers = [shuffled.candidates(0.0, queries).scores for _ in range(3)]
    assert len({tuple(order) for order in scorer.asked}) == 3
    for order, scores in zip(scorer.asked, answers, strict=True):
        assert sorted(order) == list(range(6))
        assert scores[:, 0].tolist() == list(range(6))
        assert scores[:, 1].tolist() == [order.index(float(number)) for number in range(6)]


def test_same_seed_same_orders() -> None:
    queries = torch.arange(6.0)[:, None]
    first, again, other = Numbering(), Numbering(), Numbering()
    for scorer, seed in ((first, 1), (again, 1), (other, 2)):
        shuffled = Shuffled(scorer, seed)
        for _ in range(2):
            shuffled.candidates(0.0, queries)
    assert first.asked == again.asked != other.asked
