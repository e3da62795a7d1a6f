"""What one takes away of an answer: clips, subtitles, edit lists, tables; and pictures of a video."""

import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from mrnet.answer import AnswerJson, MomentJson
from mrnet.export.clips import clip_name, cut
from mrnet.export.edits import write_edits
from mrnet.export.subtitles import write_subtitles
from mrnet.export.tables import to_csv
from mrnet.export.words import ScoreName
from mrnet.files import writing
from mrnet.media.stills import stills
from mrnet.types import Moment
from mrnet.web.records import Job, Video
from mrnet.web.refusals import NotFound, NotReady

Form = Literal["vtt", "srt", "edl", "otio", "csv", "json"]
"""In which all moments of an answer can be had."""

FORMS: tuple[Form, ...] = get_args(Form)

MEDIA_TYPES: dict[str, str] = {
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "edl": "text/plain",
    "otio": "application/json",
    "csv": "text/csv",
    "json": "application/json",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".mpg": "video/mpeg",
    ".ts": "video/mp2t",
    ".flv": "video/x-flv",
    ".wmv": "video/x-ms-wmv",
}
"""By form, or by suffix of a video."""

STRIP_FRAMES = 12
"""Pictures of a strip, side by side."""

_STRIP_HEIGHT, _STRIP_WIDTH, _STILL_EDGE = 72, 128, 180


def answer_of(job: Job) -> AnswerJson:
    """The answer of a job.

    Raises:
        NotReady: there is none.
    """
    if job.answer is None:
        raise NotReady("this question has no answer" + (" yet" if job.state in ("queued", "running") else ""))
    return job.answer


def moments_of(answer: AnswerJson) -> list[Moment]:
    """The moments of an answer, or its best guess where there is none."""
    return [_moment(moment) for moment in _shown(answer)]


def score_name_of(answer: AnswerJson) -> ScoreName:
    """What the scores of moments that were seen are."""
    return "probability" if any("probability" in moment for moment in _shown(answer)) else "score"


def document(video: Video, path: Path, answer: AnswerJson, form: Form) -> bytes:
    """All moments in one file.

    Args:
        video: that was asked.
        path: its file.
        answer: to the question.
        form: of the file.

    Raises:
        VideoError, OutputError: as of :mod:`mrnet.export`.
    """
    if form == "json":
        return (json.dumps(answer, indent=2, ensure_ascii=False) + "\n").encode()
    moments, query, score_name = moments_of(answer), answer["query"], score_name_of(answer)
    if form == "csv":
        return to_csv([(query, moments)], video.name, score_name).encode()
    with tempfile.TemporaryDirectory(prefix="mrnet-") as folder:
        target = Path(folder) / f"moments.{form}"
        if form in ("vtt", "srt"):
            write_subtitles(target, moments, query, score_name)
        else:
            write_edits(target, path, moments, query, score_name, name=video.name)
        return target.read_bytes()


def clip(
    video: Video, path: Path, answer: AnswerJson, rank: int, folder: Path, *, exact: bool
) -> tuple[Path, str]:
    """One moment as a file of its own, in a new folder that is the caller's to remove, and what to call it.

    Args:
        video: that was asked.
        path: its file.
        answer: to the question.
        rank: of the moment, from 1.
        folder: that the new one is made in.
        exact: as of :func:`mrnet.export.clips.cut`.

    Raises:
        NotFound: there are fewer moments.
        VideoError, OutputError: as of :func:`mrnet.export.clips.cut`.
    """
    moments = moments_of(answer)
    if not 1 <= rank <= len(moments):
        raise NotFound(f"this answer has {len(moments)} moments, none of rank {rank}")
    with writing(folder):
        place = Path(tempfile.mkdtemp(dir=folder))
    try:
        [made] = cut(path, moments[rank - 1 : rank], place, exact=exact)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return made, clip_name(Path(video.name), moments[rank - 1], rank, made.suffix)


def strip(path: Path, duration_s: float) -> bytes:
    """Pictures from all over a video side by side, as JPEG: 12 of 128 by 72 pixels, each filled.

    Raises:
        VideoError: the video does not decode.
    """
    picture = Image.new("RGB", (STRIP_FRAMES * _STRIP_WIDTH, _STRIP_HEIGHT))
    times = [(index + 0.5) * duration_s / STRIP_FRAMES for index in range(STRIP_FRAMES)]
    for index, frame in enumerate(stills(path, times, 2 * _STRIP_HEIGHT)):
        picture.paste(_filling(Image.fromarray(frame), _STRIP_WIDTH, _STRIP_HEIGHT), (index * _STRIP_WIDTH, 0))
    return _jpeg(picture)


def still(path: Path, time_s: float) -> bytes:
    """The picture at a time, as JPEG.

    Raises:
        VideoError: the video does not decode.
    """
    [frame] = stills(path, [time_s], _STILL_EDGE)
    return _jpeg(Image.fromarray(frame))


def _filling(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture that fills a box, cut off where it is longer."""
    scale = max(width / picture.width, height / picture.height)
    picture = picture.resize(
        (max(round(picture.width * scale), width), max(round(picture.height * scale), height))
    )
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=80)
    return content.getvalue()


def _shown(answer: AnswerJson) -> Sequence[MomentJson]:
    guess = answer["best_guess"]
    return answer["moments"] or ([] if guess is None else [guess])


def _moment(moment: MomentJson) -> Moment:
    score = moment["probability"] if "probability" in moment else moment.get("score", 0.0)
    return Moment(moment["start_s"], moment["end_s"], score, moment["source"], moment["words"])
