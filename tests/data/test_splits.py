"""Splits by a hash of the video's id."""

from collections import Counter

import pytest

from mrnet.data.splits import hash_fraction, hold_out, split_videos
from mrnet.errors import DataError
from mrnet.types import Query, Span, VideoRecord


def record(name: str) -> VideoRecord:
    return VideoRecord(name, 10.0, (Query("q", (Span(0, 1),), f"{name}#0"),))


def test_fractions_are_pinned() -> None:
    """Whoever changes the hash moves videos between the splits of every dataset."""
    assert hash_fraction("v0", 0) == pytest.approx(0.8800272828, abs=1e-9)
    assert hash_fraction("v0", 1) == pytest.approx(0.1357054549, abs=1e-9)


def test_hold_out_splits_by_video_and_never_changes() -> None:
    records = [record(f"v{i}") for i in range(20)]
    train, val = hold_out(records, 0.1)
    assert len(val) == 2
    assert {r.video_id for r in train} | {r.video_id for r in val} == {f"v{i}" for i in range(20)}
    assert hold_out(records[::-1], 0.1)[1] == val[::-1]
    with pytest.raises(DataError, match=r"^1 training videos are too few to hold out 1 for validation: set"):
        hold_out(records[:1], 0.1)


def test_nothing_is_held_out_of_a_fraction_of_0() -> None:
    records = [record("v0")]
    assert hold_out(records, 0) == (records, [])


def test_both_splits_go_by_one_order() -> None:
    records = [record(f"v{i}") for i in range(40)]
    order = sorted((r.video_id for r in records), key=lambda video_id: hash_fraction(video_id, 0))
    assert {r.video_id for r in hold_out(records, 0.1)[1]} == set(order[:4])
    splits = split_videos(records, seed=0)
    assert [r.video_id for part in splits.values() for r in part] == order


def ids(splits: dict[str, list[VideoRecord]]) -> dict[str, set[str]]:
    return {split: {record.video_id for record in records} for split, records in splits.items()}


class TestSplitVideos:
    def records(self, count: int) -> list[VideoRecord]:
        return [VideoRecord(f"video{i}", 1.0, ()) for i in range(count)]

    def test_sizes(self) -> None:
        splits = split_videos(self.records(1000), seed=0)
        counts = {split: len(records) for split, records in splits.items()}
        assert sum(counts.values()) == 1000
        assert counts["train"] == pytest.approx(700, abs=45)  # three standard deviations
        assert counts["val"] == pytest.approx(150, abs=34)

    @pytest.mark.parametrize("count", [3, 4, 5, 8])
    def test_none_is_empty_and_half_are_to_train_on(self, count: int) -> None:
        for seed in range(40):
            splits = split_videos(self.records(count), seed)
            assert all(splits.values())
            assert len(splits["train"]) >= count // 2
            names = Counter(record.video_id for records in splits.values() for record in records)
            assert names == Counter(record.video_id for record in self.records(count))

    def test_a_video_stays_when_others_are_added(self) -> None:
        few, many = (ids(split_videos(self.records(count), seed=0)) for count in (60, 200))
        for split, names in few.items():
            assert names <= many[split]

    def test_the_order_of_annotations_does_not_matter(self) -> None:
        assert split_videos(self.records(20), 3) == split_videos(self.records(20)[::-1], 3)

    def test_seed(self) -> None:
        assert ids(split_videos(self.records(50), 0)) != ids(split_videos(self.records(50), 1))
