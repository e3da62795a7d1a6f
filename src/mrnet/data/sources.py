"""From the paths of a configuration to records and features."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mrnet.config import Config, DataConfig
from mrnet.data.annotations import read_annotations
from mrnet.data.dataset import EncodedQueries, MomentDataset, QueryFeatures, StoredQueries
from mrnet.errors import ConfigError, DataError, FeatureError, FeatureShapeError
from mrnet.features.backbones import text_backbone, video_backbone
from mrnet.features.extract import encode_videos
from mrnet.features.store import FeatureStore, open_store
from mrnet.features.video import probe
from mrnet.types import VIDEO_SUFFIXES, Provenance, VideoRecord


@dataclass(frozen=True)
class Source:
    """Features of videos and of queries, with how they were made.

    Attributes:
        videos: store of video features.
        queries: features of queries.
        video_provenance: ``None`` for published files that do not say.
        query_provenance: likewise.
        folder: folder of video files the features were made from, else ``None``.
    """

    videos: FeatureStore
    queries: QueryFeatures
    video_provenance: Provenance | None
    query_provenance: Provenance | None
    folder: Path | None = None

    def duration_s(self, video_id: str) -> float | None:
        """Length of a video, from its file or from the rate of its features; ``None`` where unknown."""
        if self.folder is not None:
            files = _video_files(self.folder)
            return probe(files[video_id]).duration_s if video_id in files else None
        rate = self.video_provenance.rows_per_s if self.video_provenance else None
        if rate is None or video_id not in self.videos:
            return None
        return len(self.videos.read(video_id)) / rate

    def records(self, path: str) -> list[VideoRecord]:
        """Annotations of a split; durations they lack come from the videos."""
        return read_annotations(Path(path), durations=self.duration_s)

    def split(self, data: DataConfig, name: Literal["train", "val", "test"]) -> list[VideoRecord]:
        """Annotations of a split. Without ``data.val`` a share of the training videos is held out for it.

        Raises:
            ConfigError: its annotations are not set.
            DataError: they cannot be read, or are too few to hold any out.
        """
        if name == "test" or data.val is not None:
            return self.records(_required(data, name))
        train, val = hold_out(self.records(_required(data, "train")), data.val_fraction)
        return train if name == "train" else val

    def dataset(self, records: Sequence[VideoRecord], config: Config) -> MomentDataset:
        """A dataset of these features.

        Raises:
            FeatureShapeError: the features do not come from the backbone that the model was trained on.
        """
        check_provenance(self.video_provenance, config.video_provenance, "video features", "data.video_features")
        check_provenance(self.query_provenance, config.query_provenance, "query features", "data.query_features")
        return MomentDataset(records, self.videos, self.queries, config.model)


def open_source(data: DataConfig) -> Source:
    """Open the features that a configuration names.

    A folder of videos is encoded once, into ``FOLDER.BACKBONE.h5`` beside it.

    Raises:
        ConfigError: no video features are named.
        FeatureError, VideoError: they cannot be read or made.
    """
    if data.video_features is None:
        raise ConfigError(
            "data.video_features is not set: add --set data.video_features=PATH (a store or a folder)"
        )
    path = Path(data.video_features)
    folder = path if path.is_dir() and _video_files(path) else None
    if folder is not None:
        path = folder.with_name(f"{folder.name}.{data.video_backbone}.h5")
        encode_videos(_video_files(folder), video_backbone(data.video_backbone), path)
    videos = open_store(path)
    queries: QueryFeatures
    if data.query_features is not None:
        store = open_store(Path(data.query_features))
        queries, query_provenance = StoredQueries(store), store.provenance
    else:
        backbone = text_backbone(data.text_backbone)
        queries, query_provenance = EncodedQueries(backbone), backbone.provenance()
    return Source(videos, queries, videos.provenance, query_provenance, folder)


def check_provenance(found: Provenance | None, expected: Provenance | None, what: str, key: str) -> None:
    """Refuse features made by another backbone than the model's, where both are known.

    Raises:
        FeatureShapeError: naming both.
    """
    if found is not None and expected is not None and found.backbone != expected.backbone:
        raise FeatureShapeError(
            f"{what} come from {found.backbone!r}, the model was trained on {expected.backbone!r}: "
            f"point {key} at features of that backbone"
        )


def _required(data: DataConfig, split: str) -> str:
    """The annotation path of a split.

    Raises:
        ConfigError: it is not set.
    """
    path: str | None = getattr(data, split)
    if path is None:
        raise ConfigError(f"data.{split} is not set: add --set data.{split}=ANNOTATIONS")
    return path


def hold_out(records: Sequence[VideoRecord], fraction: float) -> tuple[list[VideoRecord], list[VideoRecord]]:
    """Split videos into training and validation by a hash of their id, so that it never changes.

    Raises:
        DataError: too few videos for either side.
    """
    ranked = sorted(records, key=lambda record: hashlib.sha256(record.video_id.encode()).digest())
    count = max(1, round(fraction * len(ranked)))
    if len(ranked) <= count:
        raise DataError(
            f"{len(ranked)} training videos are too few to hold out {count} for validation: "
            "set data.val, or annotate more videos"
        )
    held = {record.video_id for record in ranked[:count]}
    return (
        [record for record in records if record.video_id not in held],
        [record for record in records if record.video_id in held],
    )


def _video_files(folder: Path) -> dict[str, Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    by_id: dict[str, Path] = {}
    for path in files:
        if path.stem in by_id:
            raise FeatureError(f"{folder} holds {by_id[path.stem].name} and {path.name}, of one id: rename one")
        by_id[path.stem] = path
    return by_id
