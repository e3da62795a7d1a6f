"""Present and absent queries: who is asked what, and the figures against hand-worked ones."""

import logging
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnet.config.spec import Calibration
from mrnet.evaluation.absence import (
    Outcomes,
    absence_report,
    ask_absent,
    auroc,
    calibration_error,
    fit_calibration,
    probabilities,
    report_absence,
)
from mrnet.retrieval.scorer import Candidates
from mrnet.types import Query, VideoRecord

CALIBRATION = Calibration(bias=-4, weights=(8, 0, 0, 0, 0), footage="made up")


class Directions:
    """Every query is a direction of its own; those of a video are alike to none, but for ``twins``."""

    def __init__(self, videos: int, queries: int, twins: bool = False) -> None:
        vectors = torch.eye(videos * queries)
        if twins:  # the first query of the first two videos says the same
            vectors[queries] = vectors[0]
        self.vectors = vectors
        self.records = [
            VideoRecord(
                f"v{v}",
                2.0 * queries,
                tuple(Query(f"{v} {q}", ((2.0 * q, 2.0 * q + 2),), f"{v}-{q}") for q in range(queries)),
            )
            for v in range(videos)
        ]
        self.queries = queries

    def video_rows(self, video_id: str) -> Tensor:
        first = int(video_id[1:]) * self.queries
        return self.vectors[first : first + self.queries]

    def query_rows(self, record: VideoRecord) -> Tensor:
        return Directions.video_rows(self, record.video_id)


class Cosines:
    """Two seconds a row; remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[Tensor] = []

    def encode_video(self, rows: Tensor, duration_s: float) -> Tensor:  # noqa: ARG002
        return rows

    def candidates(self, video: Tensor, queries: Tensor) -> Candidates:
        self.asked.append(queries)
        starts = 2.0 * torch.arange(len(video))
        return Candidates(torch.stack([starts, starts + 2], dim=1), queries @ video.T)


def outcomes(scores: Sequence[float], right: Sequence[int], kinds: Sequence[str]) -> Outcomes:
    rows = torch.zeros(len(scores), 5)
    rows[:, 0] = torch.tensor(scores)
    everything = np.ones(len(scores), dtype=bool)
    videos = np.arange(len(scores))
    return Outcomes(rows, torch.tensor(right, dtype=torch.float32), everything, np.array(kinds), videos)


def test_as_many_of_other_videos_are_asked() -> None:
    scorer = Cosines()
    found = ask_absent(scorer, Directions(5, 4), 0.5)
    first = found.first
    kinds, counts = np.unique(found.kind[first], return_counts=True)
    assert dict(zip(kinds.tolist(), counts.tolist(), strict=True)) == {"present": 20, "near": 10, "foreign": 10}
    # The scorer knows what is there: a first answer is right where the query is of the video, and only there.
    assert found.right[torch.from_numpy(first)].tolist() == (found.kind[first] == "present").astype(float).tolist()
    for number, asked in enumerate(scorer.asked):
        assert torch.equal(asked[:4], torch.eye(20)[4 * number : 4 * number + 4])
        assert len(torch.unique(asked, dim=0)) == 8  # none twice, none of its own


def test_sentences_that_say_the_same_are_not_absent() -> None:
    scorer = Cosines()
    ask_absent(scorer, Directions(2, 2, twins=True), 0.5)
    for asked in scorer.asked:
        assert len(asked) == 3  # of the other two queries, one says the same
        assert len(torch.unique(asked, dim=0)) == 3


def test_what_is_shown_in_the_same_footage_is_not_absent() -> None:
    class Shared(Directions):
        """The first moment of every video is the same footage, whatever its sentence says."""

        def video_rows(self, video_id: str) -> Tensor:
            rows = super().video_rows(video_id).clone()
            rows[0] = self.vectors[0]
            return rows

    for same, asked_of_each in ((None, 8), (0.9, 8 - 1)):
        scorer = Cosines()
        ask_absent(scorer, Shared(2, 4), 0.5, same_footage=same)
        assert [len(asked) for asked in scorer.asked] == [asked_of_each] * 2
    assert not any(torch.equal(row, torch.eye(8)[4]) for row in scorer.asked[0])  # the second video's first


def test_the_seed_draws() -> None:
    runs = []
    for seed in (0, 0, 1):
        scorer = Cosines()
        ask_absent(scorer, Directions(8, 4), 0.5, seed)
        runs.append(torch.cat(scorer.asked))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_auroc_by_hand() -> None:
    assert auroc(np.array([3.0, 1.0]), np.array([2.0, 0.0])) == 0.75
    assert auroc(np.array([1.0]), np.array([1.0])) == 0.5
    assert np.isnan(auroc(np.array([1.0]), np.array([])))


def test_calibration_error_by_hand() -> None:
    # 0.15 promised twice, once kept: 2 of 4 answers are off by 0.35; 1.0 promised twice and kept: off by 0.
    assert calibration_error(np.array([0.15, 0.15, 1.0, 1.0]), np.array([0, 1, 1, 1])) == pytest.approx(0.175)


def test_report_by_hand() -> None:
    found = outcomes(
        [0.9, 0.8, 0.3, 0.6, 0.1, 0.2], [1, 0, 1, 0, 0, 0], ["present"] * 3 + ["near"] + ["foreign"] * 2
    )
    report = absence_report(found, np.array([0.9, 0.8, 0.3, 0.6, 0.1, 0.2]), 0.5)
    assert report["auroc"] == pytest.approx(8 / 9)
    assert report["auroc_near"] == pytest.approx(2 / 3)
    assert report["auroc_foreign"] == 1
    assert report["answered"] == pytest.approx(200 / 3)
    assert report["right"] == 50
    assert report["near_shown"] == 100
    assert report["foreign_shown"] == 0
    everything = outcomes([0.9], [1], ["present"])
    assert "auroc" not in absence_report(everything, np.array([0.9]), 0.5)  # no NaN in JSON


def test_too_little_to_fit_on() -> None:
    few = outcomes([0.9, 0.1] * 19, [1, 0] * 19, ["present", "near"] * 19)
    assert fit_calibration(few, "x") is None
    enough = outcomes([0.9, 0.1] * 20, [1, 0] * 20, ["present", "near"] * 20)
    fitted = fit_calibration(enough, "x")
    assert fitted is not None
    assert fitted.footage == "x"
    given = probabilities(enough, fitted)
    assert fitted.threshold == pytest.approx(given[1])  # that of every absent query
    assert given[0] > 0.9
    assert given[1] < 0.1


def test_one_in_ten_absent_queries_is_let_through() -> None:
    scores = [0.01 * number for number in range(50)]
    found = fit_calibration(
        outcomes(
            [*scores, *(1 + score for score in scores)], [0] * 50 + [1] * 50, ["near"] * 50 + ["present"] * 50
        ),
        "x",
    )
    assert found is not None
    given = probabilities(outcomes(scores, [0] * 50, ["near"] * 50), found)
    assert int((given >= found.threshold).sum()) == 5


def test_report_of_a_scorer(caplog: pytest.LogCaptureFixture) -> None:
    report = report_absence(Cosines(), Directions(5, 4), 0.5, CALIBRATION)
    assert report["auroc"] == 1
    assert (report["answered"], report["right"]) == (100, 100)
    assert (report["near_shown"], report["foreign_shown"]) == (0, 0)
    caplog.set_level(logging.INFO, logger="mrnet")
    assert report_absence(Cosines(), Directions(1, 4), 0.5, CALIBRATION) == {}
    assert caplog.messages == [
        "no figures of absent queries: those of other videos are needed, and there are none"
    ]
