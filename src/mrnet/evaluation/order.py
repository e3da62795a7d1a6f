"""Queries of a video in an order that says nothing of when their moments are."""

from dataclasses import replace
from typing import Generic

import torch
from torch import Tensor

from mrnet.retrieval.scorer import Candidates, Scorer, Video


class Shuffled(Generic[Video]):
    """A scorer that is given the queries of each video in a drawn order; its answers are in the order given.

    Of a model that answers queries jointly it tells what is left without the order of their true starts.

    Args:
        scorer: answers the queries of one call together.
        seed: of the orders, one a call.
    """

    def __init__(self, scorer: Scorer[Video], seed: int = 0) -> None:
        self._scorer = scorer
        self._generator = torch.Generator().manual_seed(seed)

    def encode_video(self, rows: Tensor, duration_s: float) -> Video:
        """As :meth:`mrnet.retrieval.scorer.Scorer.encode_video`."""
        return self._scorer.encode_video(rows, duration_s)

    def candidates(self, video: Video, queries: Tensor) -> Candidates:
        """As :meth:`mrnet.retrieval.scorer.Scorer.candidates`."""
        order = torch.randperm(len(queries), generator=self._generator)
        found = self._scorer.candidates(video, queries[order])
        return replace(found, scores=found.scores[order.argsort()])
