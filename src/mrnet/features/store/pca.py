"""PCA of feature rows, fitted one video at a time and saved beside what it made.

Count, sum and scatter matrix are added up in float64 and decomposed once. So memory does not grow with the
number of rows, the result is that of all rows at once, which sklearn's IncrementalPCA only approaches, and
the same features give the same components every time. Nothing is whitened or scaled.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mrnet.errors import FeatureError, FeatureShapeError, OutputError
from mrnet.features.store.reader import FeatureStore, Rows, hdf5_provenance, open_hdf5
from mrnet.features.store.writer import write_store
from mrnet.files import write_bytes
from mrnet.progress import track
from mrnet.provenance import Projection, Provenance

Array = npt.NDArray[np.float64]

_METADATA = "mrnet.pca"


class PcaRecord(BaseModel):
    """How a PCA came about.

    Attributes:
        format: of the file.
        fitted_on: whose rows it was fitted on, in words.
        source: how those rows were made.
        videos: number of videos.
        rows: number of rows.
        variance_kept: share of the variance of those rows that is left, in [0, 1].
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    fitted_on: str
    source: Provenance
    videos: int
    rows: int
    variance_kept: float


@dataclass(frozen=True, slots=True, eq=False)
class Pca:
    """A mean and the directions of most variance.

    Attributes:
        mean: ``(c,)`` float64.
        components: ``(dim, c)`` float64, orthonormal, by falling variance; of each, the entry that is largest
            in absolute value is positive.
        explained_variance: ``(dim,)`` float64, of the rows along each component.
        record: how it came about.
    """

    mean: Array
    components: Array
    explained_variance: Array
    record: PcaRecord

    @classmethod
    def fit(cls, features: Iterable[tuple[str, Rows]], dim: int, source: Provenance, fitted_on: str) -> Self:
        """Fit on the rows of some videos, consumed one video at a time.

        Args:
            features: id and ``(r, source.dim)`` rows of each video.
            dim: width after.
            source: how the rows were made.
            fitted_on: whose rows they are, in words.

        Raises:
            FeatureShapeError: rows have another width.
            FeatureError: ``dim`` is more than the width or the number of rows allows, or all rows are the same.
        """
        width = source.dim
        if dim > width:
            raise FeatureError(
                f"rows of width {width} cannot be reduced to {dim}: give a --dim of {width} at most"
            )
        shift = np.zeros(width)
        total = np.zeros(width)
        scatter = np.zeros((width, width))
        videos = count = 0
        for video_id, rows in features:
            if rows.shape[1] != width:
                raise FeatureShapeError(f'"{video_id}" has rows of width {rows.shape[1]}, the others of {width}')
            if videos == 0:
                # Sums of squares far from 0 would lose the digits that the covariance is made of.
                shift = rows.mean(axis=0, dtype=np.float64)
            shifted = rows - shift
            total += shifted.sum(axis=0)
            scatter += shifted.T @ shifted
            videos += 1
            count += len(rows)
        if dim > count - 1:
            raise FeatureError(
                f"{count} rows allow {max(count - 1, 0)} components at most, not {dim}: give more videos"
            )
        mean = total / count
        variances, directions = np.linalg.eigh((scatter - count * np.outer(mean, mean)) / (count - 1))
        variances = np.maximum(variances[::-1], 0.0)  # ascending, and rounded below 0 where there is no variance
        if variances[0] == 0.0:
            raise FeatureError(f"all {count} rows are the same: there is nothing to keep of them")
        components = directions.T[::-1][:dim]
        largest = np.abs(components).argmax(axis=1)
        components = components * np.sign(components[np.arange(dim), largest])[:, None]
        record = PcaRecord(
            fitted_on=fitted_on,
            source=source,
            videos=videos,
            rows=count,
            variance_kept=float(variances[:dim].sum() / variances.sum()),
        )
        return cls(mean + shift, components, variances[:dim], record)

    @property
    def dim(self) -> int:
        """Width after."""
        return len(self.components)

    def apply(self, rows: Rows) -> Rows:
        """``(r, dim)`` float32 of ``(r, c)`` rows.

        Raises:
            FeatureShapeError: the rows have another width than those it was fitted on.
        """
        width = len(self.mean)
        if rows.shape[1] != width:
            raise FeatureShapeError(f"rows of width {rows.shape[1]}, but the PCA is of rows of width {width}")
        return ((rows - self.mean) @ self.components.T).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write a safetensors file; at no time is it there half-written.

        Raises:
            OutputError: it cannot be written.
        """
        arrays = {
            "mean": self.mean,
            "components": np.ascontiguousarray(self.components),
            "explained_variance": np.ascontiguousarray(self.explained_variance),
        }
        # One entry: the order of several is drawn by chance, and the file is known by its hash.
        content = save(arrays, {_METADATA: self.record.model_dump_json()})
        write_bytes(path, content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            FeatureError: it is missing, damaged or something else.
        """
        wrong = "give the .pca.safetensors file that `mrnet features pca` wrote"
        try:
            with safe_open(path, "numpy") as file:
                record = PcaRecord.model_validate_json((file.metadata() or {}).get(_METADATA, ""))
                arrays = [file.get_tensor(name) for name in ("mean", "components", "explained_variance")]
        except OSError as error:
            raise FeatureError(f"{path}: cannot be read ({error.strerror or error}); {wrong}") from error
        except (SafetensorError, ValidationError) as error:
            raise FeatureError(f"{path}: damaged, or no PCA; {wrong}") from error
        mean, components, variance = arrays
        dim, width = len(variance), record.source.dim
        if (mean.shape, components.shape, variance.shape) != ((width,), (dim, width), (dim,)):
            raise FeatureError(f"{path}: its arrays do not fit together; {wrong}")
        return cls(mean, components, variance, record)


def check_outputs(features: Path, pca_file: Path | None = None) -> None:
    """Refuse to replace anything but what an earlier reduction wrote.

    Args:
        features: where reduced features will be written.
        pca_file: where a PCA will be saved, if one will.

    Raises:
        OutputError: something else is there.
    """
    if features.exists() and not _holds_reduced(features):
        raise OutputError(
            f"{features}: exists, and is none of the reduced features that `mrnet features pca` writes and "
            "replaces; choose another --out"
        )
    if pca_file is not None and pca_file.exists() and not _holds_pca(pca_file):
        raise OutputError(
            f"{pca_file}: exists, and is none of the PCAs that `mrnet features pca` saves and replaces; choose "
            "another --out"
        )


def fit_store(store: FeatureStore, video_ids: Sequence[str], fitted_on: str, dim: int) -> Pca:
    """Fit a PCA on some videos of a store.

    Args:
        store: features that have not been reduced yet.
        video_ids: the videos, all of them in the store.
        fitted_on: which videos these are, in words.
        dim: width after.

    Raises:
        FeatureError: there are none, they are reduced already or cannot be read; and as :meth:`Pca.fit`.
    """
    _refuse_reduced(store)
    if not video_ids:
        raise FeatureError(f"{store.path}: holds no features to fit a PCA on")
    width = store.read(video_ids[0]).shape[1]
    source = store.provenance or Provenance(backbone=store.path.stem, dim=width)
    if source.dim != width:
        raise FeatureShapeError(f"{store.path}: rows of width {width}, but its provenance says {source.dim}")
    progress = track(video_ids, len(video_ids), "fitting", "video")
    return Pca.fit(((video_id, store.read(video_id)) for video_id in progress), dim, source, fitted_on)


def project_store(store: FeatureStore, pca_file: Path, out: Path) -> list[str]:
    """Write the features of a store reduced by a saved PCA.

    Args:
        store: features of the encoder that the PCA was fitted on, or such that do not say their encoder.
        pca_file: written by :meth:`Pca.save`.
        out: HDF5 file; appears only when it is complete.

    Returns:
        What is wrong with the videos that cannot be reduced and are left out.

    Raises:
        FeatureShapeError: the features are of another encoder.
        FeatureError: they are reduced already, none can be read, or a file cannot be read.
        OutputError: ``out`` cannot be written.
    """
    _refuse_reduced(store)
    pca = Pca.load(pca_file)
    source = store.provenance or pca.record.source
    if not source.same_encoder(pca.record.source):
        raise FeatureShapeError(
            f"{store.path}: features of {source.label}, but {pca_file} was fitted on {pca.record.source.label}: "
            "fit a PCA on these"
        )
    projection = Projection(sha256=pca_sha256(pca_file), dim=len(pca.mean), fitted_on=pca.record.fitted_on)
    left_out: list[str] = []
    video_ids = store.ids()

    def reduced() -> Iterator[tuple[str, Rows]]:
        for video_id in track(video_ids, len(video_ids), "reducing", "video"):
            try:
                rows = pca.apply(store.read(video_id))
            except FeatureError as error:
                left_out.append(f'"{video_id}": {error}')
            else:
                yield video_id, rows
        if len(left_out) == len(video_ids):
            first = f"; the first: {left_out[0]}" if left_out else ""
            raise FeatureError(f"{store.path}: none of its {len(video_ids)} videos can be reduced{first}")

    write_store(out, reduced(), source.model_copy(update={"dim": pca.dim, "projection": projection}))
    return left_out


def _holds_reduced(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with open_hdf5(path) as file:
            provenance = hdf5_provenance(file)
    except FeatureError:
        return False
    return provenance is not None and provenance.projection is not None


def _holds_pca(path: Path) -> bool:
    try:
        return path.is_file() and Pca.load(path) is not None
    except FeatureError:
        return False


def pca_sha256(path: Path) -> str:
    """Of the file of a PCA: what the features that went through it know it by."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse_reduced(store: FeatureStore) -> None:
    if store.provenance is not None and store.provenance.projection is not None:
        raise FeatureError(
            f"{store.path}: features of {store.provenance.label}: give the features as they were before"
        )
