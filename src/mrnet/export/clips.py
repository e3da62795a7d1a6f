"""Cut moments out of a video, each into a file of its own."""

import heapq
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import OutputContainer

from mrnet.errors import OutputError, VideoError
from mrnet.export.copying import CannotHoldError, copied
from mrnet.export.encoding import encoded
from mrnet.export.reading import AnyPacket, Stretch, decoded_at, first_frame_s
from mrnet.files import make_directory, replacing
from mrnet.media.container import media_reason, media_url
from mrnet.types import Moment

# Containers that a clip keeps: those whose clips start at 0.
_CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
# Of a name in a file system's bytes: with rank, times and suffix it stays below 255, hidden while it grows too.
_LONGEST_STEM = 150


def cut(video: Path, moments: Sequence[Moment], folder: Path, *, exact: bool = False) -> list[Path]:
    """Write every moment into a file of its own, named after video, rank and time: ``talk_01_0m12s-0m19s.mp4``.

    Pictures and sound are copied as they are, which takes no time and loses nothing, but a copy can start at a key
    frame only: a clip starts at the last one that is not after the moment, with all that lies between the two (in
    most videos up to a few seconds, in some ten or more), and ends with the moment, or with the few frames
    after it that its last ones are built from. Its container is that of the video if that is MP4, QuickTime, WebM or
    AVI and can hold its tracks, and else Matroska.

    Args:
        video: a video file of any usual format. Its first picture track and all its sound tracks are taken.
        moments: best first; in seconds from the first frame of the video.
        folder: where to; made if need be. Clips of the same names are replaced.
        exact: encode anew, as H.264 and AAC in .mp4, upright and with square pixels: the clip starts and ends with
            the moment, to within a frame, its sound in step.

    Returns:
        The files, in the order of the moments.

    Raises:
        VideoError: the video is missing, is none, is damaged, or ends more than a second before a moment does.
        OutputError: a clip cannot be written. In both cases the clips that are complete stay, and no other file is
            left.
    """
    make_directory(folder)
    suffix = video.suffix.lower() if video.suffix.lower() in _CONTAINERS else ".mkv"
    clips = []
    origin_s = first_frame_s(video) if moments else 0.0
    for rank, moment in enumerate(moments, start=1):
        stretch = Stretch(video, origin_s, origin_s + moment.start_s, origin_s + moment.end_s, rank)
        path = folder / clip_name(video, moment, rank, ".mp4" if exact else suffix)
        clips.append(_encode(stretch, path) if exact else _copy(stretch, path))
    return clips


def clip_name(video: Path, moment: Moment, rank: int, suffix: str) -> str:
    """``talk_01_0m12s-0m19s.mp4``: without letters that a shell or a file system minds, and not too long for one."""
    stem = re.sub(r"[^\w.-]+", "_", video.stem).lstrip(".-")
    stem = stem.encode()[:_LONGEST_STEM].decode(errors="ignore") or "video"
    return f"{stem}_{rank:02d}_{_minutes(moment.start_s)}-{_minutes(moment.end_s)}{suffix}"


def _minutes(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m{seconds:02d}s" if hours else f"{minutes}m{seconds:02d}s"


def _copy(stretch: Stretch, path: Path) -> Path:
    for target in (path, path.with_suffix(".mkv")):
        try:
            with _new_clip(target) as clip:
                _mux(clip, copied(clip, stretch))
        except CannotHoldError:
            continue
        return target
    raise VideoError(
        f"{stretch.video}: no container can be written that holds its streams; cut it with exact=True"
    )


def _encode(stretch: Stretch, path: Path) -> Path:
    with _new_clip(path) as clip:
        _mux(clip, encoded(clip, stretch))
    return path


def _mux(clip: OutputContainer, tracks: list[Iterator[AnyPacket]]) -> None:
    for packet in heapq.merge(*tracks, key=decoded_at):
        clip.mux(packet)


@contextmanager
def _new_clip(path: Path) -> Iterator[OutputContainer]:
    """A file that appears when it is complete.

    Raises:
        OutputError: it cannot be written.
        CannotHoldError: FFmpeg writes no such container.
    """
    try:
        with replacing(path) as part:
            try:
                clip = av.open(media_url(part), "w")
            except ValueError:
                raise CannotHoldError from None
            with clip:
                yield clip
    except av.FFmpegError as error:
        raise OutputError(f"{path}: the clip cannot be written ({media_reason(error)})") from error
