"""The published annotation files, where they are at hand: nothing of them is dropped."""

from pathlib import Path

import pytest

from mrnet.data.annotations import read_annotations

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "annotations"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the published annotation files are not at {REAL}")
class TestPublished:
    @pytest.mark.parametrize(
        ("name", "videos", "queries"),
        [
            ("activitynet/train.json", 10009, 37421),
            ("activitynet/val.json", 4917, 17505),
            ("activitynet/test.json", 4885, 17031),
            ("activitynet/test_audio_new.json", 4885, 17031),
            ("charades_sta/train.json", 5336, 12404),
            ("charades_sta/test.json", 1334, 3720),
            ("charades_sta/train_audio_new.json", 5336, 12404),
            ("charades_sta/test_audio_new.json", 1334, 3720),
            ("tacos/train.json", 75, 9790),
            ("tacos/val.json", 27, 4436),
            ("tacos/test.json", 25, 4001),
            ("tacos/train_audio_new.json", 75, 9790),
            ("tacos/val_audio_new.json", 27, 4436),
            ("tacos/test_audio_new.json", 25, 4001),
            ("qvhighlights/highlight_train_release.jsonl", 7100, 7218),
            ("qvhighlights/highlight_val_release.jsonl", 1519, 1550),
            ("qvhighlights/highlight_test_release.jsonl", 1529, 1542),
        ],
    )
    def test_no_query_is_dropped(self, name: str, videos: int, queries: int) -> None:
        records = read_annotations(REAL / name)
        assert len(records) == videos
        assert sum(len(video.queries) for video in records) == queries
        spoken = "audio" in name
        for video in records:
            for query in video.queries:
                assert (query.audio is not None) == spoken
                assert all(0 <= start <= end <= video.duration_s for start, end in query.moments)

    def test_windows_of_qvhighlights(self) -> None:
        counts = [
            sum(
                len(query.moments)
                for video in read_annotations(REAL / f"qvhighlights/highlight_{split}_release.jsonl")
                for query in video.queries
            )
            for split in ("train", "val", "test")
        ]
        assert counts == [12803, 2803, 0]
