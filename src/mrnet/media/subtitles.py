"""What is said in a video, by the subtitles beside it or inside it."""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from mrnet.documents import unescape
from mrnet.errors import VideoError, one_line
from mrnet.media.container import media_reason, open_media, open_subtitles
from mrnet.media.video import video_stream

SUBTITLE_SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
"""Endings of subtitle files."""

_LANGUAGE = re.compile(r"(?P<language>[a-z]{2,3})(?:[-_][a-z0-9]{2,8})?")
_KINDS = frozenset(("forced", "sdh", "cc", "hi", "default"))
_ENGLISH, _UNSTATED = ("en", "eng"), ("", "und")
# A cue that does not say how long it is shown.
_UNSTATED_S = 2.0
# Captions that roll up show a line again in the next cue, which follows at once.
_AT_ONCE_S = 0.1

# Of an event as FFmpeg gives it: ReadOrder, Layer, Style, Name, three margins, Effect.
_FIELDS_BEFORE_TEXT = 8
# A brace or an angle that never closes ends where the next one opens: looked for to the end of the text, a hundred
# thousand of them would take a minute.
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9]")
_MARKUP = re.compile(r"\{[^{}]*\}|<[^<>]*>|[♩♪♫♬]")
_BREAK = re.compile(r"\\[Nn]|\n")
_DASH = re.compile(r"^\s*[-–—]\s*(?=\S)")


class Cue(NamedTuple):
    """A stretch of speech, in seconds of the video, and its words on one line."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Track:
    """Subtitles that can be read.

    Attributes:
        path: of the file that holds them.
        stream: number of the stream inside a video; ``None`` for a file of its own.
        language: as the file states it, in small letters; empty where it does not.
        forced: whether only what is said in a foreign language is in there.
    """

    path: Path
    stream: int | None = None
    language: str = ""
    forced: bool = False

    @property
    def english(self) -> bool | None:
        """Whether the file says that they are; ``None`` where it does not say what they are."""
        return None if self.language in _UNSTATED else self.language in _ENGLISH

    @property
    def name(self) -> str:
        """What to call them."""
        return self.path.name if self.stream is None else f"the subtitles in {self.path.name}"


def find_tracks(video: Path) -> list[Track]:
    """The text subtitles of a video: files beside it, named after it (``talk.srt``, ``talk.en.vtt``), and streams.

    English ones come first, then those of no stated language; within these, files beside the video, which somebody
    put there.

    Raises:
        VideoError: the video is missing, or is none.
    """
    tracks = [*_inside(video), *_beside(video)]
    return sorted(
        tracks, key=lambda t: (t.forced, (True, None, False).index(t.english), t.stream is not None, t.path.name)
    )


def read_cues(track: Track) -> list[Cue]:
    """Cues in order of time, without markup; those without words are left out.

    Files may be UTF-8, UTF-16 with a byte order mark, or Windows-1252. Cues that do not decode are left out.

    Raises:
        VideoError: the file is none of subtitles, or cannot be read.
    """
    try:
        with _opened(track) as container:
            stream = container.streams.subtitles[0] if track.stream is None else container.streams[track.stream]
            assert isinstance(stream, SubtitleStream)
            origin_s = 0.0 if track.stream is None else _start_s(container, track.path)
            shown = [cue for packet in container.demux(stream) for cue in _cues(packet, origin_s)]
    except (av.FFmpegError, OSError, IndexError) as error:
        raise VideoError(
            f"{track.path}: the subtitles cannot be read ({media_reason(error)}); mend or remove them"
        ) from None
    return list(_without_repeats(sorted(shown)))


def _inside(video: Path) -> list[Track]:
    with open_media(video, "video", VideoError) as container:
        return [
            Track(
                video, stream.index, (stream.language or "").lower(), bool(stream.disposition & Disposition.forced)
            )
            for stream in container.streams.subtitles
            if stream.codec_context is not None and stream.codec_context.codec.text_sub
        ]


def _beside(video: Path) -> Iterator[Track]:
    for path in video.parent.iterdir():
        if (
            path.suffix.lower() not in SUBTITLE_SUFFIXES
            or not path.stem.startswith(video.stem)
            or not path.is_file()
        ):
            continue
        rest, *tags = path.stem.removeprefix(video.stem).lower().split(".")
        languages = [_LANGUAGE.fullmatch(tag) for tag in tags if tag not in _KINDS]
        if rest or len(languages) > 1 or None in languages:
            continue  # of another video, whose name begins alike
        yield Track(path, None, languages[0]["language"] if languages and languages[0] else "", "forced" in tags)


def _opened(track: Track) -> AbstractContextManager[InputContainer]:
    if track.stream is not None:
        return open_media(track.path, "video", VideoError)
    return open_subtitles(_text(track.path.read_bytes()))


def _text(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _start_s(container: InputContainer, path: Path) -> float:
    """When the pictures start, on the clock of their file."""
    stream = video_stream(container, path)
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0


def _cues(packet: "Packet[Any]", origin_s: float) -> Iterator[Cue]:
    """What a packet shows; its lines are still apart."""
    if not packet.size or packet.pts is None:
        return
    try:
        decoded = packet.decode()
    except (av.FFmpegError, ValueError):
        return
    start_s = float(packet.pts * packet.time_base) - origin_s
    length_s = float((packet.duration or 0) * packet.time_base)
    end_s = start_s + (length_s if length_s > 0 else _UNSTATED_S)
    for shown in decoded:
        if isinstance(shown, AssSubtitle) and end_s > 0 and (lines := _lines(shown.ass)):
            yield Cue(max(start_s, 0.0), end_s, "\n".join(lines))


def _lines(event: bytes) -> list[str]:
    """The words of each line of an ASS event, without times that a damaged file has among them."""
    text = event.decode(errors="replace").split(",", _FIELDS_BEFORE_TEXT)[-1]
    if _DRAWING.search(text):
        return []
    plain = unescape(_MARKUP.sub("", text)).replace("\\h", " ")
    lines = (one_line(_DASH.sub("", line)) for line in _BREAK.split(plain))
    return [line for line in lines if line and "-->" not in line]


def _without_repeats(cues: Iterable[Cue]) -> Iterator[Cue]:
    """Cues on one line each; a line that the cue before has shown, and that it follows at once, is shown once."""
    before = Cue(0.0, 0.0, "")
    for cue in cues:
        lines = cue.text.split("\n")
        if cue.start_s <= before.end_s + _AT_ONCE_S:
            seen = before.text.split("\n")
            lines = [line for line in lines if line not in seen]
        if lines:
            yield cue._replace(text=" ".join(lines))
        before = cue
