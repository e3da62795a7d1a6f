"""Files and folders that are there whole or not at all, whatever happens while they are written.

What is written grows under a hidden name beside its own, ``.NAME.mrnet-tmp.SUFFIX``, and takes its own when it is
complete. The hidden file is made anew, never through a link, and is locked while it grows: a second writer is
refused, and what a killed process left is removed by the next.
"""

import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from mrnet.errors import OutputError

Dataset = tuple[str, npt.NDArray[np.float32], Mapping[str, str]]
"""Name, values and attributes."""

_MARK = ".mrnet-tmp"


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8; as :func:`write_bytes`.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(path, _utf8(path, text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: a reader sees the old content or the new, never a part.

    Args:
        path: the file, new or to be replaced; its folder is made if need be. Where it is a link, the file that it
            leads to is replaced.
        content: all of it.

    Raises:
        OutputError: it cannot be written, or something else than a file is there.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty file beside ``path`` and with its suffix, to write into.

    At the end of the block it takes the place of ``path``, as :func:`write_bytes` describes; on any error, Ctrl-C
    too, it goes, and what was there stays. An error of the system in the block counts as one of writing.

    Raises:
        OutputError: it cannot be written, something else than a file is there, or another process is writing it.
    """
    with writing(path), _replacing(path) as temporary:
        yield temporary


def write_together(folder: Path, texts: Mapping[str, str]) -> None:
    """Write several text files of a folder, all or none.

    The last one tells that all are there: it is removed before any other is replaced, and written after them.

    Args:
        folder: where to; made if need be.
        texts: file name -> text.

    Raises:
        OutputError: one cannot be written.
    """
    paths = [folder / name for name in texts]
    with writing(folder), ExitStack() as stack:
        # Entered from the last, since the one entered last is the first to be replaced.
        temporaries = [stack.enter_context(_replacing(path)) for path in reversed(paths)][::-1]
        for path, temporary, text in zip(paths, temporaries, texts.values(), strict=True):
            temporary.write_bytes(_utf8(path, text))
        _followed(paths[-1]).unlink(missing_ok=True)


def write_hdf5(path: Path, attributes: Mapping[str, str], datasets: Iterable[Dataset]) -> None:
    """Write an HDF5 file; the one that is there stays until this one is complete.

    Args:
        path: the file; its folder is made if need be.
        attributes: of the file.
        datasets: consumed one by one; an exception out of them leaves all as it was.

    Raises:
        OutputError: it cannot be written, something else than a file is there, or another process is writing it.
    """
    with _replacing(path) as temporary, _Disk(temporary, "r+") as disk:
        with h5py.File(disk, "w") as file:
            file.attrs.update(attributes)
            for name, values, its_attributes in datasets:
                file.create_dataset(name, data=values).attrs.update(its_attributes)
                disk.check(path)
        disk.check(path)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A folder that appears under its name only when it is complete.

    Yields a new folder beside it to write into, which takes the place of ``path`` at the end of the block; on any
    error, Ctrl-C too, it goes. An error of the system in the block counts as one of writing.

    Raises:
        OutputError: ``path`` exists and is not an empty folder, is the working folder, or cannot be written.
    """
    check_new(path)
    with writing(path):
        target = _followed(path)
        if target == Path.cwd().resolve():
            raise OutputError(f"{path}: is the working folder, which cannot be replaced: name a new folder")
        with _temporary(target, path, Path.mkdir) as temporary:
            yield temporary
            with suppress(FileNotFoundError):
                target.rmdir()
            temporary.rename(target)


def check_new(path: Path) -> None:
    """Refuse a path where something is already.

    Raises:
        OutputError: it exists and is not an empty folder, or cannot be looked into.
    """
    with writing(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise OutputError(f"{path} already exists and is not empty: choose another place or remove it")


def make_directory(path: Path) -> Path:
    """A folder to write results into, made if need be.

    Raises:
        OutputError: it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A folder that no other process works in for the time of the block; made if need be.

    One that was made here, and in which nothing is at the end, goes.

    Raises:
        OutputError: it cannot be made, or another process works in it.
    """
    is_new = not folder.exists()
    make_directory(folder)
    with ExitStack() as stack:
        with writing(folder):
            stack.enter_context(_locked(folder))
        try:
            yield
        finally:
            if is_new:
                with suppress(OSError):
                    folder.rmdir()


def remove_left_in(folder: Path) -> None:
    """Remove what killed processes left in a folder.

    Raises:
        OutputError: one of them is alive.
    """
    with writing(folder):
        for temporary in folder.glob(f".*{_MARK}*"):
            _remove_left(temporary)


def open_to_append(path: Path) -> BinaryIO:
    """A file to add to, made if need be; unbuffered, and never through a link.

    Raises:
        OutputError: it cannot be opened, or is a link.
    """
    with writing(path):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return os.fdopen(os.open(path, flags, 0o666), "ab", buffering=0)


def lock(file: BinaryIO, path: Path) -> None:
    """Refuse a second writer until this file is closed, or its process ends in whatever way.

    Args:
        file: open for writing.
        path: what to call it in the message.

    Raises:
        OutputError: another process has it.
    """
    with writing(path):
        _lock(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns errors of the system into one line.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    try:
        yield
    except BlockingIOError:
        raise OutputError(
            f"{path}: another process is writing here; wait for it, or choose another place"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """As :func:`replacing`, but errors of the block pass as they are."""
    with writing(path):
        target = _followed(path)
        if target.exists() and not target.is_file():
            what = "a folder" if target.is_dir() else "no regular file"
            raise OutputError(f"{path}: is {what}, where a file should be written; choose another place")
    with _temporary(target, path, lambda new: new.touch(exist_ok=False)) as temporary:
        yield temporary
        with writing(path):
            temporary.replace(target)


@contextmanager
def _temporary(target: Path, path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """What becomes ``target``, called ``path`` in messages: new, locked, and gone at the end if it is still there."""
    temporary = target.with_name(f".{target.stem}{_MARK}{target.suffix}")
    with ExitStack() as stack:
        with writing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                make(temporary)
            except FileExistsError:
                _remove_left(temporary)
                make(temporary)
            stack.enter_context(_locked(temporary))
        try:
            yield temporary
        except BaseException:
            _remove(temporary)
            raise


def _remove_left(temporary: Path) -> None:
    """Remove what a killed process left.

    Raises:
        BlockingIOError: its process is alive.
        OutputError: it may be alive.
    """
    if temporary.is_symlink():  # none of ours; where it leads is left alone
        temporary.unlink()
        return
    with suppress(FileNotFoundError), _locked(temporary) as is_locked:
        if not is_locked:
            raise OutputError(
                f"{temporary}: is being written, or was left by a killed process: wait, or remove it"
            )
        _remove(temporary)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lock a file or a folder; False where that cannot be done.

    Raises:
        BlockingIOError: another process has it, or something else has come in its stead.
    """
    if os.name != "posix":
        yield False
        return
    handle = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        is_locked = _lock(handle)
        if not os.path.samestat(os.fstat(handle), path.lstat()):
            raise BlockingIOError
        yield is_locked
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Lock what is open, until it is closed; False where that cannot be done.

    Raises:
        BlockingIOError: another process has it.
    """
    if os.name != "posix":
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a network file system without locks
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _followed(path: Path) -> Path:
    """Where a path leads, through links; it need not be there."""
    return Path(os.path.realpath(path))


def _utf8(path: Path, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise OutputError(f"{path}: its text holds {half!a}, half a character; write that anew") from None


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
