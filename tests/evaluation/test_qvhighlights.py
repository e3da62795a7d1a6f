"""QVHighlights metrics: hand-worked queries and the official figures of a published file."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mrnet.data.annotations import read_annotations
from mrnet.errors import DataError
from mrnet.evaluation.predictions import Prediction, read_predictions
from mrnet.evaluation.qvhighlights import per_query_scores, qvhighlights_metrics
from mrnet.types import Moment, Query, Span, VideoRecord

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
OFFICIAL = SHARED / "parity" / "qvhighlights"
VAL = SHARED / "annotations" / "qvhighlights" / "highlight_val_release.jsonl"


def record(
    *moments: tuple[float, float], qid: str = "1", clips: tuple[int, ...] = (), ratings: tuple[Any, ...] = ()
) -> VideoRecord:
    spans = tuple(Span(*moment) for moment in moments)
    return VideoRecord(f"video-{qid}", 150, (Query("a dog", spans, qid, None, clips, ratings),))


def answer(
    *windows: tuple[float, float, float], qid: str = "1", saliency: tuple[float, ...] | None = None
) -> Prediction:
    return Prediction(qid, "a dog", f"video-{qid}", tuple(Moment(*window) for window in windows), saliency)


def retrieval(prediction: Prediction, video: VideoRecord, name: str = "full") -> dict[str, Any]:
    return qvhighlights_metrics([prediction], [video])[name]


def test_r1_takes_the_first_listed_and_ap_the_best_scored() -> None:
    table = retrieval(answer((50, 60, 0.1), (0, 10, 0.9)), record((0, 10)))
    assert table["MR-R1"]["0.5"] == 0
    assert table["MR-mAP"]["0.5"] == 100


def test_average_precision_by_hand() -> None:
    # Ranked: miss, hit, miss, hit. Precision at the hits: 1/2, 2/4; both interpolate to 1/2.
    video = record((0, 10), (20, 30))
    windows = [(80, 90, 0.9), (0, 10, 0.8), (100, 110, 0.7), (20, 30, 0.6)]
    assert retrieval(answer(*windows), video)["MR-mAP"]["0.5"] == 50
    # Without the last window only one of the two moments is found.
    assert retrieval(answer(*windows[:3]), video)["MR-mAP"]["0.5"] == 25


def test_precision_interpolates_from_higher_recall() -> None:
    # Hits at ranks 2, 3: precision 1/2, 2/3 -> 2/3 for both.
    table = retrieval(answer((80, 90, 0.9), (0, 10, 0.8), (20, 30, 0.7)), record((0, 10), (20, 30)))
    assert table["MR-mAP"]["0.5"] == 66.67


def test_a_moment_is_found_once() -> None:
    # Two good windows for the first moment: the second of them is a false positive.
    table = retrieval(answer((0, 10, 0.9), (0, 9, 0.8), (20, 30, 0.7)), record((0, 10), (20, 30)))
    assert table["MR-mAP"]["0.5"] == pytest.approx(100 * (1 + 2 / 3) / 2, abs=0.005)


def test_a_taken_moment_leaves_the_next_best() -> None:
    # The second window overlaps the first moment most (10/14), but also the other by half (8/16).
    table = retrieval(answer((0, 10, 0.9), (0, 14, 0.8)), record((0, 10), (6, 16)))
    assert table["MR-mAP"]["0.5"] == 100
    assert table["MR-mAP"]["0.55"] == 50


def test_equal_scores_keep_the_listed_order() -> None:
    listed = answer((0, 10, 0.5), (80, 90, 0.5))
    assert retrieval(listed, record((0, 10)))["MR-mAP"]["0.95"] == 100


def test_an_overlap_equal_to_the_threshold_is_a_hit() -> None:
    table = retrieval(answer((0, 5, 1)), record((0, 10)))
    assert (table["MR-R1"]["0.5"], table["MR-R1"]["0.55"]) == (100, 0)
    assert table["MR-mAP"] == {"0.5": 100} | dict.fromkeys(list(table["MR-mAP"])[1:-1], 0) | {"average": 10}


def test_windows_after_the_tenth_do_not_count() -> None:
    misses = [(100.0, 110.0, 0.5)] * 10
    assert retrieval(answer(*misses, (0, 10, 0.9)), record((0, 10)))["MR-mAP"]["average"] == 0


def test_no_window_is_a_miss() -> None:
    table = retrieval(answer(), record((0, 10)))
    assert (table["MR-R1"]["0.5"], table["MR-mAP"]["average"]) == (0, 0)


def test_length_ranges_keep_moments_of_that_length() -> None:
    metrics = qvhighlights_metrics([answer((50, 60, 0.9), (0, 31, 0.8))], [record((0, 31), (50, 60))])
    assert list(metrics) == ["brief", "full", "long", "short"]  # no moment of 10 to 30 s
    assert metrics["short"]["MR-R1"]["0.95"] == 100  # 10 s is short
    assert metrics["long"]["MR-R1"]["0.5"] == 0
    assert metrics["long"]["MR-mAP"]["0.95"] == 50
    assert "MR-middle-mAP" not in metrics["brief"]


def test_highlights_by_hand() -> None:
    video = record((0, 4), clips=(0, 1), ratings=((4, 2, 0), (3, 2, 0)))
    scores = (0.2, 0.9, 0.5) + (0.0,) * 72
    metrics = qvhighlights_metrics([answer((0, 4, 1), saliency=scores)], [video])
    # Ranked clips: 1, 2, 0. Rater one, Fair: hits at ranks 1 and 3; rater two the same; rater three none.
    assert metrics["HL-min-Fair"] == {
        "HL-mAP": pytest.approx(100 * (1 + 2 / 3) / 3, abs=0.005),
        "HL-Hit1": 100,
    }
    # VeryGood: only rater one, only clip 0, at rank 3.
    assert metrics["HL-min-VeryGood"] == {"HL-mAP": pytest.approx(100 / 9, abs=0.005), "HL-Hit1": 0}
    assert metrics["brief"]["HL-min-Fair-Hit1"] == 100


def test_clips_of_equal_score_are_ranked_together() -> None:
    video = record((0, 4), clips=(0,), ratings=((4, 4, 4),))
    metrics = qvhighlights_metrics([answer((0, 4, 1), saliency=(0.5,) * 75)], [video])
    assert metrics["HL-min-Fair"] == {"HL-mAP": 1.33, "HL-Hit1": 100}  # precision 1/75


def test_scores_too_few_or_too_many_for_the_video() -> None:
    video = record((0, 4), clips=(0,), ratings=((4, 4, 4),))
    few = qvhighlights_metrics([answer((0, 4, 1), saliency=(0.5,))], [video])
    assert few["HL-min-Good"] == {"HL-mAP": 100, "HL-Hit1": 100}
    many = qvhighlights_metrics([answer((0, 4, 1), saliency=(0.5,) + (0.0,) * 74 + (0.9,))], [video])
    assert many["HL-min-Good"] == {"HL-mAP": 100, "HL-Hit1": 0}


def test_queries_must_be_the_same_set() -> None:
    videos = [record((0, 10), qid=str(qid)) for qid in range(5)]
    with pytest.raises(
        DataError, match=r"4 of 5 annotated queries have no prediction: qid 1, 2, 3, \.\.\.; predict"
    ):
        qvhighlights_metrics([answer((0, 1, 1), qid="0")], videos)
    with pytest.raises(
        DataError, match="1 of 2 predictions match no annotated query: qid 7; give the annotations"
    ):
        qvhighlights_metrics([answer((0, 1, 1), qid="0"), answer((0, 1, 1), qid="7")], videos[:1])


def test_withheld_answers_are_named() -> None:
    with pytest.raises(
        DataError, match=r"1 of 1 queries have no ground-truth moment: qid 1; .* answers are withheld"
    ):
        qvhighlights_metrics([answer((0, 1, 1))], [record()])


def test_saliency_for_some_queries_only() -> None:
    answers = [answer((0, 1, 1), qid="1", saliency=(0.1,)), answer((0, 1, 1), qid="2")]
    with pytest.raises(DataError, match="1 of 2 predictions have no pred_saliency_scores, the first being qid 2"):
        qvhighlights_metrics(answers, [record((0, 1), qid="1"), record((0, 1), qid="2")])


def test_saliency_without_ratings() -> None:
    with pytest.raises(DataError, match="the annotations no ratings; leave the scores out"):
        qvhighlights_metrics([answer((0, 1, 1), saliency=(0.1,))], [record((0, 1))])


def test_a_rated_clip_outside_the_video() -> None:
    video = record((0, 10), clips=(75,), ratings=((1, 2, 3),))
    with pytest.raises(DataError, match="qid 1: 1 relevant clips and 1 ratings for a video of 75 clips"):
        qvhighlights_metrics([answer((0, 10, 1), saliency=(0.1,))], [video])


@pytest.mark.skipif(
    not (OFFICIAL.is_dir() and VAL.is_file()),
    reason="the official figures or annotations (shared) are not here",
)
def test_every_figure_of_the_official_evaluation() -> None:
    official = json.loads((OFFICIAL / "metrics.json").read_text())
    metrics = qvhighlights_metrics(read_predictions(OFFICIAL / "predictions.jsonl"), read_annotations(VAL))
    assert list(flat(metrics)) == list(flat(official))
    assert flat(metrics) == pytest.approx(flat(official), abs=0.0101)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    leaves: dict[str, float] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def test_means_of_the_scores_by_query_are_the_headline_figures() -> None:
    records = [record((0, 10), (40, 60), qid="1"), record((20, 30), qid="2")]
    predictions = [
        answer((0, 10, 0.9), (42, 60, 0.8), qid="1"),
        answer((90, 99, 0.5), (20, 26, 0.4), qid="2"),
    ]
    scores = per_query_scores(predictions, records)
    brief = qvhighlights_metrics(predictions, records)["brief"]
    assert scores["MR-full-R1@0.5"].tolist() == [1, 0]
    assert scores["MR-full-mAP@0.5"].tolist() == [1, 0.5]
    for name, values in scores.items():
        assert 100 * values.mean() == pytest.approx(brief[name], abs=0.005)


def test_a_video_of_months_takes_the_memory_of_one_video() -> None:
    """All at once, a thousand queries of such a file of a few kilobytes would take hundreds of gigabytes."""
    long = VideoRecord("video-0", 400_000, record((0, 10), qid="0", clips=(1,), ratings=((4, 4, 4),)).queries)
    short = [record((0, 10), qid=str(qid), clips=(1,), ratings=((4, 4, 4),)) for qid in range(1, 1000)]
    answers = [answer((0, 10, 1), qid=str(qid), saliency=(0.1, 0.9)) for qid in range(1000)]
    tracemalloc.start()
    metrics = qvhighlights_metrics(answers, [long, *short])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metrics["brief"]["HL-min-VeryGood-Hit1"] == 100
    assert peak < 200e6  # 4.8 GB of ratings alone
