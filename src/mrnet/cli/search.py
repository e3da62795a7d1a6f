"""``mrnet search``"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mrnet.cli.common import Parser, add_library, open_library, positive, to_json
from mrnet.errors import visible

if TYPE_CHECKING:
    from mrnet.library.answer import Hit, SearchAnswer


def add_arguments(parser: Parser) -> None:
    parser.description = (
        "Finds the moments that a sentence describes in the videos of a library, which `mrnet index` makes."
    )
    parser.add_argument("query", help="a sentence; for words that are said, '\"with quotes inside\"'")
    add_library(parser)
    parser.add_argument("-k", type=positive, default=10, help="how many moments (default: 10)")
    which = parser.add_argument_group("which videos")
    which.add_argument("--folder", type=Path, metavar="DIR", help="those below this folder")
    which.add_argument("--name", metavar="GLOB", help="those of this name, e.g. 'IMG_*.mp4'")
    which.add_argument(
        "--since",
        metavar="DATE",
        help="those last modified on this day or later, e.g. 2026-11-26 or 2026-11-26T14:30",
    )
    which.add_argument("--until", metavar="DATE", help="those last modified on this day or earlier")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    answer = open_library(arguments).search(
        arguments.query,
        arguments.k,
        folder=arguments.folder,
        name=arguments.name,
        since=arguments.since,
        until=arguments.until,
    )
    if arguments.json:
        print(to_json(answer.to_dict()))
    else:
        print(_table(answer))
    if answer.note:
        print(visible(answer.note), file=sys.stderr)
    return 0


def _table(answer: "SearchAnswer") -> str:
    lines = [_line(f"{rank}.", hit, answer) for rank, hit in enumerate(answer, start=1)]
    if not lines:
        lines.append("not in these videos, as far as can be told")
    if answer.best_guess is not None:
        lines += ["best guess:", _line("", answer.best_guess, answer)]
    searched = f"{answer.num_searched} of {answer.num_videos} videos"
    how = "" if answer.exact else ", by an index that may miss some"
    probable = f"; probabilities from {answer.calibrated_on}" if answer.calibrated_on else ""
    return "\n".join([*lines, f"searched {searched}{how}; answered by {answer.answered_by}{probable}"])


def _line(rank: str, hit: "Hit", answer: "SearchAnswer") -> str:
    """``1.  0:00:12.3 - 0:00:19.0  82%   /videos/holiday.mp4``"""
    from mrnet.export.words import clock, said, score

    moment = hit.moment
    times = f"{clock(moment.start_s, 1)} - {clock(moment.end_s, 1)}"
    return f"{rank:<4}{times}  {score(moment, answer.score_name):<4}  {visible(hit.video)}{said(moment)}"
