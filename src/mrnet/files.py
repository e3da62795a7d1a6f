"""Files that are there whole or not at all, whatever happens while they are written."""

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from mrnet.errors import FeatureError

Dataset = tuple[str, npt.NDArray[np.float32], Mapping[str, str]]
"""Name, values and attributes."""


def write_hdf5(path: Path, attributes: Mapping[str, str], datasets: Iterable[Dataset]) -> None:
    """Write an HDF5 file; the one that is there stays until this one is complete.

    Args:
        path: the file; its folder is made if need be.
        attributes: of the file.
        datasets: consumed one by one; an exception out of them leaves all as it was.

    Raises:
        FeatureError: it cannot be written, or another process is at it.
    """
    temporary = _temporary(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        disk = _Disk(temporary, "r+")
    with disk:
        lock(disk, path)
        with _replacing(temporary, path):
            disk.truncate(0)  # what a kill left; HDF5 would read it
            with h5py.File(disk, "w") as file:
                file.attrs.update(attributes)
                for name, values, its_attributes in datasets:
                    file.create_dataset(name, data=values).attrs.update(its_attributes)
                    disk.check(path)
            disk.check(path)


def write_file(path: Path, content: bytes) -> None:
    """Write a file at a stroke.

    Raises:
        FeatureError: it cannot be written.
    """
    temporary = _temporary(path)
    with _replacing(temporary, path), writing(path):
        temporary.write_bytes(content)


def lock(file: BinaryIO, path: Path) -> None:
    """Refuse a second writer until this file is closed, or its process ends in whatever way.

    Args:
        file: open for writing.
        path: what to call it in the message.

    Raises:
        FeatureError: another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FeatureError(
            f"{path}: another process is writing here; wait for it, or choose another place"
        ) from None
    except OSError:
        return  # a network file system without locks


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns errors of the system into one line.

    Raises:
        FeatureError: ``path`` cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise FeatureError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")  # one left by a kill is written over


@contextmanager
def _replacing(temporary: Path, path: Path) -> Iterator[None]:
    """The temporary file, written here, takes the place of the other; on any error, Ctrl-C included, it goes."""
    try:
        yield
        with writing(path):
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class _Disk(io.FileIO):
    """A file that keeps its errors until asked: after a failed write HDF5 can neither close its file nor exit."""

    _error: OSError | None = None

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        with self._keeping():
            done = 0
            while done < len(view):
                done += super().write(view[done:])
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        with self._keeping():
            super().truncate(size)
        return size or 0

    def check(self, path: Path) -> None:
        """Raise the first error there was."""
        if self._error is not None:
            with writing(path):
                raise self._error

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error
