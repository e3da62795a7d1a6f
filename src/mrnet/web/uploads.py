"""Videos that are sent to the server: taken in pieces, checked, and kept by their content.

A file is named by the SHA-256 of its content and the suffix of the container that its first bytes are of. The name
that it was sent under is kept as words to show and never becomes a path.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

from starlette.concurrency import run_in_threadpool

from mrnet.errors import VideoError
from mrnet.features.cache import fingerprint
from mrnet.files import make_directory, writing
from mrnet.media.video import probe
from mrnet.web.records import Records, Video
from mrnet.web.refusals import Busy, NotFound, Refused, TooLarge, WrongType

VIDEO_ID = r"^[0-9a-f]{64}$"
"""What an id of a video looks like."""

MOST_AT_ONCE = 4
"""Uploads that are taken at a time."""

# Containers by their first bytes. Whatever else FFmpeg would read, playlists above all, may lead to other files.
_CONTAINERS = {
    ".mp4": re.compile(rb"....(?:ftyp|moov|mdat|wide|free|skip)", re.DOTALL),
    ".mkv": re.compile(rb"\x1a\x45\xdf\xa3"),
    ".avi": re.compile(rb"RIFF....AVI ", re.DOTALL),
    ".mpg": re.compile(rb"\x00\x00\x01\xba"),
    ".ts": re.compile(rb"\x47.{187}\x47.{187}\x47", re.DOTALL),
    ".flv": re.compile(rb"FLV\x01"),
    ".wmv": re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
}
_WEBM, _QUICKTIME = re.compile(rb"\x42\x82.{1,8}webm", re.DOTALL), re.compile(rb"....ftypqt  ", re.DOTALL)
_HEAD_BYTES, _PIECE_BYTES = 4096, 2**20
# A pause in an upload that is longer than this ends it; so does all of it together taking longer than that.
_LONGEST_PAUSE_S, _LONGEST_UPLOAD_S = 30.0, 3600.0
_LONGEST_NAME = 120
_LARGEST_FRAME = 8192 * 8192


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        upload_bytes: of one video.
        stored_bytes: of all together.
        duration_s: of one, in seconds.
    """

    upload_bytes: int = 2 * 2**30
    stored_bytes: int = 20 * 2**30
    duration_s: float = 4 * 3600.0


class Uploads:
    """A folder of videos, and their records.

    Args:
        folder: made if need be; what broken uploads left in it is removed.
        records: of the videos.
        limits: on what is taken.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, records: Records, limits: Limits) -> None:
        self.limits = limits
        self._folder, self._records = make_directory(folder), records
        self._coming: dict[str, int] = {}  # bytes that each upload under way may yet take
        self._looked_at: dict[str, tuple[int, int]] = {}  # of a library's files, size and time at that look
        with writing(folder):
            for left in folder.glob(".part-*"):
                left.unlink(missing_ok=True)

    def path(self, video: Video) -> Path:
        """The file of a video."""
        return Path(video.path) if video.path else self._folder / f"{video.id}{video.suffix}"

    def find(self, video_id: str) -> Video:
        """A video by its id.

        Raises:
            NotFound: there is none, its file has gone, or a file of a library holds something else by now.
        """
        video = self.known(video_id)
        if not self._is_there(video):
            raise NotFound("there is no such video; it may have been removed")
        return video

    def known(self, video_id: str) -> Video:
        """As :meth:`find`, whatever has become of the file."""
        video = self._records.video(video_id)
        if video is None:
            raise NotFound("there is no such video; it may have been removed")
        return video

    def _is_there(self, video: Video) -> bool:
        path = self.path(video)
        if not video.path:
            return path.is_file()
        try:
            status = path.stat()
            stamp = (status.st_size, status.st_mtime_ns)
            if self._looked_at.get(video.id) != stamp:
                if fingerprint(path) != video.id:
                    return False
                self._looked_at[video.id] = stamp
        except OSError:
            return False
        return True

    def remove(self, video: Video) -> None:
        """Remove a video, and what was asked of it; a file of a library stays."""
        self._records.remove_video(video.id)
        self._looked_at.pop(video.id, None)
        if not video.path:
            self.path(video).unlink(missing_ok=True)

    def open(self, path: Path) -> Video:
        """Take in a file of a library, where it lies.

        Raises:
            VideoError: it is no video.
            WrongType: it is of a type that is not taken.
            NotFound: it cannot be read.
        """
        try:
            content = fingerprint(path)
            with path.open("rb") as file:
                suffix = suffix_of(file.read(_HEAD_BYTES))
        except OSError:
            raise NotFound("the file of this video cannot be read") from None
        info = probe(path)
        num_bytes, now_s = path.stat().st_size, time.time()
        video = Video(
            content,
            _shown(path.name),
            suffix,
            info.duration_s,
            info.width,
            info.height,
            num_bytes,
            now_s,
            str(path),
        )
        self._records.add_video(video)
        return video

    async def take(self, chunks: AsyncIterator[bytes], name: str, stated_bytes: int | None) -> Video:
        """Take an upload; one that breaks off or is refused leaves nothing.

        Args:
            chunks: its content.
            name: that it is sent under.
            stated_bytes: how long it says it is, if it does.

        Raises:
            TooLarge, WrongType, Busy: as they say.
            Refused: it pauses or takes too long, or holds no video that can be read.
        """
        if len(self._coming) >= MOST_AT_ONCE:
            raise Busy("other videos are being uploaded; wait for one of them", 10)
        limit = self.limits.upload_bytes
        if stated_bytes is not None and stated_bytes > limit:
            raise TooLarge(f"the video has {_size(stated_bytes)}; at most {_size(limit)} are taken")
        expected = limit if stated_bytes is None else stated_bytes
        if self._records.stored_bytes() + sum(self._coming.values()) + expected > self.limits.stored_bytes:
            raise TooLarge(f"all videos together may have {_size(self.limits.stored_bytes)}; remove one first")
        token = secrets.token_hex(8)
        part = self._folder / f".part-{token}"
        self._coming[token] = expected
        try:
            digest = await self._receive(chunks, part, expected)
            return await run_in_threadpool(self._keep, part, digest, _shown(name))
        finally:
            del self._coming[token]
            for left in self._folder.glob(f"{part.name}*"):
                left.unlink(missing_ok=True)

    async def _receive(self, chunks: AsyncIterator[bytes], part: Path, most_bytes: int) -> str:
        """Write a file, and say its SHA-256; its type is checked before its second piece is awaited."""
        digest, held, total = hashlib.sha256(), bytearray(), 0
        deadline_s = time.monotonic() + _LONGEST_UPLOAD_S
        is_checked = False
        with await run_in_threadpool(part.open, "xb") as file:

            def write(content: bytes) -> None:
                digest.update(content)
                file.write(content)

            while (chunk := await _next(chunks, deadline_s)) is not None:
                total += len(chunk)
                if total > most_bytes:
                    raise TooLarge(
                        f"the video has more than {_size(most_bytes)}, which is as much as is taken of it"
                    )
                held += chunk
                if not is_checked and len(held) >= _HEAD_BYTES:
                    suffix_of(bytes(held[:_HEAD_BYTES]))
                    is_checked = True
                if len(held) >= _PIECE_BYTES:
                    await run_in_threadpool(write, bytes(held))
                    held.clear()
            await run_in_threadpool(write, bytes(held))
        return digest.hexdigest()

    def _keep(self, part: Path, digest: str, name: str) -> Video:
        with part.open("rb") as file:
            suffix = suffix_of(file.read(_HEAD_BYTES))
        typed = part.rename(part.with_name(part.name + suffix))
        try:
            info = probe(typed)
        except VideoError as error:
            raise Refused(str(error).replace(str(typed), name)) from None
        if not 0 < info.duration_s <= self.limits.duration_s:
            most = self.limits.duration_s / 60
            raise TooLarge(f"{name}: lasts {info.duration_s / 60:.0f} minutes; at most {most:.0f} are taken")
        if not 0 < info.width * info.height <= _LARGEST_FRAME:
            raise TooLarge(f"{name}: its pictures have {info.width}x{info.height} pixels, which no screen shows")
        num_bytes = typed.stat().st_size
        video = Video(digest, name, suffix, info.duration_s, info.width, info.height, num_bytes, time.time())
        typed.replace(self.path(video))
        self._records.add_video(video)
        return video


def suffix_of(head: bytes) -> str:
    """``".mp4"``: the container that a file is, by its first bytes.

    Raises:
        WrongType: none that is taken.
    """
    for suffix, pattern in _CONTAINERS.items():
        if pattern.match(head):
            if suffix == ".mkv" and _WEBM.search(head):
                return ".webm"
            return ".mov" if suffix == ".mp4" and _QUICKTIME.match(head) else suffix
    raise WrongType(
        "this is no video of a type that is taken: MP4, QuickTime, WebM, Matroska, AVI, MPEG, FLV or WMV"
    )


async def _next(chunks: AsyncIterator[bytes], deadline_s: float) -> bytes | None:
    try:
        return await asyncio.wait_for(
            anext(chunks), min(_LONGEST_PAUSE_S, max(deadline_s - time.monotonic(), 0.0))
        )
    except StopAsyncIteration:
        return None
    except TimeoutError:
        raise Refused("the upload came to a halt, or took too long; send it again") from None


def _shown(name: str) -> str:
    """A name to show: the last part of a path, without what is no letter, digit or sign, and not too long."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(letter for letter in last if category(letter)[0] != "C").strip().strip(".")
    return kept[:_LONGEST_NAME] or "video"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MB"


__all__ = ["MOST_AT_ONCE", "VIDEO_ID", "Limits", "Uploads", "suffix_of"]
