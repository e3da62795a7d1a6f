"""Moments as subtitles: players show the query while its moment lasts."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

from mrnet.documents import unescape
from mrnet.errors import OutputError, one_line
from mrnet.export.words import ScoreName, score
from mrnet.files import write_text
from mrnet.types import Moment

_LABEL = re.compile(r"\d+\. .+ \((?:\d+%|-?\d+\.\d\d|said)\)")


def write_subtitles(
    path: Path, moments: Sequence[Moment], query: str, score_name: ScoreName = "probability"
) -> None:
    """Write a cue for every moment, ``1. a dog jumps (82%)``, in order of time.

    Args:
        path: the file, .vtt (WebVTT) or .srt (SubRip); one that holds such moments is replaced.
        moments: best first.
        query: what was asked.
        score_name: what the moments' scores are.

    Raises:
        OutputError: the suffix is another, the file holds other subtitles, such as those of the video, or it cannot be
            written.
    """
    check_subtitles(path)
    suffix = path.suffix.lower()
    cues = []
    ranked = sorted(enumerate(moments, start=1), key=lambda pair: pair[1][:2])
    for number, (rank, moment) in enumerate(ranked, start=1):
        start_ms = round(moment.start_s * 1000)
        end_ms = max(round(moment.end_s * 1000), start_ms + 1)
        text = f"{rank}. {one_line(query)} ({score(moment, score_name)})"
        if suffix == ".vtt":
            cues.append(f"{_time(start_ms, '.')} --> {_time(end_ms, '.')}\n{html.escape(text, quote=False)}\n")
        else:
            # SubRip knows no escapes: an arrow in a text would be taken for times.
            text = text.replace("-->", "->")
            cues.append(f"{number}\n{_time(start_ms, ',')} --> {_time(end_ms, ',')}\n{text}\n")
    write_text(path, "\n".join(["WEBVTT\n", *cues] if suffix == ".vtt" else cues))


def check_subtitles(path: Path) -> None:
    """Refuse a file that :func:`write_subtitles` would not write.

    Raises:
        OutputError: the suffix is another, or the file holds other subtitles.
    """
    if path.suffix.lower() not in (".vtt", ".srt"):
        raise OutputError(f"{path}: subtitles are written as .vtt (WebVTT) or .srt (SubRip); name such a file")
    if path.is_file() and not _holds_moments(path):
        raise OutputError(
            f"{path}: holds subtitles of another kind, which are not written over; choose another place"
        )


def is_label(text: str) -> bool:
    """Whether a cue reads as :func:`write_subtitles` writes them."""
    return _LABEL.fullmatch(text) is not None


def _holds_moments(path: Path) -> bool:
    """Whether a file is one that :func:`write_subtitles` has written, and nobody has added to."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    lines = [line for line in text.splitlines() if line and line != "WEBVTT" and not line.isdecimal()]
    return all("-->" in line or is_label(unescape(line)) for line in lines)


def _time(time_ms: int, point: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
