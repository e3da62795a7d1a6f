"""Feature stores: rows of features by id, whichever way they were published.

Layouts read: one HDF5 file with a dataset ``ID`` or a group ``ID`` holding ``c3d_features``;
a folder of ``ID.h5`` (dataset ``feature``), ``ID.npy`` or ``ID.pt``. :mod:`mrnet.features.store.writer` writes them.
"""

import difflib
import os
import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from mrnet.errors import FeatureError
from mrnet.provenance import Provenance

Rows = npt.NDArray[np.float32]

_SUFFIXES = (".h5", ".hdf5", ".npy", ".pt")
_DATASET_NAMES = ("c3d_features", "feature")

MOST_VALUES = 2**30
"""Of one id: 4 GB, which at 2 rows of 512 a second are twelve days."""
# Values that a byte of a file can stand for: compression makes a thousand bytes of one.
_MOST_COMPRESSED = 1100

PROVENANCE = "provenance"
"""Name of the attribute of an HDF5 file, and with ``.json`` of the file in a folder, that holds the provenance."""


class FeatureStore(ABC):
    """Rows of features by id. Can be pickled and used in worker processes.

    Attributes:
        path: the HDF5 file or the folder.
        provenance: how the features were made; ``None`` for published files, which do not say.
    """

    path: Path
    provenance: Provenance | None

    @abstractmethod
    def ids(self) -> list[str]:
        """Every id in the store, sorted."""

    @abstractmethod
    def __contains__(self, feature_id: object) -> bool: ...

    @abstractmethod
    def _load(self, feature_id: str) -> tuple[Any, str]:
        """The array of an id as stored, and where it was found."""

    def duplicates(self) -> dict[str, tuple[str, ...]]:
        """Ids that more than one file claims, with the names of those files."""
        return {}

    def read(self, feature_id: str) -> Rows:
        """Read the rows of one id.

        Args:
            feature_id: a video id, or the stem of a query's sound file.

        Returns:
            ``(r, c)`` float32, r and c at least 1, every value finite.

        Raises:
            FeatureError: the id is missing, its file unreadable, or it holds anything else.
        """
        rows, where = self._load_rows(feature_id)
        if len(rows) == 0:
            raise FeatureError(f"{where}: has no rows; extract its features again")
        if not np.isfinite(rows).all():
            bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise FeatureError(f"{where}: row {bad} holds NaN or infinity; extract its features again")
        return rows

    def duration_s(self, feature_id: str) -> float | None:
        """Length of a video by the rate of its rows; ``None`` where the rate or the video is unknown."""
        rate = self.provenance.rows_per_s if self.provenance else None
        if rate is None or feature_id not in self:
            return None
        return len(self.read_unchecked(feature_id)) / rate or None

    def read_unchecked(self, feature_id: str) -> Rows:
        """As :meth:`read`, but rows may be absent (r = 0) or not finite."""
        return self._load_rows(feature_id)[0]

    def _load_rows(self, feature_id: str) -> tuple[Rows, str]:
        if feature_id not in self:
            ids = self.ids()
            raise FeatureError(
                f'{self.path}: no features for "{feature_id}" among its {len(ids)} ids'
                f"{find_close(feature_id, ids)}; extract them, or correct the id"
            )
        array, where = self._load(feature_id)
        return as_rows(array, where), where


class _Hdf5Store(FeatureStore):
    """One HDF5 file of every id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._pid = 0
        # Opened only for this look: a handle made here would be shared by forked workers.
        with open_hdf5(path) as file:
            self.provenance = hdf5_provenance(file)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_file": None, "_pid": 0}

    def _handle(self) -> h5py.File:
        if self._file is None or self._pid != os.getpid():
            if self._file is not None:
                # A handle inherited over a fork: closed, else HDF5 hands the same one out again.
                self._file.close()
            self._file, self._pid = open_hdf5(self.path), os.getpid()
        return self._file

    def ids(self) -> list[str]:
        with reading(str(self.path)):
            return sorted(self._handle())

    def __contains__(self, feature_id: object) -> bool:
        with reading(str(self.path)):
            return isinstance(feature_id, str) and feature_id in self._handle()

    def _load(self, feature_id: str) -> tuple[Any, str]:
        where = f'{self.path}, "{feature_id}"'
        with reading(where):
            return read_dataset(self._handle(), feature_id, where), where


class _FolderStore(FeatureStore):
    """A folder with a file an id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: dict[str, tuple[str, ...]] = {}
        for file in feature_files(path):
            self._names[file.stem] = (*self._names.get(file.stem, ()), file.name)
        if not self._names:
            raise FeatureError(f"{path}: no feature files in this folder; it should hold ID.h5, ID.npy or ID.pt")
        self.provenance = folder_provenance(path)

    def ids(self) -> list[str]:
        return sorted(self._names)

    def __contains__(self, feature_id: object) -> bool:
        return feature_id in self._names

    def duplicates(self) -> dict[str, tuple[str, ...]]:
        return {feature_id: names for feature_id, names in self._names.items() if len(names) > 1}

    def _load(self, feature_id: str) -> tuple[Any, str]:
        names = self._names[feature_id]
        if len(names) > 1:
            raise FeatureError(
                f'{self.path}: "{feature_id}" has {len(names)} files ({", ".join(names)}); keep one'
            )
        path = self.path / names[0]
        return _load_file(path), str(path)


def open_store(path: Path) -> FeatureStore:
    """Open features in any of the layouts above.

    Args:
        path: an HDF5 file, or a folder of files.

    Returns:
        A store; its arrays are read one id at a time.

    Raises:
        FeatureError: nothing there, not HDF5, truncated, or a folder without feature files.
    """
    if path.is_dir():
        return _FolderStore(path)
    if not path.exists():
        raise FeatureError(f"{path}: no such file or folder; give the path of the features")
    return _Hdf5Store(path)


def find_close(name: str, candidates: Iterable[str]) -> str:
    """A hint for a mistyped name: ``' (close: "a", "b")'``, or empty where nothing is close."""
    close = [f'"{match}"' for match in difflib.get_close_matches(name, list(candidates))]
    return f" (close: {', '.join(close)})" if close else ""


def as_rows(array: Any, where: str) -> Rows:
    """``(r, c)`` float32 of an ``(r, c)``, ``(r, 1, …, 1, c)`` or ``(c,)`` array."""
    if not isinstance(array, np.ndarray):
        raise FeatureError(f"{where}: holds a {type(array).__name__}; it should be an (n, C) array")
    if array.dtype.kind not in "fiu":
        raise FeatureError(f"{where}: values of type {array.dtype}; they should be float32")
    if array.ndim == 0 or array.shape[-1] == 0 or any(size != 1 for size in array.shape[1:-1]):
        raise FeatureError(f"{where}: shape {array.shape}; it should be (n, C), a row per moment of time")
    count = array.shape[0] if array.ndim > 1 else 1
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, and is named later
        return array.reshape(count, array.shape[-1]).astype(np.float32, copy=False)


def _load_file(path: Path) -> Any:
    suffix = path.suffix.lower()
    with reading(str(path)):
        if suffix == ".npy":
            return _load_npy(path)
        if suffix == ".pt":
            return _load_tensor(path)
        with open_hdf5(path) as file:
            return _values(_only_dataset(file, str(path)), str(path))


def _load_npy(path: Path) -> Any:
    """Mapped first, which takes no memory: a header may claim any number of rows."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    check_size(mapped.size, mapped.nbytes, str(path))
    return np.array(mapped)


def _load_tensor(path: Path) -> Any:
    import torch  # slow to import, and only this layout needs it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on kinds of tensors that are refused below
            tensor = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise FeatureError(
            f"{path}: damaged, or it needs unpickling, which can run code and is not done; "
            "save the tensor alone, with torch.save(tensor, path)"
        ) from None
    if not isinstance(tensor, torch.Tensor):
        return tensor
    is_plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if not is_plain or tensor.is_nested or tensor.is_quantized:
        raise FeatureError(f"{path}: holds a tensor of a special kind; save it as tensor.to_dense().float()")
    if tensor.is_complex() or tensor.dtype is torch.bool:
        raise FeatureError(f"{path}: values of type {tensor.dtype}; they should be float32")
    check_size(tensor.numel(), tensor.untyped_storage().nbytes(), str(path))
    return tensor.detach().float().numpy()


def check_size(count: int, held_bytes: int, where: str) -> None:
    """Refuse an array that claims far more values than its file holds, or than anyone has, before it is made.

    Raises:
        FeatureError: it does.
    """
    if count > MOST_VALUES or count > held_bytes * _MOST_COMPRESSED:
        raise FeatureError(f"{where}: claims {count} values, far more than it holds; get it again")


def read_dataset(parent: h5py.Group, name: str, where: str) -> Any:
    """The values of a dataset in a file, or of the one in a group; nothing that lies in another file.

    Raises:
        FeatureError: there is no such dataset in this very file, or it claims more than it holds.
    """
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise FeatureError(f"{where}: is a link, which may lead to other files; copy the features into one file")
    return _values(_only_dataset(parent[name], where), where)


def _values(dataset: h5py.Dataset, where: str) -> Any:
    if dataset.is_virtual or dataset.external:
        raise FeatureError(f"{where}: its values lie in another file; copy the features into one file")
    check_size(dataset.size or 0, dataset.id.get_storage_size(), where)
    return dataset[()]


def _only_dataset(found: Any, where: str) -> h5py.Dataset:
    """The dataset itself, or the one of a group: by its usual name, else the only one."""
    if isinstance(found, h5py.Dataset):
        return found
    if not isinstance(found, h5py.Group):
        raise FeatureError(f"{where}: holds no values; it should be an (n, C) array")
    names = [name for name in _DATASET_NAMES if name in found] or list(found)
    own = [name for name in names if isinstance(found.get(name, getlink=True), h5py.HardLink)]
    if len(names) != 1 or own != names or not isinstance(found[names[0]], h5py.Dataset):
        listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise FeatureError(
            f"{where}: holds {len(names)} entries ({listed}) where one dataset `feature` was expected; "
            "give a file of many ids by its own path"
        )
    return found[names[0]]


def open_hdf5(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "truncated or damaged" if h5py.is_hdf5(path) else "not an HDF5 file"
        raise FeatureError(f"{path}: {reason}; copy or extract the features again") from error


def feature_files(folder: Path) -> list[Path]:
    """The files of a folder that hold features, sorted."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def hdf5_provenance(file: h5py.File) -> Provenance | None:
    """How the features of a file were made; ``None`` where it does not say.

    Raises:
        FeatureError: what it says is malformed.
    """
    with reading(file.filename):
        stored = file.attrs.get(PROVENANCE)
    return None if stored is None else _parse_provenance(stored, file.filename)


def folder_provenance(folder: Path) -> Provenance | None:
    """How the features of a folder were made; ``None`` where it does not say.

    Raises:
        FeatureError: what it says is malformed.
    """
    notes = folder / f"{PROVENANCE}.json"
    return _parse_provenance(notes.read_bytes(), notes) if notes.is_file() else None


def _parse_provenance(stored: str | bytes, path: str | Path) -> Provenance:
    try:
        return Provenance.model_validate_json(stored)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"`{part}`: " for part in first["loc"])
        raise FeatureError(
            f"{path}: malformed provenance ({field}{first['msg']}); write the store again"
        ) from error


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns what the readers of each format raise on a damaged file into one line."""
    try:
        yield
    except (FeatureError, MemoryError):
        raise
    except Exception as error:  # damage can raise anything
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise FeatureError(
                f"{where}: Python objects that need unpickling, which can run code and is not done; "
                "save the rows alone, as a float32 array"
            ) from error
        raise FeatureError(f"{where}: cannot be read; the file may be truncated, get it again") from error
