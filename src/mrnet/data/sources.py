"""From the paths of a configuration to records and features."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mrnet.config import Config, DataConfig
from mrnet.data.annotations import read_annotations
from mrnet.data.dataset import MomentDataset
from mrnet.data.queries import EncodedQueries, JointQueries, QueryFeatures, StoredQueries, with_kinds
from mrnet.errors import ConfigError, DataError, FeatureShapeError
from mrnet.features.backbone import Modality
from mrnet.features.extraction.extract import encode_videos, sound_files, video_files
from mrnet.features.registry import extraction_command, make_backbone
from mrnet.features.store.reader import FeatureStore, open_store
from mrnet.media.video import probe
from mrnet.provenance import Provenance
from mrnet.types import QueryKind, VideoRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Features of videos and of queries, with how they were made.

    Attributes:
        videos: store of video features.
        queries: features of queries.
        provenances: field of the configuration -> how its features were made; ``None`` for published files
            that do not say.
        files: video id -> file, where the features were made from a folder of videos; else empty.
        pca: file of the PCA that the video features went through, if any and if it is there.
    """

    videos: FeatureStore
    queries: QueryFeatures
    provenances: Mapping[str, Provenance | None]
    files: Mapping[str, Path]
    pca: Path | None = None

    def duration_s(self, video_id: str) -> float | None:
        """Length of a video, from its file or from the rate of its features; ``None`` where unknown."""
        if video_id in self.files:
            return probe(self.files[video_id]).duration_s
        return self.videos.duration_s(video_id)

    def records(self, path: str) -> list[VideoRecord]:
        """Annotations of a split; durations they lack come from the videos."""
        return read_annotations(Path(path), durations=self.duration_s)

    def split(
        self,
        data: DataConfig,
        name: Literal["train", "val", "test"],
        kinds: Sequence[QueryKind] | None = None,
    ) -> list[VideoRecord]:
        """Annotations of a split. Without ``data.val`` a share of the training videos is held out for it.

        Args:
            data: where the annotations are.
            name: of the split.
            kinds: of queries; ``data.query_kinds`` if left out.

        Raises:
            ConfigError: its annotations are not set.
            DataError: they cannot be read, are too few to hold any out, or name no sound files.
        """
        if name == "test" or data.val is not None:
            records = self.records(_required(data, name))
        else:
            train, val = hold_out(self.records(_required(data, "train")), data.val_fraction)
            records = train if name == "train" else val
        return with_kinds(records, kinds or data.query_kinds)

    def dataset(self, records: Sequence[VideoRecord], config: Config) -> MomentDataset:
        """A dataset of these features.

        Raises:
            FeatureShapeError: the features do not come from the backbone that the model was trained on.
            DataError, FeatureError: as :class:`mrnet.data.dataset.MomentDataset`.
        """
        for field, (kind, key) in _PROVENANCES.items():
            check_provenance(self.provenances[field], getattr(config, field), kind, key)
        return MomentDataset(records, self.videos, self.queries, config.model)


_PROVENANCES: dict[str, tuple[Modality, str]] = {
    "video_provenance": ("video", "data.video_features"),
    "query_provenance": ("text", "data.query_features"),
    "speech_provenance": ("speech", "data.speech_features"),
}


def open_source(data: DataConfig) -> Source:
    """Open the features that a configuration names.

    A folder of videos, or of sound files, is encoded once, into ``FOLDER.BACKBONE.h5`` beside it.

    Raises:
        ConfigError: features that are needed are not named.
        FeatureError, VideoError, AudioError: they cannot be read or made.
    """
    if data.video_features is None:
        raise ConfigError(
            "data.video_features is not set: add --set data.video_features=PATH (a store or a folder)"
        )
    folder = Path(data.video_features)
    files = video_files(folder)
    videos = _open_or_encode(folder, files, "video", data.video_backbone)
    queries: dict[QueryKind, QueryFeatures] = {}
    provenances: dict[str, Provenance | None] = dict.fromkeys(_PROVENANCES)
    provenances["video_provenance"] = videos.provenance
    if "typed" in data.query_kinds:
        if data.query_features is not None:
            store = open_store(Path(data.query_features))
            queries["typed"], provenances["query_provenance"] = StoredQueries(store), store.provenance
        else:
            backbone = make_backbone("text", data.text_backbone)
            queries["typed"], provenances["query_provenance"] = EncodedQueries(backbone), backbone.provenance()
    if "spoken" in data.query_kinds:
        if data.speech_features is None:
            raise ConfigError(
                "data.speech_features is not set: spoken queries need --set data.speech_features=PATH (a store, or "
                "a folder of sound files)"
            )
        folder = Path(data.speech_features)
        store = _open_or_encode(folder, sound_files(folder), "speech", data.speech_backbone)
        queries["spoken"], provenances["speech_provenance"] = StoredQueries(store), store.provenance
    several = len(queries) > 1
    features = JointQueries(queries["typed"], queries["spoken"]) if several else next(iter(queries.values()))
    return Source(videos, features, provenances, files, _pca_file(videos))


def _pca_file(store: FeatureStore) -> Path | None:
    """The PCA that the features of a store went through, which lies beside it, known by its content."""
    projection = store.provenance.projection if store.provenance else None
    if projection is None:
        return None
    for path in sorted(store.path.parent.glob("*.pca.safetensors")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == projection.sha256:
            return path
    log.warning(
        "%s: the PCA that made these features is not beside it (*.pca.safetensors): a model trained on them takes "
        "features alone, no video files",
        store.path,
    )
    return None


def _open_or_encode(path: Path, files: Mapping[str, Path], kind: Modality, backbone: str) -> FeatureStore:
    """The store at ``path``; where ``path`` holds media files instead, the store made of them beside it."""
    if files:
        path = path.with_name(f"{path.name}.{file_name(backbone)}.h5")
        encode_videos(files, make_backbone(kind, backbone), path)
    return open_store(path)


def file_name(backbone: str) -> str:
    """The name of a backbone with nothing in it that a file's name may not have."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in backbone)


def check_provenance(found: Provenance | None, expected: Provenance | None, kind: Modality, key: str) -> None:
    """Refuse features made by another backbone, or revision of it, than the model's, where both are known.

    Raises:
        FeatureShapeError: naming both, and the command that makes the right ones.
    """
    if found is None or expected is None or found.same_encoder(expected):
        return
    raise FeatureShapeError(
        f"the {kind} features come from {found.label}, the model was trained on {expected.label}: point {key} at "
        f"features of that backbone{extraction_command(kind, expected)}"
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
