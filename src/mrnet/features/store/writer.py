"""Writing feature stores, a source at a time: whatever ends the job, what is finished stays.

Layouts: ``hdf5``, one file; ``npy`` and ``pt``, a folder with a file an id, ``pt`` being the released one.
Every store keeps the provenance of its rows and, id by id, what they were made from.
"""

import io
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import h5py
import numpy as np
import numpy.typing as npt

from mrnet.documents import parse_json
from mrnet.errors import FeatureError
from mrnet.features.store.reader import (
    PROVENANCE,
    Rows,
    as_rows,
    feature_files,
    folder_provenance,
    hdf5_provenance,
    open_hdf5,
    open_store,
    read_dataset,
    reading,
)
from mrnet.files import Dataset, lock, open_to_append, write_bytes, write_hdf5, write_text, writing
from mrnet.provenance import Provenance

Layout = Literal["hdf5", "npy", "pt"]

_HDF5_SUFFIXES = (".h5", ".hdf5")
_ORIGIN = "origin"
_JOURNAL = "origins.jsonl"
# A file's name has at most 255 bytes; what is put round an id takes a few.
_LONGEST_ID = 240


class StoreWriter(ABC):
    """A store that is being written.

    Attributes:
        path: the HDF5 file or the folder.
        provenance: how the rows are made.
        stored: id -> what its rows were made from, as told to :meth:`write`, ``""`` if unknown; what an earlier
            job finished is in it from the start.
    """

    path: Path
    provenance: Provenance
    stored: dict[str, str]

    @abstractmethod
    def begin(self) -> None:
        """Make the place to write to; before the first :meth:`write`.

        Raises:
            OutputError: it cannot be made, or another process is writing this store.
        """

    @abstractmethod
    def write(self, feature_id: str, rows: Rows, origin: str) -> None:
        """Store the rows of an id, in place of those it had. A kill leaves them stored, or as they were.

        Args:
            feature_id: as passed by :func:`check_id`.
            rows: as given by :func:`check_rows`.
            origin: what the rows were made from.

        Raises:
            OutputError: they cannot be written.
        """

    @abstractmethod
    def finish(self) -> None:
        """Complete the store, or leave nothing where nothing was stored; the last call.

        Raises:
            OutputError: it cannot be written.
        """

    @abstractmethod
    def abandon(self) -> None:
        """The last call instead, where the job fails: what was written is kept for the next one."""


def open_writer(
    path: Path, provenance: Provenance, layout: Layout | None = None, *, replace: bool = False
) -> StoreWriter:
    """Write a store, or go on writing it; nothing is touched yet.

    Args:
        path: the HDF5 file or the folder, there or not.
        provenance: how the rows are made.
        layout: by the ending of ``path`` if left out: ``hdf5`` for .h5 and .hdf5, else ``npy``.
        replace: whether features of another backbone, in an HDF5 file that says so, give way to these.

    Raises:
        FeatureError: something else is there, or features that were made in another way.
    """
    if layout is None:
        layout = "hdf5" if path.suffix.lower() in _HDF5_SUFFIXES else "npy"
    return _Hdf5Writer(path, provenance, replace) if layout == "hdf5" else _FolderWriter(path, provenance, layout)


def write_store(path: Path, rows: Iterable[tuple[str, npt.NDArray[Any]]], provenance: Provenance) -> None:
    """Write one HDF5 file at a stroke, a dataset an id; at no time is it there half-written.

    Args:
        path: the file; replaced if it exists. Its folder is made if need be.
        rows: id and (n, ``provenance.dim``) array, finite, n at least 1; consumed one by one.
        provenance: how the rows were made.

    Raises:
        FeatureError: an id comes twice or cannot name a dataset, or an array has another shape or is not finite.
        OutputError: the file cannot be written.
    """

    def checked() -> Iterator[Dataset]:
        seen: set[str] = set()
        for feature_id, array in rows:
            check_id(feature_id)
            if feature_id in seen:
                raise FeatureError(f'features of "{feature_id}": the id comes twice; give every id once')
            seen.add(feature_id)
            yield feature_id, check_rows(feature_id, array, provenance.dim), {}

    write_hdf5(path, {PROVENANCE: provenance.model_dump_json()}, checked())


def check_id(feature_id: str) -> None:
    """Refuse an id that cannot name a file and a dataset.

    Raises:
        FeatureError: says why.
    """
    try:
        length = len(feature_id.encode())
    except UnicodeEncodeError:
        length = 0
    if not 0 < length <= _LONGEST_ID or feature_id.startswith(".") or not set(feature_id).isdisjoint("/\\\0"):
        raise FeatureError(
            f"features of {json.dumps(feature_id)}: this id cannot name a file or dataset; use one of up to "
            f"{_LONGEST_ID} bytes, without slashes or a leading dot"
        )


def check_rows(feature_id: str, array: npt.NDArray[Any], dim: int) -> Rows:
    """The rows of an id as they are stored: ``(r, dim)`` float32, finite, r at least 1.

    Raises:
        FeatureError: they are anything else.
    """
    where = f'features of "{feature_id}"'
    rows = as_rows(array, where)
    if len(rows) == 0 or rows.shape[1] != dim:
        raise FeatureError(f"{where}: shape {rows.shape}, but the provenance says rows of width {dim}")
    if not np.isfinite(rows).all():
        raise FeatureError(f"{where}: NaN or infinity in it; it is not written")
    return rows


class _FolderWriter(StoreWriter):
    """A folder of ``ID.npy`` or ``ID.pt``; origins are a journal, a line each time an id is written."""

    def __init__(self, path: Path, provenance: Provenance, layout: Literal["npy", "pt"]) -> None:
        self.path, self.stored = path, {}
        self.provenance, self._layout = provenance, layout
        self._journal: BinaryIO | None = None
        if path.is_dir():
            self._look()
        elif path.exists():
            raise FeatureError(
                f"{path}: is a file, where a folder of {layout} files should be; choose another place"
            )

    def _look(self) -> None:
        found = folder_provenance(self.path)
        names = {file.name for file in feature_files(self.path)}
        if names or found is not None:
            _check_same(self.path, found, self.provenance)
        other = next((name for name in sorted(names) if not name.endswith(f".{self._layout}")), None)
        if other is not None:
            raise FeatureError(f"{self.path}: holds {other}, not {self._layout} files; choose another folder")
        journal = self.path / _JOURNAL
        for line in journal.read_bytes().splitlines() if journal.is_file() else ():
            feature_id, origin = _journalled(line)
            if feature_id and self._file(feature_id).name in names:
                self.stored[feature_id] = origin

    def begin(self) -> None:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            journal = open_to_append(self.path / _JOURNAL)
            lock(journal, self.path)
            self._journal = journal
            if (self.path / _JOURNAL).read_bytes()[-1:] not in (b"", b"\n"):
                journal.write(b"\n")  # after a line cut off by a full disk
            notes = self.path / f"{PROVENANCE}.json"
            if not notes.exists():
                write_text(notes, self.provenance.model_dump_json(indent=2) + "\n")

    def write(self, feature_id: str, rows: Rows, origin: str) -> None:
        assert self._journal is not None, "begin() comes first"
        with writing(self.path):
            # In this order: rows without their line are only written again.
            write_bytes(self._file(feature_id), _FILES[self._layout](rows))
            self._journal.write((json.dumps({"id": feature_id, _ORIGIN: origin}) + "\n").encode())
        self.stored[feature_id] = origin

    @property
    def begun(self) -> bool:
        return self._journal is not None

    def finish(self) -> None:
        if self._journal is None:
            return
        self._journal.close()
        self._journal = None
        if not self.stored:
            with suppress(OSError):  # what else is in the folder stays
                (self.path / _JOURNAL).unlink()
                (self.path / f"{PROVENANCE}.json").unlink()
                self.path.rmdir()

    abandon = finish

    def _file(self, feature_id: str) -> Path:
        return self.path / f"{feature_id}.{self._layout}"


class _Hdf5Writer(StoreWriter):
    """One HDF5 file. Until the job is finished new rows are files of a hidden folder beside it."""

    def __init__(self, path: Path, provenance: Provenance, replace: bool) -> None:
        self.path, self.stored = path, {}
        self.provenance = provenance
        self._kept: dict[str, str] = {}  # of the file that is there, whose rows stay
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file"
            raise FeatureError(f"{path}: is {what}, where one HDF5 file should be; choose another place")
        if path.exists():
            with open_hdf5(path) as file:
                found = hdf5_provenance(file)
                if not replace or found is None or _same(found, provenance):
                    self.provenance = _check_same(path, found, provenance)
                    with reading(str(path)):
                        self._kept = {feature_id: _origin(file, feature_id, path) for feature_id in file}
                    self.stored = dict(self._kept)
        parts = path.with_name(f".{path.name}.partial")
        if parts.is_symlink():
            raise FeatureError(f"{parts}: is a link, where this command makes a folder of its own; remove it")
        if replace and parts.is_dir() and not _same(folder_provenance(parts), provenance):
            shutil.rmtree(parts)
        self._parts = _FolderWriter(parts, provenance, "npy")
        self.stored |= self._parts.stored

    def begin(self) -> None:
        self._parts.begin()

    def write(self, feature_id: str, rows: Rows, origin: str) -> None:
        self._parts.write(feature_id, rows, origin)
        self.stored[feature_id] = origin

    def finish(self) -> None:
        if not self._parts.path.is_dir():
            return  # there was nothing to do
        if not self._parts.begun:
            self._parts.begin()  # finished by a job that was killed before it came here
        if self._parts.stored:
            write_hdf5(self.path, {PROVENANCE: self.provenance.model_dump_json()}, self._merged())
        self._parts.finish()
        shutil.rmtree(self._parts.path, ignore_errors=True)

    def abandon(self) -> None:
        self._parts.abandon()

    def _merged(self) -> Iterator[Dataset]:
        if self._kept:
            with open_hdf5(self.path) as file:
                for feature_id in self._kept.keys() - self._parts.stored.keys():
                    where = f'{self.path}, "{feature_id}"'
                    with reading(where):
                        rows = as_rows(read_dataset(file, feature_id, where), where)
                    yield feature_id, rows, {_ORIGIN: self._kept[feature_id]}
        parts = open_store(self._parts.path)
        for feature_id, origin in self._parts.stored.items():
            yield feature_id, parts.read(feature_id), {_ORIGIN: origin}


def _journalled(line: bytes) -> tuple[str, str]:
    """Id and origin of a line; empty where it was cut off, or is none of ours."""
    try:
        entry = parse_json(line)
    except ValueError:
        return "", ""
    feature_id, origin = (entry.get("id"), entry.get(_ORIGIN)) if isinstance(entry, dict) else (None, None)
    return (feature_id, origin) if isinstance(feature_id, str) and isinstance(origin, str) else ("", "")


def _npy(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def _pt(rows: Rows) -> bytes:
    import torch  # slow to import, and only this layout needs it

    buffer = io.BytesIO()
    torch.save(torch.tensor(rows), buffer)
    return buffer.getvalue()


_FILES: dict[str, Callable[[Rows], bytes]] = {"npy": _npy, "pt": _pt}


def _origin(file: h5py.File, feature_id: str, path: Path) -> str:
    if not isinstance(file.get(feature_id, getlink=True), h5py.HardLink):
        raise FeatureError(f'{path}, "{feature_id}": is a link, as no store has that is written here; remove it')
    return str(file[feature_id].attrs.get(_ORIGIN, ""))


def _same(found: Provenance | None, wanted: Provenance) -> bool:
    return (
        found is not None
        and found.same_encoder(wanted)
        and (found.dim, found.rows_per_s) == (wanted.dim, wanted.rows_per_s)
    )


def _check_same(path: Path, found: Provenance | None, wanted: Provenance) -> Provenance:
    if found is None:
        raise FeatureError(f"{path}: holds features that do not say how they were made; choose another place")
    if not _same(found, wanted):
        raise FeatureError(
            f"{path}: holds features of {_describe(found)}, not of {_describe(wanted)}; choose another place"
        )
    return found


def _describe(provenance: Provenance) -> str:
    rate = "" if provenance.rows_per_s is None else f", {provenance.rows_per_s:g} rows/s"
    return f"{provenance.label} ({provenance.dim} wide{rate})"
