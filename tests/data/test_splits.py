"""Where a video goes: by its id and a seed alone, and by one hash for either way to split."""

from collections import Counter

import pytest

from mrnet.data.splits import hash_fraction, hold_out, split_videos
from mrnet.errors import DataError
from mrnet.types import VideoRecord


def records(count: int) -> list[VideoRecord]:
    return [VideoRecord(f"video{i}", 1.0, ()) for i in range(count)]


def ids(some: list[VideoRecord]) -> list[str]:
    return [record.video_id for record in some]


def ids_by_split(splits: dict[str, list[VideoRecord]]) -> dict[str, set[str]]:
    return {split: set(ids(some)) for split, some in splits.items()}


class TestHash:
    def test_values(self) -> None:
        """SHA-256 of "SEED:ID", its first six bytes as a fraction: the same on every machine, in every version."""
        assert hash_fraction("video0", 0) == 0.954770605680693
        assert hash_fraction("video0", 1) == 0.21710538015414116
        assert hash_fraction("v_uqiMw7tQ1Cc", 0) == 0.2621102081183935
        assert hash_fraction("half \ud83d", 0) == 0.30263662023291715

    def test_both_splits_go_by_it(self) -> None:
        fractions = {record.video_id: hash_fraction(record.video_id, 0) for record in records(12)}
        ranked = sorted(fractions, key=fractions.__getitem__)
        assert ranked == [
            "video11",
            "video5",
            "video7",
            "video1",
            "video10",
            "video4",
            "video6",
            "video3",
            "video8",
            "video9",
            "video2",
            "video0",
        ]
        splits = split_videos(records(12), seed=0)
        assert [name for split in ("train", "val", "test") for name in ids(splits[split])] == ranked
        assert {split: len(some) for split, some in splits.items()} == {"train": 8, "val": 3, "test": 1}
        train, val = hold_out(records(12), 0.25)
        assert set(ids(val)) == set(ranked[:3])
        assert ids(train) == [name for name in ids(records(12)) if name not in ranked[:3]]


class TestSplitVideos:
    def test_sizes(self) -> None:
        splits = split_videos(records(1000), seed=0)
        counts = {split: len(some) for split, some in splits.items()}
        assert sum(counts.values()) == 1000
        assert counts["train"] == pytest.approx(700, abs=45)  # three standard deviations
        assert counts["val"] == pytest.approx(150, abs=34)

    @pytest.mark.parametrize("count", [3, 4, 5, 8])
    def test_none_is_empty_and_half_are_to_train_on(self, count: int) -> None:
        for seed in range(40):
            splits = split_videos(records(count), seed)
            assert all(splits.values())
            assert len(splits["train"]) >= count // 2
            names = Counter(record.video_id for some in splits.values() for record in some)
            assert names == Counter(record.video_id for record in records(count))

    def test_a_video_stays_when_others_are_added(self) -> None:
        few, many = (ids_by_split(split_videos(records(count), seed=0)) for count in (60, 200))
        for split, names in few.items():
            assert names <= many[split]

    def test_the_order_of_annotations_does_not_matter(self) -> None:
        assert split_videos(records(20), 3) == split_videos(records(20)[::-1], 3)

    def test_seed(self) -> None:
        assert ids_by_split(split_videos(records(50), 0)) != ids_by_split(split_videos(records(50), 1))

    def test_too_few(self) -> None:
        with pytest.raises(DataError) as caught:
            split_videos(records(2), 0)
        assert str(caught.value) == "2 annotated videos are too few for train, val and test: annotate at least 3"


class TestHoldOut:
    def test_by_video_and_never_changes(self) -> None:
        train, val = hold_out(records(20), 0.1)
        assert ids(val) == ["video11", "video18"]
        assert sorted(ids(train) + ids(val)) == sorted(ids(records(20)))
        assert hold_out(records(20)[::-1], 0.1) == (train[::-1], val[::-1])

    def test_at_least_one(self) -> None:
        train, val = hold_out(records(4), 0.001)
        assert (len(train), len(val)) == (3, 1)

    def test_none_for_a_fraction_of_0(self) -> None:
        assert hold_out(records(4), 0) == (records(4), [])
        assert hold_out(records(1), 0) == (records(1), [])

    @pytest.mark.parametrize(("count", "fraction", "held"), [(1, 0.1, 1), (4, 1.0, 4)])
    def test_too_few(self, count: int, fraction: float, held: int) -> None:
        with pytest.raises(DataError) as caught:
            hold_out(records(count), fraction)
        assert str(caught.value) == (
            f"{count} training videos are too few to hold out {held} for validation: set data.val, annotate more "
            "videos, or hold none out with data.val_fraction=0"
        )
