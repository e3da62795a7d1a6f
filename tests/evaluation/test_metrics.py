"""Recall and mean tIoU: hand-worked values, the released figures, the bootstrap."""

import json
from pathlib import Path

import numpy as np
import pytest

from mrnet.errors import DataError
from mrnet.evaluation.metrics import bootstrap_intervals, pad_moments, per_query_hits, recall_metrics, tiou

PARITY = Path(__file__).resolve().parents[2].parent / "shared" / "parity"


def test_tiou_by_hand() -> None:
    truth = np.array([10.0, 20.0])
    moments = np.array([[10, 20], [15, 25], [0, 40], [20, 30], [30, 40], [10, 10], [np.nan, np.nan]])
    assert tiou(moments, truth).tolist() == pytest.approx([1, 5 / 15, 10 / 40, 0, 0, 0, 0])


def test_tiou_of_two_empty_moments_is_zero() -> None:
    assert tiou(np.array([3.0, 3.0]), np.array([3.0, 3.0])) == 0


def test_tiou_broadcasts() -> None:
    assert tiou(np.zeros((4, 1, 2)), np.zeros((1, 3, 2))).shape == (4, 3)


def test_padding_is_nan() -> None:
    padded = pad_moments([[(1, 2)], [], [(3, 4), (5, 6)]])
    nan = np.nan
    np.testing.assert_array_equal(padded, [[[1, 2], [nan] * 2], [[nan] * 2] * 2, [[3, 4], [5, 6]]])


def test_recall_by_hand() -> None:
    predictions = [
        [(0, 10), (0, 5)],  # exact at rank 1
        [(50, 60), (0, 6)],  # 0.6 at rank 2
        [(0, 1)],  # 0.1, and nothing after it
        [],  # no answer: a miss
    ]
    truth = [[(0, 10)]] * 4
    expected = {
        "R@1,IoU=0.3": 25.0,
        "R@1,IoU=0.5": 25.0,
        "R@1,IoU=0.7": 25.0,
        "R@5,IoU=0.3": 50.0,
        "R@5,IoU=0.5": 50.0,
        "R@5,IoU=0.7": 25.0,
        "mIoU": 100 * 1.1 / 4,
    }
    metrics = recall_metrics(predictions, truth)
    assert list(metrics) == list(expected)
    assert metrics == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7])
def test_an_overlap_equal_to_the_threshold_is_a_hit(threshold: float) -> None:
    metrics = recall_metrics([[(0, 10 * threshold)]], [[(0, 10)]], tious=(threshold,), ranks=(1,))
    assert metrics[f"R@1,IoU={threshold}"] == 100


def test_the_best_of_several_truths_counts() -> None:
    metrics = recall_metrics([[(20, 30)], [(0, 4)]], [[(0, 10), (20, 30)], [(0, 8)]], tious=(0.7,), ranks=(1,))
    assert metrics == {"R@1,IoU=0.7": 50, "mIoU": 75}


def test_a_later_rank_does_not_lose_an_earlier_hit() -> None:
    hits = per_query_hits([[(0, 10), (90, 91)]], [[(0, 10)]], tious=(0.5,), ranks=(1, 2, 5))
    assert {name: values.tolist() for name, values in hits.items()} == {
        "R@1,IoU=0.5": [1],
        "R@2,IoU=0.5": [1],
        "R@5,IoU=0.5": [1],
        "mIoU": [1],
    }


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(DataError, match="1 queries have predictions and 2 have ground truth; give both"):
        per_query_hits([[(0, 1)]], [[(0, 1)], [(0, 1)]])
    with pytest.raises(DataError, match="query number 1 has no ground-truth moment"):
        per_query_hits([[(0, 1)], [(0, 1)]], [[(0, 1)], []])
    with pytest.raises(DataError, match="there is no query to evaluate"):
        per_query_hits([], [])
    with pytest.raises(DataError, match="2 queries were scored and 1 have a video"):
        bootstrap_intervals({"mIoU": np.ones(2)}, ["a"])


def test_bootstrap_draws_whole_videos() -> None:
    # Two videos of 50 queries, one all hits: a sample is 0, 50 or 100 %, so the interval is the full range.
    intervals = bootstrap_intervals({"mIoU": np.repeat([0.0, 1.0], 50)}, ["a"] * 50 + ["b"] * 50)
    assert intervals == {"mIoU": (0, 100)}


def test_bootstrap_matches_the_normal_interval() -> None:
    hits = {"R@1,IoU=0.5": np.tile([0.0, 1.0, 1.0, 1.0], 250)}
    low, high = bootstrap_intervals(hits, [f"v{i}" for i in range(1000)], samples=4000, seed=3)["R@1,IoU=0.5"]
    margin = 196 * np.sqrt(0.75 * 0.25 / 1000)
    assert (low, high) == pytest.approx((75 - margin, 75 + margin), abs=0.25)


def test_bootstrap_repeats_with_its_seed_and_does_not_depend_on_order() -> None:
    rng = np.random.default_rng(0)
    scores, videos = rng.random(60), rng.integers(0, 12, 60).astype(str)
    shuffled = rng.permutation(60)
    once = bootstrap_intervals({"mIoU": scores}, videos.tolist(), samples=200, seed=1)
    again = bootstrap_intervals({"mIoU": scores[shuffled]}, videos[shuffled].tolist(), samples=200, seed=1)
    assert once["mIoU"] == pytest.approx(again["mIoU"])
    assert once != bootstrap_intervals({"mIoU": scores}, videos.tolist(), samples=200, seed=2)


@pytest.mark.skipif(not PARITY.is_dir(), reason="the reference figures (shared/parity) are not here")
@pytest.mark.parametrize(
    ("name", "tious"),
    [("evaluation_charades.json", (0.3, 0.5, 0.7)), ("evaluation_tacos.json", (0.1, 0.3, 0.5))],
)
def test_rank_1_figures_of_the_released_evaluation(name: str, tious: tuple[float, ...]) -> None:
    reference = json.loads((PARITY / name).read_text())
    videos = reference["annotations"]
    predictions = [[moment] for video in videos for moment in reference["top1_moments_seconds"][video]]
    truth = [[moment] for video in videos.values() for moment in video["moments_seconds"]]

    metrics = recall_metrics(predictions, truth, tious, ranks=(1,))

    released = reference["metrics"]
    for threshold in tious:
        # One sentence more or fewer would change a recall by 0.6 % or more.
        recall = metrics[f"R@1,IoU={threshold}"]
        assert recall == pytest.approx(100 * released[f"R@1,IoU@{threshold}"], abs=1e-4)
    assert metrics["mIoU"] == pytest.approx(100 * released["R@{1},mIoU"], abs=1e-9)
