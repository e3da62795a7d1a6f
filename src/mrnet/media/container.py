"""Open media files of the usual formats, and say what is wrong with those that will not open.

Only regular files are opened, and only as containers that hold all that they show: a playlist, whatever its name, would
have FFmpeg read other files of this machine, or of the network.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Stream

from mrnet.errors import MRNetError
from mrnet.types import LONGEST_S

# No log callback in Python: our errors tell what matters, and a callback that waits for the
# interpreter lock inside a decoder thread can hang the process when the decoder is closed.
av.logging.set_level(None)

# Names of FFmpeg's demuxers: of video and of sound, then streams without a container.
_MEDIA = (
    "mov,mp4,matroska,webm,avi,asf,flv,live_flv,mpeg,mpegts,ogg,mxf,gxf,nut,rm,wtv,dv,gif,apng,ivf,swf,yuv4mpegpipe,"
    "wav,w64,mp3,aac,flac,aiff,caf,au,amr,ac3,eac3,dts,truehd,ape,tta,wv,mpc,mpc8,voc,opus,"
    "h261,h263,h264,hevc,vvc,av1,obu,m4v,mpegvideo,mjpeg,vc1,dirac,cavsvideo"
)
_SUBTITLES = "srt,webvtt,ass"
# Tags need not be UTF-8. PyAV 19, which is for Python 3.12 and later, takes any, and takes no advice.
_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@contextlib.contextmanager
def open_media(path: Path, noun: str, error: type[MRNetError]) -> Iterator[InputContainer]:
    """Open a media file for reading; closed on the way out.

    Args:
        path: the file.
        noun: what it should be, ``"sound"`` or ``"video"``, for messages.
        error: what to raise.

    Raises:
        error: the file is missing, is a directory or a device, or is no media file.
    """
    if path.is_dir():
        raise error(f"{path}: is a directory; name a {noun} file")
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise error(f"{path}: is no regular file; name a {noun} file")
        container = _open(media_url(path), _MEDIA)
    except FileNotFoundError:
        raise error(f"{path}: no such file; check the path of the {noun}") from None
    except (av.FFmpegError, OSError, ValueError) as failure:
        raise error(
            f"{path}: cannot be opened as a {noun} file ({media_reason(failure)}); it is none, or it is incomplete"
        ) from failure
    with container:
        yield container


def open_subtitles(text: str) -> InputContainer:
    """Open a text of subtitles: SubRip, WebVTT or ASS.

    Raises:
        av.FFmpegError: it is none of these.
    """
    return _open(io.BytesIO(text.encode()), _SUBTITLES)


def _open(source: str | io.BytesIO, formats: str) -> InputContainer:
    allowed = {"format_whitelist": formats, "protocol_whitelist": "file"}
    container: InputContainer = av.open(source, "r", options=allowed, **_TAGS)
    return container


def media_url(path: Path) -> str:
    """A file's name as FFmpeg takes it: without the prefix, ``talk: part 1.mp4`` would name a protocol."""
    return f"file:{path}"


def media_reason(error: Exception) -> str:
    """FFmpeg's or the system's own words for an error, without its number."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0].lower()


def stated_duration(container: InputContainer, stream: Stream) -> float | None:
    """Length of a stream in seconds, where the file states one that can be.

    Matroska and WebM state it in a tag. The container's own length covers all of its streams, so it
    counts only where the stream is alone. MPEG program streams state none: FFmpeg guesses at it by a clock that comes
    now and then.
    """
    stated_s = None if container.format.name == "mpeg" else _stated_s(container, stream)
    return stated_s if stated_s is not None and 0 <= stated_s <= LONGEST_S else None


def _stated_s(container: InputContainer, stream: Stream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag is not None:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return None
