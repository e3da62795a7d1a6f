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

from mrnet.features.video import sample_frames
from mrnet.types import Moment, VideoRecord

_THUMBNAILS = 10
_HEIGHT, _WIDTH = 90, 120
_PLOT_WIDTH, _PLOT_HEIGHT = 640, 200


@dataclass(frozen=True)
class Example:
    """A test video with the model's first answer to each query.

    Attributes:
        path: video file.
        record: its queries with ground truth.
        answers: qid -> first moment.
    """

    path: Path
    record: VideoRecord
    answers: Mapping[str, Moment]


def render_report(
    report: Mapping[str, Any], history: Sequence[Mapping[str, Any]], examples: Sequence[Example], notice: str
) -> str:
    """The page as text.

    Args:
        report: as written to ``report.json``.
        history: a record per epoch.
        examples: videos to show.
        notice: said at the top.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = (resources.files("mrnet.demo") / "report.html.j2").read_text(encoding="utf-8")
    rows = [
        ("MRNet, single", report["metrics"]["single"], report["intervals_95"]["single"]),
        (
            "MRNet, joint",
            report["metrics"]["joint"],
            report["intervals_95"]["joint"],
        ),
        ("best constant moment", report["baselines"]["constant"], {}),
        ("rank only (for joint)", report["baselines"]["rank_only"], {}),
    ]
    select_by = report["config"]["evaluation"]["select_by"]
    return environment.from_string(source).render(
        notice=notice,
        report=report,
        metrics=list(rows[0][1]),
        rows=rows,
        loss_curve=curve([record["loss"]["total"] for record in history]),
        score_curve=curve([record["val"][select_by] for record in history], top=100.0),
        select_by=select_by,
        plot={"width": _PLOT_WIDTH, "height": _PLOT_HEIGHT},
        history=history,
        examples=[_picture(example) for example in examples],
    )


def curve(values: Sequence[float], top: float | None = None) -> str:
    """Points of an SVG polyline over the plot's area: epochs from left to right, 0 at the bottom.

    Args:
        values: one an epoch.
        top: value at the upper edge; the largest one if left out.
    """
    highest = top if top is not None else max(values)
    step = _PLOT_WIDTH / max(len(values) - 1, 1)
    return " ".join(
        f"{i * step:.1f},{_PLOT_HEIGHT * (1 - value / highest if highest else 1):.1f}"
        for i, value in enumerate(values)
    )


def _picture(example: Example) -> dict[str, Any]:
    duration_s = example.record.duration_s
    frames = sample_frames(example.path, _THUMBNAILS / duration_s, _HEIGHT, _WIDTH)
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
            "answer": percent(*example.answers[query.qid][:2]) if query.qid in example.answers else None,
        }
        for query in example.record.queries
    ]
    return {"name": example.path.name, "duration_s": duration_s, "thumbnails": thumbnails, "queries": queries}


def _data_uri(timed_frame: tuple[float, Any]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(timed_frame[1]).save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
