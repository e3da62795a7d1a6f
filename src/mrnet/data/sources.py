"""From the paths of a configuration to records and features."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mrnet.config.data import DataConfig
from mrnet.config.model import ModelConfig
from mrnet.data.annotations import read_annotations
from mrnet.data.dataset import MomentDataset
from mrnet.data.queries import CombinedQueries, EncodedQueries, QueryFeatures, StoredQueries, with_kinds
from mrnet.data.splits import hold_out
from mrnet.errors import ConfigError, FeatureShapeError
from mrnet.features.extraction.extract import encode_videos, sound_files, video_files
from mrnet.features.registry import extraction_command, make_backbone
from mrnet.features.store.pca import pca_sha256
from mrnet.features.store.reader import FeatureStore, open_store
from mrnet.media.video import probe
from mrnet.provenance import Provenance
from mrnet.types import Modality, QueryKind, VideoRecord

log = logging.getLogger(__name__)

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class DataSource:
    """Features of videos and of queries, with how they were made, and the annotations that go with them.

    Attributes:
        data: where everything lies.
        videos: store of video features.
        queries: features of queries, of all kinds that ``data.query_kinds`` names.
        query_widths: kind of query -> width of its features.
        provenances: how the features were made; none for published files that do not say.
        files: video id -> file, where the features were made from a folder of videos; else empty.
        pca: file of the PCA that the video features went through, if any and if it is there.
    """

    data: DataConfig
    videos: FeatureStore
    queries: QueryFeatures
    query_widths: Mapping[QueryKind, int]
    provenances: Mapping[Modality, Provenance]
    files: Mapping[str, Path]
    pca: Path | None = None

    def duration_s(self, video_id: str) -> float | None:
        """Length of a video, from its file or from the rate of its features; ``None`` where unknown."""
        if video_id in self.files:
            return probe(self.files[video_id]).duration_s
        return self.videos.duration_s(video_id)

    def split(self, name: SplitName, kinds: Sequence[QueryKind] | None = None) -> list[VideoRecord]:
        """Annotations of a split; durations they lack come from the videos.

        Without ``data.val`` a fraction of the training videos is held out for it, none where that is 0.

        Args:
            name: of the split.
            kinds: of queries; ``data.query_kinds`` if left out.

        Raises:
            ConfigError: its annotations are not set.
            DataError: they cannot be read, are too few to hold any out, or name no sound files.
        """
        files: list[str] = getattr(self.data, "train" if name == "val" and not self.data.val else name)
        if not files:
            raise ConfigError(f"data.{name} is not set: add --set data.{name}=ANNOTATIONS")
        records = read_annotations([Path(file) for file in files], durations=self.duration_s)
        if name != "test" and not self.data.val:
            train, val = hold_out(records, self.data.val_fraction)
            records = train if name == "train" else val
        return with_kinds(records, kinds or self.data.query_kinds)

    def dataset(
        self, records: Sequence[VideoRecord], model: ModelConfig, expected: Mapping[Modality, Provenance]
    ) -> MomentDataset:
        """A dataset of these features.

        Args:
            records: its videos and queries.
            model: the widths and lengths that the features must have.
            expected: how the features that the model was trained on were made, where that is known.

        Raises:
            FeatureShapeError: the features do not come from the backbone that the model was trained on.
            DataError, FeatureError: as :class:`mrnet.data.dataset.MomentDataset`.
        """
        for modality, found in self.provenances.items():
            check_provenance(found, expected.get(modality), modality)
        return MomentDataset(records, self.videos, self.queries, model)


def open_source(
    data: DataConfig,
    trusted: Collection[str] | None = None,
    query_widths: Mapping[QueryKind, int] | None = None,
) -> DataSource:
    """Open the features that a configuration names.

    A folder of videos, or of sound files, is encoded once, into ``FOLDER.BACKBONE.h5`` beside it.

    Args:
        data: where they are.
        trusted: as of :func:`mrnet.features.registry.make_backbone`.
        query_widths: of all kinds that a model takes, where not all of them are named in the configuration.

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
    videos = _open_or_encode(folder, files, "video", data.video_backbone, trusted)
    opened = {kind: _OPEN_QUERIES[kind](data, trusted) for kind in get_args(QueryKind) if kind in data.query_kinds}
    provenances: dict[Modality, Provenance | None] = {"video": videos.provenance}
    provenances |= {kind: provenance for kind, (_, provenance) in opened.items()}
    queries = CombinedQueries({kind: features for kind, (features, _) in opened.items()}, query_widths)
    known = {modality: provenance for modality, provenance in provenances.items() if provenance is not None}
    return DataSource(data, videos, queries, queries.widths, known, files, _pca_file(videos))


def _open_text(data: DataConfig, trusted: Collection[str] | None) -> tuple[QueryFeatures, Provenance | None]:
    if data.text_features is None:
        backbone = make_backbone("text", data.text_backbone, trusted=trusted)
        return EncodedQueries(backbone), backbone.provenance()
    store = open_store(Path(data.text_features))
    return StoredQueries(store), store.provenance


def _open_speech(data: DataConfig, trusted: Collection[str] | None) -> tuple[QueryFeatures, Provenance | None]:
    if data.speech_features is None:
        raise ConfigError(
            "data.speech_features is not set: speech queries need --set data.speech_features=PATH (a store, or "
            "a folder of sound files)"
        )
    folder = Path(data.speech_features)
    store = _open_or_encode(folder, sound_files(folder), "speech", data.speech_backbone, trusted)
    return StoredQueries(store), store.provenance


_OPEN_QUERIES: dict[QueryKind, Callable[..., tuple[QueryFeatures, Provenance | None]]] = {
    "text": _open_text,
    "speech": _open_speech,
}


def _pca_file(store: FeatureStore) -> Path | None:
    """The PCA that the features of a store went through, which lies beside it, known by its content."""
    projection = store.provenance.projection if store.provenance else None
    if projection is None:
        return None
    for path in sorted(store.path.parent.glob("*.pca.safetensors")):
        if pca_sha256(path) == projection.sha256:
            return path
    log.warning(
        "%s: the PCA that made these features is not beside it (*.pca.safetensors): a model trained on them takes "
        "features alone, no video files",
        store.path,
    )
    return None


def _open_or_encode(
    path: Path, files: Mapping[str, Path], kind: Modality, backbone: str, trusted: Collection[str] | None
) -> FeatureStore:
    """The store at ``path``; where ``path`` holds media files instead, the store made of them beside it."""
    if files:
        path = path.with_name(f"{path.name}.{file_name(backbone)}.h5")
        encode_videos(files, make_backbone(kind, backbone, trusted=trusted), path)
    return open_store(path)


def file_name(backbone: str) -> str:
    """The name of a backbone with nothing in it that a file's name may not have."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in backbone)


def check_provenance(found: Provenance | None, expected: Provenance | None, modality: Modality) -> None:
    """Refuse features made by another backbone, or revision of it, than the model's, where both are known.

    Raises:
        FeatureShapeError: naming both, and the command that makes the right ones.
    """
    if found is None or expected is None or found.same_encoder(expected):
        return
    raise FeatureShapeError(
        f"the {modality} features come from {found.label}, the model was trained on {expected.label}: point "
        f"data.{modality}_features at features of that backbone{extraction_command(modality, expected)}"
    )
