"""``report.html``: one file with the metrics, the training curve and pictures of answers."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from mrnet.answer import Answer
from mrnet.media.video import sample_frames
from mrnet.types import QueryKind, VideoRecord

_THUMBNAILS = 10
_HEIGHT, _WIDTH = 90, 120
_PLOT_WIDTH, _PLOT_HEIGHT = 640, 200


@dataclass(frozen=True)
class Example:
    """A test video with the answer to each query.

    Attributes:
        title: why it is shown.
        path: video file.
        record: its queries with ground truth.
        answers: kind of query -> qid -> answer, whose best moment is shown, a guess as such.
    """

    title: str
    path: Path
    record: VideoRecord
    answers: Mapping[QueryKind, Mapping[str, Answer]]


Row = tuple[Mapping[str, float], Mapping[str, Sequence[float]]]


def render_report(
    report: Mapping[str, Any],
    rows: Mapping[str, Row],
    histories: Mapping[QueryKind, Sequence[Mapping[str, Any]]],
    examples: Sequence[Example],
) -> str:
    """The page as text.

    Args:
        report: as written to ``report.json``.
        rows: title -> metrics and intervals of every row of the table.
        histories: kind of query -> a record per epoch.
        examples: videos to show.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = (resources.files("mrnet.demo") / "page.html.j2").read_text(encoding="utf-8")
    select_by = report["text"]["config"]["evaluation"]["select_by"]
    scores = {
        kind: {record["epoch"]: record["val"][select_by] for record in history if record["val"] is not None}
        for kind, history in histories.items()
    }
    return environment.from_string(source).render(
        report=report,
        halves={kind: report[kind] for kind in histories},
        metrics=list(next(iter(rows.values()))[0]),
        rows=rows,
        curves={
            kind: {
                "loss": curve({record["epoch"]: record["loss"]["total"] for record in history}),
                "score": curve(scores[kind], top=100.0),
                "losses": [history[0]["loss"]["total"], history[-1]["loss"]["total"]],
                "scores": [next(iter(scores[kind].values())), list(scores[kind].values())[-1]],
                "epochs": len(history),
            }
            for kind, history in histories.items()
        },
        select_by=select_by,
        plot={"width": _PLOT_WIDTH, "height": _PLOT_HEIGHT},
        sound=_sound_uri(report["speech"]["example"]["speech"]) if "speech" in histories else None,
        examples=[_picture(example) for example in examples],
    )


def curve(values: Mapping[int, float], top: float | None = None) -> str:
    """Points of an SVG polyline over the plot's area: epochs from left to right, 0 at the bottom.

    Args:
        values: epoch, from 1, -> value; the last epoch is among them.
        top: value at the upper edge; the largest one if left out.
    """
    highest = top if top is not None else max(values.values())
    step = _PLOT_WIDTH / max(max(values) - 1, 1)
    return " ".join(
        f"{(epoch - 1) * step:.1f},{_PLOT_HEIGHT * (1 - value / highest if highest else 1):.1f}"
        for epoch, value in values.items()
    )


def _picture(example: Example) -> dict[str, Any]:
    duration_s = example.record.duration_s
    frames = sample_frames(example.path, _THUMBNAILS / duration_s, (_HEIGHT, _WIDTH))
    thumbnails = [_data_uri(frame) for _, frame in zip(range(_THUMBNAILS), frames, strict=False)]

    def percent(start_s: float, end_s: float) -> dict[str, float]:
        return {
            "left": round(100 * start_s / duration_s, 2),
            "width": round(100 * (end_s - start_s) / duration_s, 2),
            "start_s": start_s,
            "end_s": end_s,
        }

    queries = [
        {
            "text": query.text,
            "truth": [percent(*span) for span in query.moments],
            "answers": {
                kind: percent(*best[:2]) | {"found": bool(answers[query.qid].moments)}
                for kind, answers in example.answers.items()
                if query.qid in answers and (best := answers[query.qid].best)
            },
        }
        for query in example.record.queries
    ]
    return {
        "title": example.title,
        "name": example.path.name,
        "duration_s": duration_s,
        "thumbnails": thumbnails,
        "queries": queries,
    }


def _sound_uri(path: str) -> str:
    return "data:audio/wav;base64," + base64.b64encode(Path(path).read_bytes()).decode("ascii")


def _data_uri(timed_frame: tuple[float, Any]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(timed_frame[1]).save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
