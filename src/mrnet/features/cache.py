"""Rows of videos that were encoded before, kept for the next question.

An entry is known by the content of its video, the encoder and the rate of the rows, so a moved or renamed video is the
same, and a changed one is not. The least recently used entries go when the whole grows too large.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mrnet.documents import parse_json
from mrnet.errors import OutputError
from mrnet.features.backbone import Rows
from mrnet.files import replacing
from mrnet.provenance import Provenance

log = logging.getLogger(__name__)

MOST_BYTES = 4 * 2**30
"""Size that a cache is kept below."""

FOLDER_VARIABLE = "MRNET_CACHE"
"""Environment variable that names another folder."""

# Of a file, so many pieces of this size are looked at: reading all of a film would take longer than answering.
_PIECES, _PIECE_BYTES = 32, 64 * 1024
_METADATA = "mrnet"
_SUFFIX = ".rows.safetensors"


@dataclass(frozen=True)
class Entry:
    """A cached video.

    Attributes:
        path: file of the rows.
        name: of the video's file when it was encoded.
        backbone: its encoder.
        num_bytes: size of the rows on disk.
        used_s: when it was last used, in seconds since 1970.
    """

    path: Path
    name: str
    backbone: str
    num_bytes: int
    used_s: float


class FeatureCache:
    """A folder of encoded videos.

    Args:
        folder: made when first written to; by default that of the environment variable ``MRNET_CACHE``, else the one
            that this system has for caches.
        most_bytes: the least recently used entries are removed to stay below.
    """

    def __init__(self, folder: Path | None = None, most_bytes: int = MOST_BYTES) -> None:
        named = os.environ.get(FOLDER_VARIABLE)
        self.folder = folder or (Path(named) if named else platformdirs.user_cache_path("mrnet"))
        self.most_bytes = most_bytes

    def get(self, video: Path, provenance: Provenance) -> Rows | None:
        """The rows of a video, ``(r, c)`` float32; ``None`` where they are not here, or damaged."""
        found = self.get_with_text(video, provenance)
        return None if found is None else found[0]

    def get_with_text(self, video: Path, provenance: Provenance) -> tuple[Rows, str] | None:
        """As :meth:`get`, with the text that was put beside them."""
        path = self._path(video, provenance)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, "numpy") as file:
                rows: Rows = file.get_tensor("rows")
                text = _about(file.metadata()).get("text", "")
            os.utime(path)
        except (SafetensorError, OSError, ValueError):
            return None
        is_whole = rows.dtype == np.float32 and rows.shape[1:] == (provenance.dim,) and np.isfinite(rows).all()
        return (rows, text) if is_whole else None

    def put(self, video: Path, provenance: Provenance, rows: Rows, text: str = "") -> None:
        """Keep the rows of a video, and a text beside them; a warning where there is no room or no right to."""
        path = self._path(video, provenance)
        if path is None or rows.nbytes > self.most_bytes:
            return
        about = json.dumps({"name": video.name, "backbone": provenance.backbone, "text": text})
        try:
            with replacing(path) as part:  # as a file, not as bytes: of a long video those would be as many again
                save_file({"rows": np.ascontiguousarray(rows)}, part, {_METADATA: about})
            self._prune()
        except (OutputError, OSError, SafetensorError) as error:
            log.warning("the encoded video is not kept for the next question: %s", error)

    def entries(self) -> list[Entry]:
        """What is here, the most recently used first."""
        return sorted(self._entries(), key=lambda entry: -entry.used_s)

    def clear(self) -> int:
        """Remove everything; returns how many entries there were.

        Raises:
            OutputError: one cannot be removed.
        """
        entries = self.entries()
        for entry in entries:
            try:
                entry.path.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{entry.path}: cannot be removed ({error.strerror}); remove it yourself"
                ) from None
        return len(entries)

    def _path(self, video: Path, provenance: Provenance) -> Path | None:
        """Where the rows of a video are kept; ``None`` where it cannot be read, which its decoder will say."""
        try:
            content = fingerprint(video)
        except OSError:
            return None
        encoder = (provenance.backbone, provenance.revision, provenance.rows_per_s, provenance.dim)
        known_by = json.dumps([content, *encoder])
        return self.folder / f"{hashlib.sha256(known_by.encode()).hexdigest()[:32]}{_SUFFIX}"

    def _entries(self) -> Iterator[Entry]:
        for path in self.folder.glob(f"*{_SUFFIX}") if self.folder.is_dir() else ():
            try:
                stat = path.stat()
                with safe_open(path, "numpy") as file:
                    about = _about(file.metadata())
            except (SafetensorError, OSError, ValueError):
                about = {}
            yield Entry(path, about.get("name", "?"), about.get("backbone", "?"), stat.st_size, stat.st_mtime)

    def _prune(self) -> None:
        total = 0
        for entry in self.entries():
            total += entry.num_bytes
            if total > self.most_bytes:
                entry.path.unlink(missing_ok=True)


def _about(metadata: dict[str, str] | None) -> dict[str, str]:
    """What an entry says of itself; of a damaged one, nothing."""
    found = parse_json((metadata or {}).get(_METADATA, "{}"))
    return {key: str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def fingerprint(path: Path) -> str:
    """What tells one file's content from another's: its size, and pieces from all over it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        last = max(size - _PIECE_BYTES, 0)
        for piece in range(_PIECES):
            file.seek(last * piece // (_PIECES - 1))
            digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()
