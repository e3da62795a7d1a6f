"""Open media files of any format FFmpeg knows, and say what is wrong with those that will not open."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream

from mrnet.errors import MRNetError

# No log callback in Python: our errors tell what matters, and a callback that waits for the
# interpreter lock inside a decoder thread can hang the process when the decoder is closed.
av.logging.set_level(None)


@contextlib.contextmanager
def open_media(path: Path, noun: str, error: type[MRNetError]) -> Iterator[InputContainer]:
    """Open a media file for reading; closed on the way out.

    Args:
        path: the file.
        noun: what it should be, ``"sound"`` or ``"video"``, for messages.
        error: what to raise.

    Raises:
        error: the file is missing, is a directory, or is no media file.
    """
    if path.is_dir():
        raise error(f"{path}: is a directory; name a {noun} file")
    try:
        container = av.open(media_url(path), metadata_errors="replace")  # tags need not be UTF-8
    except FileNotFoundError:
        raise error(f"{path}: no such file; check the path of the {noun}") from None
    except (av.FFmpegError, OSError) as failure:
        raise error(
            f"{path}: cannot be opened as a {noun} file ({media_reason(failure)}); it is none, or it is incomplete"
        ) from failure
    with container:
        yield container


def media_url(path: Path) -> str:
    """A file's name as FFmpeg takes it: without the prefix, ``talk: part 1.mp4`` would name a protocol."""
    return f"file:{path}"


def media_reason(error: Exception) -> str:
    """FFmpeg's or the system's own words for an error, without its number."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0].lower()


def stated_duration(container: InputContainer, stream: Stream) -> float | None:
    """Length of a stream in seconds, where the file states one.

    Matroska and WebM state it in a tag. The container's own length covers all of its streams, so it
    counts only where the stream is alone.
    """
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag is not None:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return None
