"""Moments as an edit list, to open in an editing program: CMX 3600 (.edl) or OpenTimelineIO (.otio)."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mrnet.errors import OutputError, VideoError, one_line
from mrnet.export.words import ScoreName, score
from mrnet.files import write_text
from mrnet.media.container import open_media
from mrnet.media.video import VideoInfo, probe
from mrnet.types import Moment

_RATES = (
    Fraction(24_000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30_000, 1001),
    Fraction(30),
    Fraction(48),
    Fraction(50),
    Fraction(60_000, 1001),
    Fraction(60),
)
_LONGEST_TITLE = 70


def write_edits(
    path: Path,
    video: Path,
    moments: Sequence[Moment],
    query: str,
    score_name: ScoreName = "probability",
    *,
    name: str | None = None,
) -> None:
    """Write an edit list that plays the moments one after another.

    Pictures are counted from the first of the video, at its rate; where that is none of the rates that timecode is
    made for (23.976 to 60 a second), or varies, at the one of them that is nearest. Each end of a moment is off by
    half a frame at most. Timecode at 29.97 and 59.94 a second drops frame numbers, as is usual.

    Args:
        path: the file, .edl (CMX 3600) or .otio (OpenTimelineIO); replaced if it exists.
        video: the video file, which an edit list refers to.
        moments: best first.
        query: what was asked; names the list and, with rank and score, its entries.
        score_name: what the moments' scores are.
        name: of the video's file where the list is to be used, if that is another; it is looked for beside the list.

    Raises:
        OutputError: the suffix is another, or the file cannot be written.
        VideoError: the video is missing or is none.
    """
    check_edits(path)
    info = probe(video)
    with open_media(video, "video", VideoError) as container:
        has_sound = bool(container.streams.audio)
    rate = timecode_rate(info.fps)
    edits = []
    for rank, moment in enumerate(moments, start=1):
        start = round(moment.start_s * rate)
        length = max(round(moment.end_s * rate) - start, 1)
        edits.append((start, length, f"{rank}. {one_line(query)} ({score(moment, score_name)})"))
    where = info.path.resolve().as_uri() if name is None else quote(name)
    info = info if name is None else replace(info, path=Path(name))
    write = _WRITERS[path.suffix.lower()]
    write_text(path, write(info, where, has_sound, rate, one_line(query), edits))


def check_edits(path: Path) -> None:
    """Refuse a file that :func:`write_edits` would not write.

    Raises:
        OutputError: the suffix is another.
    """
    if path.suffix.lower() not in _WRITERS:
        raise OutputError(
            f"{path}: edits are written as .edl (CMX 3600) or .otio (OpenTimelineIO); name such a file"
        )


def timecode_rate(fps: float) -> Fraction:
    """The rate that timecode is made for which is nearest."""
    return min(_RATES, key=lambda rate: abs(rate - fps))


def timecode(frame: int, rate: Fraction) -> str:
    """``hh:mm:ss:ff`` of a frame; with ``;`` before ``ff`` where frame numbers are dropped.

    At 29.97 (59.94) frames a second the first two (four) numbers of every minute are left out, but for every tenth
    minute, so that timecode keeps to the clock.
    """
    per_s = round(rate)
    dropped = per_s // 15 if rate.denominator > 1 and per_s % 30 == 0 else 0
    if dropped:
        tens, rest = divmod(frame, per_s * 600 - 9 * dropped)
        frame += 9 * dropped * tens + dropped * max((rest - dropped) // (per_s * 60 - dropped), 0)
    seconds, frames = divmod(frame, per_s)
    point = ";" if dropped else ":"
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{frames:02d}"


Edit = tuple[int, int, str]
"""First frame and number of frames in the video, and what to call it."""


def _cmx3600(  # the place of the video is nothing that such a list holds
    info: VideoInfo, _: str, has_sound: bool, rate: Fraction, title: str, edits: Sequence[Edit]
) -> str:
    reel = re.sub(r"[^A-Z0-9]", "", info.path.stem.upper())[:8] or "AX"  # AX: of no reel
    tracks = "AA/V" if has_sound else "V"
    dropping = "DROP FRAME" if ";" in timecode(0, rate) else "NON-DROP FRAME"
    lines = [f"TITLE: {title[:_LONGEST_TITLE]}", f"FCM: {dropping}", ""]
    record = 0
    for number, (start, length, name) in enumerate(edits, start=1):
        times = (timecode(frame, rate) for frame in (start, start + length, record, record + length))
        lines += [
            f"{number:03d}  {reel:<8} {tracks:<5} C        {' '.join(times)}",
            f"* FROM CLIP NAME: {one_line(info.path.name)}",
            f"* COMMENT: {name}",
            "",
        ]
        record += length
    return "\n".join(lines)


def _timeline(
    info: VideoInfo, where: str, has_sound: bool, rate: Fraction, title: str, edits: Sequence[Edit]
) -> str:
    def frames(start: int, length: int) -> dict[str, Any]:
        return {
            "OTIO_SCHEMA": "TimeRange.1",
            "start_time": {"OTIO_SCHEMA": "RationalTime.1", "value": start, "rate": float(rate)},
            "duration": {"OTIO_SCHEMA": "RationalTime.1", "value": length, "rate": float(rate)},
        }

    media = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "name": info.path.name,
        "available_range": frames(0, round(info.duration_s * rate)),
        "target_url": where,
    }
    clips = [
        {
            "OTIO_SCHEMA": "Clip.2",
            "name": name,
            "source_range": frames(start, length),
            "media_references": {"DEFAULT_MEDIA": media},
            "active_media_reference_key": "DEFAULT_MEDIA",
        }
        for start, length, name in edits
    ]
    tracks = [
        {"OTIO_SCHEMA": "Track.1", "name": kind, "kind": kind, "children": clips}
        for kind in (["Video", "Audio"] if has_sound else ["Video"])
    ]
    timeline = {
        "OTIO_SCHEMA": "Timeline.1",
        "name": title,
        "tracks": {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": tracks},
    }
    return json.dumps(timeline, indent=2, ensure_ascii=False) + "\n"


_WRITERS = {".edl": _cmx3600, ".otio": _timeline}
