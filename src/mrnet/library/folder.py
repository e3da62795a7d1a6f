"""The video files of a folder, and what tells whether they have changed."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from mrnet.errors import DataError
from mrnet.media.subtitles import SUBTITLE_SUFFIXES
from mrnet.types import VIDEO_SUFFIXES


@dataclass(frozen=True, slots=True)
class File:
    """A video file.

    Attributes:
        path: absolute.
        stamp: changes when the file, or subtitles beside it, do.
        modified_s: when it was last modified, in seconds since 1970.
    """

    path: str
    stamp: str
    modified_s: float


@dataclass
class Listing:
    """What a folder holds.

    Attributes:
        files: by path.
        failed: file or folder -> why it cannot be looked into.
    """

    files: dict[str, File] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def list_videos(folder: Path) -> Listing:
    """The video files below a folder; hidden ones are left out, and links to folders are not followed.

    Args:
        folder: absolute.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; give a folder of videos")
    listing = Listing()

    def fail(error: OSError) -> None:
        listing.failed[str(error.filename)] = f"cannot be looked into ({error.strerror})"

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        subtitles = [name for name in sorted(names) if _ends(name, SUBTITLE_SUFFIXES)]
        for name in sorted(names):
            if name.startswith(".") or not _ends(name, VIDEO_SUFFIXES):
                continue
            path = Path(parent, name)
            try:
                str(path).encode()
                if not path.is_file() and path.exists():  # a pipe, say, which would be waited for
                    listing.failed[str(path)] = "is no file"
                    continue
                stem = path.stem
                files = [path, *(path.parent / other for other in subtitles if other.startswith(stem))]
                listing.files[str(path)] = File(str(path), _stamp(files), path.stat().st_mtime)
            except OSError as error:
                listing.failed[str(path)] = f"cannot be read ({error.strerror})"
            except UnicodeEncodeError:
                shown = str(path).encode(errors="backslashreplace").decode()
                listing.failed[shown] = "its name is not UTF-8; rename it"
    return listing


def is_below(path: str, folder: Path | str) -> bool:
    """Whether a path is a folder, or lies in it at any depth."""
    return PurePath(path).is_relative_to(folder)


def _ends(name: str, suffixes: Iterable[str]) -> bool:
    return name.lower().endswith(tuple(suffixes))


def _stamp(files: Iterable[Path]) -> str:
    parts = []
    for path in files:
        stat = path.stat()
        parts.append(f"{path.name} {stat.st_size} {stat.st_mtime_ns}")
    return "; ".join(parts)
