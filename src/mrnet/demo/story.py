"""The whole story on a small synthetic benchmark: render, speak, encode, train, evaluate, ask, report."""

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mrnet.answer import Answer
from mrnet.config.recipes import load_recipe
from mrnet.config.run import RunConfig
from mrnet.data.sources import open_source
from mrnet.demo import DEFAULT_RUNS
from mrnet.demo.benchmark import render_benchmark
from mrnet.demo.page import Example, render_report
from mrnet.demo.voices import can_speak
from mrnet.errors import OutputError, TrainingError
from mrnet.evaluation.metrics import per_query_hits
from mrnet.evaluation.predictions import align, write_predictions
from mrnet.evaluation.report import Evaluation, evaluate_checkpoint
from mrnet.evaluation.run import metric_table
from mrnet.features.extraction.extract import video_files
from mrnet.features.registry import make_backbone
from mrnet.files import check_new, write_text
from mrnet.predictor import Predictor, ReadyVideo
from mrnet.training.state import load_history, load_run_config
from mrnet.types import Query, QueryKind, QueryProtocol, VideoRecord
from mrnet.weights.native import RUN_FILE, resolve_checkpoint

log = logging.getLogger(__name__)

NOTICE = (
    "SYNTHETIC: rendered videos, generated sentences, and a synthesiser that speaks them. These figures show that "
    "the software works; they say nothing of real video or speech and compare with no published number."
)
_EXAMPLES = 4


@dataclass(frozen=True)
class Half:
    """A model of one kind of query, trained and evaluated.

    Attributes:
        report: as :func:`mrnet.evaluation.run.evaluate` makes it, with what the demo adds.
        history: a record per epoch.
        videos: those that the report shows.
        answers: qid -> the answer of one moment, for their queries.
    """

    report: dict[str, Any]
    history: Sequence[dict[str, Any]]
    videos: Sequence[tuple[Path, VideoRecord]]
    answers: dict[str, Answer]


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
        configs["speech"] = load_recipe("demo", [*fields, f"model.query_dim={width}", *overrides])
    else:
        log.info("the spoken half is left out: for it, pip install 'mrnet[demo]' and choose another --out")
    log.info("encoding ...")
    for config in configs.values():
        open_source(config.data)
    log.info("training on %s queries, side by side ...", " and ".join(configs))
    _train_all({kind: (config, out / DEFAULT_RUNS[kind].name) for kind, config in configs.items()})
    log.info("evaluating ...")
    halves = {kind: _evaluate(out / DEFAULT_RUNS[kind].name, kind, out) for kind in configs}
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


def _train_all(jobs: Mapping[QueryKind, tuple[RunConfig, Path]]) -> None:
    """Train every model in a process and on a core of its own: so small ones gain little from a second.

    Raises:
        TrainingError: one of them fails; says why.
    """
    started: dict[QueryKind, subprocess.Popen[str]] = {}
    last: dict[QueryKind, str] = {}
    try:
        for kind, (config, folder) in jobs.items():
            settings = folder.with_name(f"{folder.name}.yaml")
            write_text(settings, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
            words = [
                sys.executable,
                "-m",
                "mrnet",
                "train",
                "--config",
                str(settings),
                "--out",
                str(folder),
                "--cpu",
            ]
            words += ["--resume"] if (folder / RUN_FILE).exists() else []
            started[kind] = subprocess.Popen(
                words,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

        def relay(kind: QueryKind) -> None:
            for line in started[kind].stderr or ():
                last[kind] = line.rstrip()
                log.info("%s: %s", kind, last[kind])

        with ThreadPoolExecutor(len(started)) as pool:
            list(pool.map(relay, started))
    finally:
        for process in started.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait()
    for kind, process in started.items():
        if process.returncode:
            raise TrainingError(f"training on {kind} queries failed: {last.get(kind, process.returncode)}")


def _evaluate(folder: Path, kind: QueryKind, out: Path) -> Half:
    predictor = Predictor.load(folder, device="cpu")
    config = load_run_config(folder)
    history = load_history(folder)
    protocols: list[QueryProtocol] = ["single", "joint"] if kind == "text" else ["single"]
    evaluation = evaluate_checkpoint(folder, config, protocols=protocols, device="cpu")[kind]
    report, predictions, records = dict(evaluation.report), evaluation.predictions, evaluation.records
    files = video_files(Path(str(config.data.video_features)))
    for protocol, ranked in predictions.items():
        write_predictions(out / f"predictions.{kind}.{protocol}.jsonl", ranked)
    shown = [*records[:_EXAMPLES], _median(evaluation)]  # of few, one comes twice
    videos = [(files[record.video_id], record) for record in shown]
    answers: dict[str, Answer] = {}
    for path, record in videos:
        video = predictor.encode_video(path)
        for query in record.queries:
            if query.qid not in answers:
                answers[query.qid] = _find(predictor, video, config, query)
    path, record = videos[0]
    asked = record.queries[0]
    words = [asked.text] if kind == "text" else ["--speech", str(_sound(config, asked))]
    checkpoint = ["--checkpoint", str(folder)]
    best = answers[asked.qid].best
    assert best is not None, "every score is 0"
    report |= {
        "epochs": len(history),
        "best_epoch": resolve_checkpoint(folder).name,
        "example": {
            "video": str(path),
            "query": asked.text,
            "speech": None if kind == "text" else str(_sound(config, asked)),
            "command": shlex.join(["mrnet", "find", str(path), *words, *checkpoint]),
            "truth": list(asked.moments[0]),
            "answer": dict(zip(("start_s", "end_s", "score"), best[:3], strict=True)),
            "found": bool(answers[asked.qid].moments),
        },
    }
    return Half(report, history, videos, answers)


def _median(evaluation: Evaluation) -> VideoRecord:
    """The video whose queries are answered as well, by their mean IoU, as those of the median video."""
    ranked = align(evaluation.predictions["single"], evaluation.records)
    hits = per_query_hits(ranked.predictions, ranked.truth)["mIoU"]
    counts = [len(record.queries) for record in evaluation.records]
    means = [float(part.mean()) for part in np.split(hits, np.cumsum(counts)[:-1])]
    return evaluation.records[int(np.argsort(means, kind="stable")[len(means) // 2])]


def _find(predictor: Predictor, video: ReadyVideo, config: RunConfig, query: Query) -> Answer:
    if query.kind == "text":
        return predictor.find(video, query.text, k=1)
    return predictor.find(video, speech=_sound(config, query), k=1)


def _sound(config: RunConfig, query: Query) -> Path:
    return Path(str(config.data.speech_features)) / str(query.audio)


def _examples(halves: Mapping[QueryKind, Half]) -> list[Example]:
    videos = halves["text"].videos
    titles = [*(f"test video {number}" for number in range(1, len(videos))), "the median test video, by mean IoU"]
    return [
        Example(title, path, record, {kind: half.answers for kind, half in halves.items()})
        for title, (path, record) in zip(titles, videos, strict=True)
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
                f"answer: {'' if asked['found'] else 'not in this video, as far as can be told; best guess '}"
                f"{asked['answer']['start_s']:.1f} s - {asked['answer']['end_s']:.1f} s"
                f"   (truth: {start_s:.1f} s - {end_s:.1f} s)",
            ]
    return "\n".join([*lines, "", f"report: {out / 'report.html'}   ({report['seconds']:.0f} s this time)"])
