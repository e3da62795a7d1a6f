"""Moments as a picture: frames over the length of the video, the score over time, and the moments marked on both."""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from unicodedata import combining, normalize

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from mrnet.errors import OutputError, one_line
from mrnet.export.words import ScoreName, clock, score
from mrnet.files import write_bytes
from mrnet.media.video import probe, sample_frames
from mrnet.types import Moment

Box = tuple[float, float, float, float]
Color = tuple[int, int, int]

# Tried in turn for letters that Pillow's own font lacks: of Linux, Windows and macOS, then with CJK.
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "PingFang.ttc",
)

# In pixels of the picture. It is drawn at twice the size and scaled down, which smooths its lines.
_WIDTH = 1200
_MARGIN = 56
_STRIP_HEIGHT = 96
_CURVE_HEIGHT = 150
_GAP = 18
_LANE_HEIGHT = 26
_LABEL_SIZE = 13
_MOST_LANES = 4
_SCALE = 2

_PAPER = (255, 255, 255)
_INK = (31, 41, 55)
_GREY = (107, 114, 128)
_LINE = (229, 231, 235)
_CURVE = (71, 85, 105)
_CURVE_FILL = (226, 232, 240)
_BEST = (217, 83, 25)
_OTHERS = (37, 99, 175)

# Seconds between two ticks of the axis.
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400)
_MOST_TICKS = 10


def plot(
    target: Path | BinaryIO,
    video: Path,
    duration_s: float,
    moments: Sequence[Moment],
    query: str,
    *,
    curve: Sequence[tuple[float, float]] = (),
    score_name: ScoreName = "probability",
) -> None:
    """Draw moments over the length of their video, as a PNG 1200 pixels wide.

    Args:
        target: the file, .png, replaced if it exists; or one that is open for writing bytes.
        video: the video file, for its frames and its name.
        duration_s: its length in seconds.
        moments: best first.
        query: what was asked.
        curve: (time in seconds, value) in order of time; left out where empty. Drawn from 0 to 1 if all values are
            in there, else from the least to the greatest.
        score_name: what the moments' scores are.

    Raises:
        OutputError: the suffix is another, or the file cannot be written.
        VideoError: the video is missing, is none, or does not decode.
    """
    if isinstance(target, Path):
        check_plot(target)
    content = io.BytesIO()
    _drawn(video, duration_s, moments, query, curve, score_name).save(content, format="PNG")
    if isinstance(target, Path):
        write_bytes(target, content.getvalue())
    else:
        target.write(content.getvalue())


def check_plot(path: Path) -> None:
    """Refuse a file that :func:`plot` would not write.

    Raises:
        OutputError: the suffix is another.
    """
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path}: the picture is written as .png; name such a file")


def _drawn(
    video: Path,
    duration_s: float,
    moments: Sequence[Moment],
    query: str,
    curve: Sequence[tuple[float, float]],
    score_name: ScoreName,
) -> Image.Image:
    labels = [f"{rank} ({score(moment, score_name)})" for rank, moment in enumerate(moments, start=1)]
    lanes = _lanes(moments, labels, duration_s)
    strip_top = 92 + _LANE_HEIGHT * (max(lanes.values(), default=-1) + 1)
    strip_bottom = strip_top + _STRIP_HEIGHT
    curve_top = strip_bottom + _GAP
    bottom = curve_top + _CURVE_HEIGHT if curve else strip_bottom
    canvas = _Canvas(duration_s, bottom + 40)
    canvas.text((_MARGIN, 22), query, 26, _INK)
    canvas.text((_MARGIN, 58), f"{video.name}  –  {clock(duration_s)}", 15, _GREY)
    canvas.paste(_strip(video, duration_s), strip_top)
    canvas.fade(_gaps(moments, duration_s), strip_top, strip_bottom)
    if curve:
        canvas.curve(curve, curve_top, bottom)
    for index in reversed(range(len(moments))):  # the best one on top
        moment, color = moments[index], _OTHERS if index else _BEST
        canvas.frame(moment, color, strip_top, strip_bottom)
        if curve:
            canvas.shade(moment, color, curve_top, bottom)
        if index in lanes:
            canvas.label(moment, labels[index], color, strip_top - _LANE_HEIGHT * (lanes[index] + 1), strip_top)
    canvas.axis(bottom)
    return canvas.image.resize((_WIDTH, bottom + 40), Image.Resampling.LANCZOS)


class _Canvas:
    """A picture that is drawn on in its own pixels across and down, and in seconds of the video across.

    Attributes:
        image: it, at ``_SCALE`` times its size.
    """

    def __init__(self, duration_s: float, height: int) -> None:
        self._duration_s = duration_s
        self.image = Image.new("RGB", (_WIDTH * _SCALE, height * _SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self.image, "RGBA")

    def _box(self, start_s: float, end_s: float, top: float, bottom: float) -> Box:
        left, right = _x(start_s, self._duration_s), _x(end_s, self._duration_s)
        return (left * _SCALE, top * _SCALE, max(right, left + 2) * _SCALE, bottom * _SCALE)

    def text(self, at: tuple[float, float], text: str, size: int, color: Color, anchor: str = "la") -> None:
        """Write a line; what would go beyond the margin on the right is left out."""
        font, text = _font(one_line(text), size * _SCALE)
        room = (_WIDTH - _MARGIN - at[0]) * _SCALE
        if anchor[0] == "l" and font.getlength(text) > room:
            while text and font.getlength(text + "…") > room:
                text = text[:-1]
            text += "…"
        self._draw.text((at[0] * _SCALE, at[1] * _SCALE), text, fill=color, font=font, anchor=anchor)

    def paste(self, strip: Image.Image, top: float) -> None:
        """Put a picture that is as wide as the video is long."""
        self.image.paste(strip, (_MARGIN * _SCALE, int(top * _SCALE)))

    def fade(self, spans: Iterable[tuple[float, float]], top: float, bottom: float) -> None:
        """Make what is there paler."""
        for span in spans:
            self._draw.rectangle(self._box(*span, top, bottom), fill=(*_PAPER, 120))

    def frame(self, moment: Moment, color: Color, top: float, bottom: float) -> None:
        """Draw a border round a moment."""
        left, up, right, down = self._box(moment.start_s, moment.end_s, top, bottom)
        edge = 3 * _SCALE
        self._draw.rectangle((left - edge, up - edge, right + edge, down + edge), outline=color, width=edge)

    def shade(self, moment: Moment, color: Color, top: float, bottom: float) -> None:
        """Tint a moment."""
        self._draw.rectangle(self._box(moment.start_s, moment.end_s, top, bottom), fill=(*color, 48))

    def label(self, moment: Moment, text: str, color: Color, top: float, strip_top: float) -> None:
        """Write above a moment, with a line down to it."""
        left, right = _label_ends(moment, text, self._duration_s)
        middle = _x((moment.start_s + moment.end_s) / 2, self._duration_s)
        down = [(middle * _SCALE, (top + _LANE_HEIGHT - 6) * _SCALE), (middle * _SCALE, (strip_top - 3) * _SCALE)]
        self._draw.line(down, fill=color, width=_SCALE)
        box = (left * _SCALE, top * _SCALE, right * _SCALE, (top + _LANE_HEIGHT - 6) * _SCALE)
        self._draw.rounded_rectangle(box, radius=5 * _SCALE, fill=color)
        self.text(((left + right) / 2, top + (_LANE_HEIGHT - 6) / 2), text, _LABEL_SIZE, _PAPER, "mm")

    def curve(self, curve: Sequence[tuple[float, float]], top: float, bottom: float) -> None:
        """Draw values over time, with the scale on the left."""
        values = [value for _, value in curve]
        low, high = (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else (min(values), max(values))
        if low == high:
            high = low + 1.0
        for part in (0.0, 0.5, 1.0):
            y = bottom - part * (bottom - top)
            ends = [(_MARGIN * _SCALE, y * _SCALE), ((_WIDTH - _MARGIN) * _SCALE, y * _SCALE)]
            self._draw.line(ends, fill=_LINE, width=_SCALE)
            self.text((_MARGIN - 8, y), f"{low + part * (high - low):.3g}", 12, _GREY, "rm")
        points: list[tuple[float, float]] = [
            (
                _x(time_s, self._duration_s) * _SCALE,
                (bottom - (value - low) / (high - low) * (bottom - top)) * _SCALE,
            )
            for time_s, value in curve
        ]
        bounds: list[tuple[float, float]] = [(points[-1][0], bottom * _SCALE), (points[0][0], bottom * _SCALE)]
        self._draw.polygon([*points, *bounds], fill=_CURVE_FILL)
        self._draw.line(points, fill=_CURVE, width=2 * _SCALE, joint="curve")

    def axis(self, top: float) -> None:
        """Draw the time of the video, h:mm:ss."""
        y = (top + 10) * _SCALE
        self._draw.line([(_MARGIN * _SCALE, y), ((_WIDTH - _MARGIN) * _SCALE, y)], fill=_GREY, width=_SCALE)
        step_s = next((step for step in _STEPS if self._duration_s / step <= _MOST_TICKS), _STEPS[-1])
        for tick in range(int(self._duration_s / step_s) + 1):
            x = _x(tick * step_s, self._duration_s)
            self._draw.line([(x * _SCALE, y), (x * _SCALE, y + 5 * _SCALE)], fill=_GREY, width=_SCALE)
            self.text((x, top + 18), clock(tick * step_s), 13, _GREY, "ma")


def _x(time_s: float, duration_s: float) -> float:
    """Where a time is, in pixels from the left; times outside the video are at its ends."""
    return _MARGIN + min(max(time_s / duration_s, 0.0), 1.0) * (_WIDTH - 2 * _MARGIN)


def _strip(video: Path, duration_s: float) -> Image.Image:
    """Frames side by side, each from the middle of the time that it stands for."""
    width, height = (_WIDTH - 2 * _MARGIN) * _SCALE, _STRIP_HEIGHT * _SCALE
    first_height, first_width = next(sample_frames(video, probe(video).fps, _STRIP_HEIGHT))[1].shape[:2]
    count = max(round(width * first_height / (height * first_width)), 1)
    cell = math.ceil(width / count)
    strip = Image.new("RGB", (width, height), _LINE)
    frames = sample_frames(video, 2 * count / duration_s, (height, cell))
    for index, (_, frame) in enumerate(islice(frames, 1, 2 * count, 2)):
        strip.paste(Image.fromarray(frame), (index * width // count, 0))
    return strip


def _gaps(moments: Sequence[Moment], duration_s: float) -> Iterator[tuple[float, float]]:
    """What of a video is in no moment."""
    done_s = 0.0
    for moment in sorted(moments):
        if moment.start_s > done_s:
            yield done_s, moment.start_s
        done_s = max(done_s, moment.end_s)
    if moments and done_s < duration_s:
        yield done_s, duration_s


def _lanes(moments: Sequence[Moment], labels: Sequence[str], duration_s: float) -> dict[int, int]:
    """In which row above the frames the label of each moment has room, the best first; 0 is the lowest."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(_MOST_LANES)]
    lanes = {}
    for index, (moment, text) in enumerate(zip(moments, labels, strict=True)):
        left, right = _label_ends(moment, text, duration_s)
        for lane, others in enumerate(taken):
            if all(right + 4 < other[0] or left - 4 > other[1] for other in others):
                others.append((left, right))
                lanes[index] = lane
                break
    return lanes


def _label_ends(moment: Moment, text: str, duration_s: float) -> tuple[float, float]:
    """Left and right end of a label, in pixels: over the middle of its moment, within the margins."""
    length = _font(text, _LABEL_SIZE)[0].getlength(text) + 14
    middle = _x((moment.start_s + moment.end_s) / 2, duration_s)
    left = min(max(middle - length / 2, _MARGIN), _WIDTH - _MARGIN - length)
    return left, left + length


@lru_cache(maxsize=256)
def _font(text: str, size: int) -> tuple[FreeTypeFont, str]:
    """A font that has all letters of a text, and the text.

    Pillow's own has those of ASCII. Where no other is installed that has the rest, letters lose their accents.
    """
    own = ImageFont.load_default(size)
    assert isinstance(own, FreeTypeFont)
    if _has(own, text):
        return own, text
    for name in _FONTS:
        with suppress(OSError):
            font = ImageFont.truetype(name, size)
            if _has(font, text):
                return font, text
    return own, "".join(letter for letter in normalize("NFKD", text) if not combining(letter))


def _has(font: FreeTypeFont, text: str) -> bool:
    missing = bytes(
        font.getmask("\U000f0000")
    )  # of private use: drawn as what stands for a letter that is missing
    return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in set(text))
