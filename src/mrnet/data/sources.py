"""From the paths of a configuration to records and features."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mrnet.config import Config, DataConfig
from mrnet.data.annotations import read_annotations
from mrnet.data.dataset import EncodedQueries, MomentDataset, QueryFeatures, StoredQueries
from mrnet.errors import ConfigError, DataError, FeatureShapeError
from mrnet.features.backbones import make_backbone
from mrnet.features.extract import encode_videos, video_files
from mrnet.features.store import FeatureStore, open_store
from mrnet.features.video import probe
from mrnet.types import Provenance, VideoRecord


@dataclass(frozen=True)
class Source:
    """Features of videos and of queries, with how they were made.

    Attributes:
        videos: store of video features.
        queries: features of queries.
        video_provenance: ``None`` for published files that do not say.
        query_provenance: likewise.
        files: video id -> file, where the features were made from a folder of videos; else empty.
    """

    videos: FeatureStore
    queries: QueryFeatures
    video_provenance: Provenance | None
    query_provenance: Provenance | None
    files: Mapping[str, Path]

    def duration_s(self, video_id: str) -> float | None:
        """Length of a video, from its file or from the rate of its features; ``None`` where unknown."""
        if video_id in self.files:
            return probe(self.files[video_id]).duration_s
        return self.videos.duration_s(video_id)

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
            DataError, FeatureError: as :class:`mrnet.data.dataset.MomentDataset`.
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
    files = video_files(path)
    if files:
        path = path.with_name(f"{path.name}.{data.video_backbone}.h5")
        encode_videos(files, make_backbone("video", data.video_backbone), path)
    videos = open_store(path)
    queries: QueryFeatures
    if data.query_features is not None:
        store = open_store(Path(data.query_features))
        queries, query_provenance = StoredQueries(store), store.provenance
    else:
        backbone = make_backbone("text", data.text_backbone)
        queries, query_provenance = EncodedQueries(backbone), backbone.provenance()
    return Source(videos, queries, videos.provenance, query_provenance, files)


def check_provenance(found: Provenance | None, expected: Provenance | None, what: str, key: str) -> None:
    """Refuse features made by another backbone, or revision of it, than the model's, where both are known.

    Raises:
        FeatureShapeError: naming both.
    """
    if found is None or expected is None:
        return
    if not found.same_encoder(expected):
        raise FeatureShapeError(
            f"{what} come from {found.label}, the model was trained on {expected.label}: "
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
