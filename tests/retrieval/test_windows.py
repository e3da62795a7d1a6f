"""Long videos in windows: where they lie, what is merged, and that nothing changes for a video that fits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mrnet.config.model import ModelConfig
from mrnet.config.spec import DecodeConfig, VideoLengths
from mrnet.model.mrnet import MRNet
from mrnet.retrieval.rank import rank
from mrnet.retrieval.scorer import Candidates
from mrnet.retrieval.trained import TrainedScorer
from mrnet.retrieval.windows import WindowedScorer

FOUR = VideoLengths(usual_s=4, longest_s=5)


class Level:
    """Every run of rows is a moment, and fits a query by how little its rows lie away from it; a row lasts a second."""

    def __init__(self) -> None:
        self.encoded: list[list[float]] = []

    def encode_video(self, rows: Tensor, duration_s: float) -> Tensor:
        assert duration_s == pytest.approx(len(rows))
        self.encoded.append(rows[:, 0].tolist())
        return rows[:, 0]

    def candidates(self, video: Tensor, queries: Tensor) -> Candidates:
        spans = torch.combinations(torch.arange(len(video) + 1), 2)
        away = torch.stack([(video[start:end] - queries).abs().mean(dim=1) for start, end in spans], dim=1)
        return Candidates(spans.float(), 1 - away)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_windows_overlap_by_half_and_reach_from_end_to_end() -> None:
    scorer = Level()
    video = WindowedScorer(scorer, FOUR).encode_video(column(*range(11)), 11.0)
    assert scorer.encoded == [[0, 1, 2, 3], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [7, 8, 9, 10]]
    assert [(window.start_s, window.end_s) for window in video] == [(0, 4), (1, 5), (3, 7), (5, 9), (7, 11)]


@pytest.mark.parametrize("lengths", [None, FOUR])
def test_a_video_that_fits_is_asked_whole(lengths: VideoLengths | None) -> None:
    scorer, video, query = Level(), column(3, 1, 4, 1, 5), column(1, 4)
    windowed = WindowedScorer(scorer, lengths)
    found = windowed.candidates(windowed.encode_video(video, 5.0), query)
    whole = scorer.candidates(video[:, 0], query)
    assert torch.equal(found.spans_s, whole.spans_s)
    assert torch.equal(found.scores, whole.scores)


def test_what_an_edge_cuts_off_is_left_to_the_neighbour() -> None:
    windowed = WindowedScorer(Level(), FOUR)
    video = windowed.encode_video(column(0, 0, 0, 0, 0, 0), 6.0)
    found = windowed.candidates(video, column(0)).spans_s.tolist()
    assert len(video) == 2
    assert found == [
        [0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4], [2, 3], [2, 4],
        # ends with the first window: [3, 4] is left out, as the second one sees what follows
        [2, 4], [2, 5], [2, 6], [3, 4], [3, 5], [3, 6], [4, 5], [4, 6], [5, 6],
        # begins with the second window: [2, 3] is left out, as the first one sees what is before
    ]  # fmt: skip


def test_a_moment_is_found_where_it_is_in_the_video() -> None:
    windowed = WindowedScorer(Level(), FOUR)
    video = windowed.encode_video(column(0, 0, 0, 0, 0, 7, 7, 0, 0, 0, 3, 3, 0), 13.0)
    [[first], [second], [third]] = rank(windowed.candidates(video, column(7, 3, 5)), 1, 0.5)
    assert first[:3] == (5.0, 6.0, 1.0)
    assert second[:3] == (10.0, 11.0, 1.0)
    assert third[:3] == (5.0, 6.0, -1.0)


def test_windows_that_are_not_kept_are_encoded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Level()
    windowed, rows, queries = WindowedScorer(scorer, FOUR), column(*range(11)), column(2, 9)
    kept = windowed.candidates(windowed.encode_video(rows, 11.0), queries)
    assert len(scorer.encoded) == 5
    monkeypatch.setattr("mrnet.retrieval.windows._KEPT_BYTES", 32)  # two windows of four rows
    video = windowed.encode_video(rows, 11.0)
    assert [window.encoded is None for window in video] == [False, False, True, True, True]
    found = windowed.candidates(video, queries)
    assert torch.equal(found.scores, kept.scores)
    assert torch.equal(found.spans_s, kept.spans_s)


def test_a_model_sees_each_window_as_a_video(tiny_model: Callable[..., ModelConfig]) -> None:
    torch.manual_seed(0)
    scorer = TrainedScorer(MRNet(tiny_model()).eval(), DecodeConfig())
    rows, queries = torch.randn(48, 6), torch.randn(3, 5)
    windowed = WindowedScorer(scorer, VideoLengths(usual_s=16, longest_s=20))
    found = windowed.candidates(windowed.encode_video(rows, 24.0), queries)
    spans, scores = [], []
    for start in (0, 16):  # 32 rows of 16 s, the second from 8 s on
        window = scorer.candidates(scorer.encode_video(rows[start : start + 32], 16.0), queries)
        moved = window.spans_s + start / 2
        inside = (moved[:, 0] > 8) if start == 0 else (moved[:, 1] < 16)
        kept = ~(inside & (moved[:, 1] == 16 if start == 0 else moved[:, 0] == 8))
        assert not kept.all()
        spans.append(moved[kept])
        scores.append(window.scores[:, kept])
    torch.testing.assert_close(found.spans_s, torch.cat(spans))
    torch.testing.assert_close(found.scores, torch.cat(scores, dim=1))
