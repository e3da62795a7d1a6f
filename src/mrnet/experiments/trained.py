"""What a run leaves behind, whatever network it trained: something to ask, and what that costs."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mrnet.evaluation.predictions import Prediction
from mrnet.evaluation.run import MOMENTS_PER_QUERY, Questions
from mrnet.experiments.result import Cost
from mrnet.retrieval.rank import rank
from mrnet.retrieval.scorer import Scorer
from mrnet.types import AskedProtocol

SplitName = Literal["val", "test"]

_TIMED = 30  # queries; the median of them says what one takes
_WARM = 3


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        network: its best epoch.
        scorer: asks it, on the CPU, as a user would.
        counted: the same with plain convolutions, whose arithmetic can be counted, and every video whole.
        answers: split -> protocol -> ranked moments of every query.
        seconds: that training took.
        epochs: trained.
        best_epoch: the one kept.
    """

    network: nn.Module
    scorer: Scorer[Any]
    counted: Scorer[Any]
    answers: Callable[[SplitName], Mapping[AskedProtocol, list[Prediction]]]
    seconds: float
    epochs: int
    best_epoch: int

    def cost(self, questions: Questions, nms_threshold: float) -> Cost:
        """What it took, and what an answer takes in this process, with as many threads as torch has here.

        Args:
            questions: videos and queries to measure with.
            nms_threshold: as answers are ranked.
        """
        videos = [record for record in questions.records if record.queries][: _TIMED + _WARM]
        asked = [
            (questions.video_rows(record.video_id), record.duration_s, questions.query_rows(record)[:1])
            for record in videos
        ]
        times_s = [_time(self.scorer, *one, nms_threshold) for one in asked]
        counter = FlopCounterMode(display=False)
        rows, duration_s, query = asked[0]
        with _written_out(), counter:
            self.counted.candidates(self.counted.encode_video(rows, duration_s), query)
        return Cost(
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            multiply_adds=counter.get_total_flops() // 2,
            ms_per_query=round(1000 * statistics.median(times_s[_WARM:] or times_s), 2),
            seconds=round(self.seconds, 1),
            epochs=self.epochs,
            best_epoch=self.best_epoch,
        )


def _time(scorer: Scorer[Any], rows: Tensor, duration_s: float, query: Tensor, nms_threshold: float) -> float:
    with torch.inference_mode():
        started = time.process_time()  # of this process alone, whatever else the machine does
        rank(scorer.candidates(scorer.encode_video(rows, duration_s), query), MOMENTS_PER_QUERY, nms_threshold)
        return time.process_time() - started


@contextmanager
def _written_out() -> Iterator[None]:
    """Attention by products that can be counted, not by one operation of PyTorch's."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
