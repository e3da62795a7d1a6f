"""``mrnet find``"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mrnet.cli.common import Parser, add_answered_by, make_predictor, output_encoding, positive, to_json
from mrnet.errors import ConfigError, DataError, OutputError, visible
from mrnet.progress import Progress, track

if TYPE_CHECKING:
    from mrnet.answer import Answer
    from mrnet.predictor import Predictor

_ASKED = ("query", "queries", "speech", "record")


def add_arguments(parser: Parser) -> None:
    parser.description = (
        "Finds the moments of a video that a sentence describes, with no training and no checkpoint; or, with "
        "--checkpoint, by a trained model."
    )
    parser.add_argument("video", type=Path, help="video file")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("query", nargs="?", help="a sentence; for words that are said, '\"with quotes inside\"'")
    asked.add_argument("--queries", type=Path, metavar="FILE", help="in its place, a text file of one a line")
    asked.add_argument(
        "--speech",
        type=Path,
        metavar="FILE",
        help="in its place, a sound file of someone saying it, for a checkpoint that hears or with --recogniser",
    )
    asked.add_argument(
        "--record", action="store_true", help="in its place, say it: as --speech, from the microphone"
    )
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("-k", type=positive, default=5, help="how many moments (default: 5)")
    how_many.add_argument(
        "--all", dest="k", action="store_const", const=None, help="every moment that is likely enough to be meant"
    )

    add_answered_by(parser)

    output = parser.add_argument_group("what becomes of the moments")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV")
    output.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw frames, the score over time and moments"
    )
    output.add_argument("--cut", type=Path, metavar="DIR", help="write each moment as a file of its own")
    output.add_argument(
        "--exact", action="store_true", help="with --cut: encode anew, to start and end at the very frame"
    )
    output.add_argument("--subtitles", type=Path, metavar="FILE", help="write the moments as .vtt or .srt")
    output.add_argument("--edl", type=Path, metavar="FILE", help="write an edit list, .edl or .otio")
    parser.late = "query"
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if sum(getattr(arguments, name) not in (None, False) for name in _ASKED) != 1:
        raise ConfigError("ask one thing: a sentence in quotes, --queries FILE, --speech FILE or --record")
    if arguments.exact and arguments.cut is None:
        raise ConfigError("--exact says how --cut cuts: give --cut DIR too")
    queries = None if arguments.queries is None else _read_queries(arguments.queries)
    given = [f"--{name}" for name in _EXPORTS if getattr(arguments, name) is not None]
    if queries is not None and given:
        raise ConfigError(f"{given[0]} is for the moments of one query: give it alone, not --queries")
    if arguments.recogniser is not None and arguments.speech is None and not arguments.record:
        raise ConfigError("--recogniser says what hears a query: give --speech FILE or --record too")
    _check_outputs(arguments)
    predictor = make_predictor(arguments)
    if queries is not None:
        _print(_find_each(predictor, arguments, queries), arguments, len(queries))
        return 0
    if arguments.record:
        answer = _find_recorded(predictor, arguments)
    elif arguments.speech is not None:
        answer = _find_spoken(predictor, arguments, arguments.speech)
    else:
        [answer] = _find_each(predictor, arguments, [arguments.query])
    _print([answer], arguments)
    _export(answer, arguments)
    return 0


def _find_each(predictor: "Predictor", arguments: argparse.Namespace, queries: list[str]) -> "Iterator[Answer]":
    with _encoding() as progress:
        yield from predictor.find_each(arguments.video, queries, arguments.k, watch=progress.reach)


def _find_spoken(predictor: "Predictor", arguments: argparse.Namespace, speech: Path) -> "Answer":
    with _encoding() as progress:
        return predictor.find(arguments.video, k=arguments.k, speech=speech, watch=progress.reach)


def _encoding() -> Progress:
    """Of one video, which may last hours; nothing is shown where it is kept encoded."""
    return Progress(None, "encoding", "second")


def _find_recorded(predictor: "Predictor", arguments: argparse.Namespace) -> "Answer":
    """The answer to what is said into the microphone; what can be refused is refused before."""
    from mrnet.media.microphone import record
    from mrnet.media.video import probe

    predictor.check_hears()
    probe(arguments.video)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "recording.wav"
        record(recording)
        answer = _find_spoken(predictor, arguments, recording)
    return replace(answer, query=recording.name) if answer.kind == "speech" else answer


def _read_queries(path: Path) -> list[str]:
    """The lines of a file that are not blank.

    Raises:
        DataError: it cannot be read, or holds none.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"{path}: cannot be read ({reason}); give a text file of one query a line") from None
    queries = [line for line in lines if line]
    if not queries:
        raise DataError(f"{path}: holds no query; write one a line")
    return queries


def _print(answers: "Iterable[Answer]", arguments: argparse.Namespace, several: int = 0) -> None:
    """Print answers once all are known, and what to know about them, each thing once, on standard error.

    Args:
        answers: each is let go as soon as it is put in words.
        arguments: of the command.
        several: how many there are, if they are of a file of queries.
    """
    notes: Counter[str] = Counter()
    if several:
        answers = track(answers, several, "asking", "line")
    print(_put(_noted(answers, notes), arguments, several=several > 0))
    for note, count in notes.items():
        print(visible(f"{note} ({count} of {several} queries)" if several else note), file=sys.stderr)


def _noted(answers: "Iterable[Answer]", notes: Counter[str]) -> "Iterator[Answer]":
    for answer in answers:
        if answer.note:
            notes[answer.note] += 1
        yield answer


def _put(answers: "Iterator[Answer]", arguments: argparse.Namespace, *, several: bool) -> str:
    from mrnet.export.tables import to_csv, to_table

    if arguments.json:
        documents = [to_json(answer.to_dict()) for answer in answers]
        return "[\n" + ",\n".join(documents) + "\n]" if several else documents[0]
    if arguments.csv:
        first = next(answers)
        rows = ((answer.query, answer.moments) for answer in chain([first], answers))
        return to_csv(rows, str(arguments.video), first.score_name).removesuffix("\n")
    lines: list[str] = []
    by: dict[str, None] = {}  # each once, in order
    for answer in answers:
        if several:
            lines.append(f"\n{visible(answer.query)}")
        if answer.moments:
            lines.append(to_table(answer.moments, answer.duration_s, answer.score_name, output_encoding()))
        else:
            lines.append("not in this video, as far as can be told")
        if answer.best_guess is not None:
            lines.append("best guess:")
            lines.append(to_table([answer.best_guess], answer.duration_s, answer.score_name, output_encoding()))
        probable = f"; probabilities from {answer.calibrated_on}" if answer.calibrated_on else ""
        by[f"answered by {answer.answered_by}{probable}"] = None
    return "\n".join([*lines, *by])


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse what would not be written before the video is looked at, which may take long."""
    if arguments.plot is not None:
        from mrnet.export.plot import check_plot

        check_plot(arguments.plot)
    if arguments.subtitles is not None:
        from mrnet.export.subtitles import check_subtitles

        check_subtitles(arguments.subtitles)
    if arguments.edl is not None:
        from mrnet.export.edits import check_edits

        check_edits(arguments.edl)
    if arguments.cut is not None and arguments.cut.exists() and not arguments.cut.is_dir():
        raise OutputError(f"{arguments.cut}: is a file, where a folder of clips should be; name a folder")


def _export(answer: "Answer", arguments: argparse.Namespace) -> None:
    """Write what is asked for, and say where on standard error; of no moment there is but a picture."""
    for name, write in _EXPORTS.items():
        if getattr(arguments, name) is None:
            continue
        if name != "plot" and not answer.moments:
            print(f"--{name}: nothing is written, as no moment is likely enough to be meant", file=sys.stderr)
            continue
        for path in write(answer, arguments):
            print(visible(f"written: {path}"), file=sys.stderr)


def _plot(answer: "Answer", arguments: argparse.Namespace) -> list[Path]:
    answer.plot(arguments.plot)
    return [arguments.plot]


def _cut(answer: "Answer", arguments: argparse.Namespace) -> list[Path]:
    from mrnet.export.clips import cut

    return cut(arguments.video, answer.moments, arguments.cut, exact=arguments.exact)


def _subtitles(answer: "Answer", arguments: argparse.Namespace) -> list[Path]:
    from mrnet.export.subtitles import write_subtitles

    write_subtitles(arguments.subtitles, answer.moments, answer.query, answer.score_name)
    return [arguments.subtitles]


def _edl(answer: "Answer", arguments: argparse.Namespace) -> list[Path]:
    from mrnet.export.edits import write_edits

    write_edits(arguments.edl, arguments.video, answer.moments, answer.query, answer.score_name)
    return [arguments.edl]


_EXPORTS = {"plot": _plot, "cut": _cut, "subtitles": _subtitles, "edl": _edl}
"""Options that make something of one query's moments."""
