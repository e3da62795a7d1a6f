"""Splits by video: where a video goes depends on its id and a seed alone, so that it stays there when others come."""

import hashlib
from collections.abc import Sequence

from mrnet.errors import DataError
from mrnet.types import VideoRecord

_TRAIN_END, _VAL_END = 0.70, 0.85


def split_videos(records: Sequence[VideoRecord], seed: int) -> dict[str, list[VideoRecord]]:
    """Training, validation and test videos, about 70, 15 and 15 of 100.

    Of few videos some go elsewhere than their id says, so that half of them are to train on and no split is empty.

    Raises:
        DataError: fewer than three videos.
    """
    count = len(records)
    if count < 3:
        raise DataError(f"{count} annotated videos are too few for train, val and test: annotate at least 3")
    ranked = _by_hash(records, seed)
    fractions = [hash_fraction(record.video_id, seed) for record in ranked]
    train_end = sum(fraction < _TRAIN_END for fraction in fractions)
    train_end = min(max(train_end, count // 2), count - 2)
    val_end = sum(fraction < _VAL_END for fraction in fractions)
    val_end = min(max(val_end, train_end + 1), count - 1)
    return {"train": ranked[:train_end], "val": ranked[train_end:val_end], "test": ranked[val_end:]}


def hold_out(records: Sequence[VideoRecord], fraction: float) -> tuple[list[VideoRecord], list[VideoRecord]]:
    """Training and validation videos; at least one to validate on, unless ``fraction`` is 0.

    Raises:
        DataError: too few videos for either side.
    """
    count = max(1, round(fraction * len(records))) if fraction else 0
    if len(records) <= count:
        raise DataError(
            f"{len(records)} training videos are too few to hold out {count} for validation: "
            "set data.val, annotate more videos, or hold none out with data.val_fraction=0"
        )
    held = {record.video_id for record in _by_hash(records, seed=0)[:count]}
    return (
        [record for record in records if record.video_id not in held],
        [record for record in records if record.video_id in held],
    )


def hash_fraction(video_id: str, seed: int) -> float:
    """A number in [0, 1), the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{video_id}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _by_hash(records: Sequence[VideoRecord], seed: int) -> list[VideoRecord]:
    return sorted(records, key=lambda record: hash_fraction(record.video_id, seed))
