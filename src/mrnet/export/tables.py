"""Moments as a table to look at, and as one to compute with."""

import csv
import io
from collections.abc import Iterable, Sequence

from mrnet.export.words import ScoreName, clock, said, score
from mrnet.types import Moment

_BAR = 40


def to_csv(
    answers: Iterable[tuple[str, Sequence[Moment]]], video: str, score_name: ScoreName = "probability"
) -> str:
    """CSV with a header: ``rank,start_s,end_s,probability,source,words,video,query``, times to a millisecond.

    A moment that was said has no probability.

    Args:
        answers: queries, each with its moments, best first.
        video: what to call the video.
        score_name: what the moments' scores are; names their column.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "start_s", "end_s", score_name, "source", "words", "video", "query"])
    for query, moments in answers:
        for rank, moment in enumerate(moments, start=1):
            times = (f"{moment.start_s:.3f}", f"{moment.end_s:.3f}")
            known = score_name == "score" or moment.source == "seen"
            score = f"{moment.score:.4f}" if known else ""
            writer.writerow([rank, *times, score, moment.source, moment.words, video, query])
    return text.getvalue()


def to_table(
    moments: Sequence[Moment],
    duration_s: float,
    score_name: ScoreName = "probability",
    encoding: str | None = "utf-8",
) -> str:
    """A line for every moment: its times, its score, a bar that says where in the video it is, and what is said.

            start       end        probability
        1.  0:00:12.3 - 0:00:19.0  82%          ······████······························
        2.  0:00:31.0 - 0:00:33.4  said         ···············█························  "Look at that dog!"

    Args:
        moments: best first.
        duration_s: length of the video, which the bar stands for.
        score_name: what the moments' scores are.
        encoding: of where it is printed; where that has no blocks, ``#`` and ``-`` stand for them.
    """
    dot, block = _drawn_with(encoding)
    number = len(f"{len(moments)}.  ")
    lines = [f"{'':{number}}{'start':<11} {'end':<10} {score_name}"]
    for rank, moment in enumerate(moments, start=1):
        first = min(int(_BAR * moment.start_s / duration_s), _BAR - 1)
        last = min(max(round(_BAR * moment.end_s / duration_s), first + 1), _BAR)
        bar = dot * first + block * (last - first) + dot * (_BAR - last)
        times = f"{clock(moment.start_s, 1)} - {clock(moment.end_s, 1)}"
        probable = f"{score(moment, score_name):<{len(score_name)}}"
        lines.append(f"{f'{rank}.':<{number}}{times}  {probable}  {bar}{said(moment)}")
    return "\n".join(lines)


def _drawn_with(encoding: str | None) -> tuple[str, str]:
    try:
        "·█".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "-", "#"
    return "·", "█"
