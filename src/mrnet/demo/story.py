"""The whole story on a small synthetic benchmark: render, speak, encode, train, evaluate, ask, report."""

import json
import logging
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrnet.answer import Answer
from mrnet.config import RunConfig, load_recipe
from mrnet.demo import DEFAULT_RUNS
from mrnet.demo.benchmark import render_benchmark
from mrnet.demo.page import Example, render_report
from mrnet.demo.voices import can_speak
from mrnet.errors import OutputError
from mrnet.evaluation.predictions import write_predictions
from mrnet.evaluation.report import evaluate_checkpoint
from mrnet.evaluation.run import metric_table
from mrnet.features.extraction.extract import video_files
from mrnet.features.registry import make_backbone
from mrnet.files import check_new, write_text
from mrnet.predictor import Predictor, ReadyVideo
from mrnet.training.loop import train
from mrnet.training.state import Run
from mrnet.types import Moment, Query, QueryKind, QueryProtocol, VideoRecord
from mrnet.weights.native import RUN_FILE

log = logging.getLogger(__name__)

NOTICE = (
    "SYNTHETIC: rendered videos, generated sentences, and a synthesiser that speaks them. These figures show that "
    "the software works; they say nothing of real video or speech and compare with no published number."
)
_EXAMPLES = 4
# Sounds are told apart after fewer epochs than hashed words, which start further from each other.
_SPEECH = ["train.epochs=24", "train.milestones=[16,21]", "train.full_loss_epochs=24"]


@dataclass(frozen=True)
class Half:
    """A model of one kind of query, trained and evaluated.

    Attributes:
        report: as :func:`mrnet.evaluation.run.evaluate` makes it, with what the demo adds.
        history: a record per epoch.
        videos: those that the report shows.
        answers: qid -> first moment, for their queries.
    """

    report: dict[str, Any]
    history: Sequence[dict[str, Any]]
    videos: Sequence[tuple[Path, VideoRecord]]
    answers: dict[str, Moment]


def run_demo(out: Path, seed: int, overrides: Sequence[str] = ()) -> str:
    """Run the demo, or go on with one that was interrupted.

    Its spoken half, a second model that hears the queries and sees no text, is left out where there is
    nothing to speak with.

    Args:
        out: folder for everything: ``benchmark/``, ``run/``, ``run-speech/``, ``report.html``, ``report.json``.
        seed: of the benchmark and the training.
        overrides: of fields of the demo recipe, ``"dotted.key=value"``.

    Returns:
        a summary for the terminal.

    Raises:
        OutputError: ``out`` holds something else, or the demo of another seed.
    """
    started = time.perf_counter()
    benchmark = out / "benchmark"
    fields = [f"data.{split}={json.dumps(str(benchmark / f'{split}.json'))}" for split in ("train", "val", "test")]
    fields += [f"data.video_features={json.dumps(str(benchmark / 'videos'))}", f"train.seed={seed}"]
    configs: dict[QueryKind, RunConfig] = {"text": load_recipe("demo", [*fields, *overrides])}
    _claim(out, seed)
    log.info("%s", NOTICE)
    if not benchmark.exists():
        log.info("rendering videos ...")
        render_benchmark(benchmark, seed, workers=os.cpu_count() or 1, speech=can_speak())
    if (benchmark / "speech").is_dir():
        fields += ["data.query_kinds=[speech]", f"data.speech_features={json.dumps(str(benchmark / 'speech'))}"]
        width = make_backbone("speech", configs["text"].data.speech_backbone).dim
        configs["speech"] = load_recipe("demo", [*fields, f"model.query_dim={width}", *_SPEECH, *overrides])
    else:
        log.info("the spoken half is left out: for it, pip install 'mrnet[demo]' and choose another --out")
    halves: dict[QueryKind, Half] = {}
    for kind, config in configs.items():
        log.info("encoding, training on %s queries ...", kind)
        folder = out / DEFAULT_RUNS[kind].name
        run = train(config, folder, resume=(folder / RUN_FILE).exists(), cpu=True)
        log.info("evaluating ...")
        halves[kind] = _evaluate(run, kind, out)
    report = {"synthetic": NOTICE, "seconds": round(time.perf_counter() - started, 1), "seed": seed}
    report |= {kind: half.report for kind, half in halves.items()}
    rows = _rows(halves)
    html = render_report(report, rows, {kind: half.history for kind, half in halves.items()}, _examples(halves))
    write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "report.html", html)
    return _summary(report, {title: values for title, (values, _) in rows.items()}, out)


def _claim(out: Path, seed: int) -> None:
    """Make the folder ours, or see that it is ours already."""
    marker = out / "demo.json"
    claim = json.dumps({"demo": 1, "seed": seed}) + "\n"
    if marker.is_file():
        if marker.read_text(encoding="utf-8") != claim:
            raise OutputError(f"{out} holds the demo of another seed: choose another --out")
        return
    check_new(out)
    write_text(marker, claim)


def _evaluate(run: Run, kind: QueryKind, out: Path) -> Half:
    predictor = Predictor.load(run.directory, device="cpu")
    config = run.config
    protocols: list[QueryProtocol] = ["single", "joint"] if kind == "text" else ["single"]
    evaluation = evaluate_checkpoint(run.directory, config, protocols=protocols, device="cpu")[kind]
    report, predictions, records = dict(evaluation.report), evaluation.predictions, evaluation.records
    files = video_files(Path(str(config.data.video_features)))
    for protocol, ranked in predictions.items():
        write_predictions(out / f"predictions.{kind}.{protocol}.jsonl", ranked)
    videos = [(files[record.video_id], record) for record in records[:_EXAMPLES]]
    answers: dict[str, Moment] = {}
    for path, record in videos:
        video = predictor.encode_video(path)
        for query in record.queries:
            if found := _find(predictor, video, config, query):
                answers[query.qid] = found[0]
    path, record = videos[0]
    asked = record.queries[0]
    words = [asked.text] if kind == "text" else ["--speech", str(_sound(config, asked))]
    checkpoint = ["--checkpoint", str(run.directory)]
    report |= {
        "epochs": run.epoch,
        "best_epoch": run.best,
        "example": {
            "video": str(path),
            "query": asked.text,
            "speech": None if kind == "text" else str(_sound(config, asked)),
            "command": shlex.join(["mrnet", "find", str(path), *words, *checkpoint]),
            "truth": list(asked.moments[0]),
            "answer": answers[asked.qid]._asdict(),
        },
    }
    return Half(report, run.history, videos, answers)


def _find(predictor: Predictor, video: ReadyVideo, config: RunConfig, query: Query) -> Answer:
    if query.kind == "text":
        return predictor.find(video, query.text, k=1)
    return predictor.find(video, speech=_sound(config, query), k=1)


def _sound(config: RunConfig, query: Query) -> Path:
    return Path(str(config.data.speech_features)) / str(query.audio)


def _examples(halves: Mapping[QueryKind, Half]) -> list[Example]:
    return [
        Example(path, record, {kind: half.answers for kind, half in halves.items()})
        for path, record in halves["text"].videos
    ]


def _rows(halves: Mapping[QueryKind, Half]) -> dict[str, tuple[dict[str, float], dict[str, list[float]]]]:
    """Title -> metrics and intervals of every row of the table."""
    rows = {
        f"MRNet, {kind}, {protocol}": (metrics, half.report["intervals_95"][protocol])
        for kind, half in halves.items()
        for protocol, metrics in half.report["metrics"].items()
    }
    baselines = halves["text"].report["baselines"]
    rows["best constant moment"] = (baselines["constant"], {})
    rows["rank only (for joint)"] = (baselines["rank_only"], {})
    return rows


def _summary(report: dict[str, Any], rows: dict[str, dict[str, float]], out: Path) -> str:
    lines = ["", NOTICE, "", metric_table(rows)]
    for kind in ("text", "speech"):
        if kind in report:
            asked = report[kind]["example"]
            start_s, end_s = asked["truth"]
            lines += [
                "",
                f"asked:  {asked['command']}",
                *([f'        (which says "{asked["query"]}")'] if asked["speech"] else []),
                f"answer: {asked['answer']['start_s']:.1f} s - {asked['answer']['end_s']:.1f} s"
                f"   (truth: {start_s:.1f} s - {end_s:.1f} s)",
            ]
    return "\n".join([*lines, "", f"report: {out / 'report.html'}   ({report['seconds']:.0f} s this time)"])
