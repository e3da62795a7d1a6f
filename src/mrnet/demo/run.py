"""The whole story on a small synthetic benchmark: render, encode, train, evaluate, ask, report."""

import json
import logging
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrnet.checkpoint import RUN_FILE, make_directory, write_atomically
from mrnet.config import Config, load_recipe
from mrnet.data.sources import open_source
from mrnet.demo import DEFAULT_OUT
from mrnet.demo.benchmark import render_benchmark
from mrnet.demo.report import Example, render_report
from mrnet.errors import CheckpointError
from mrnet.evaluation.predictions import write_predictions
from mrnet.evaluation.run import evaluate, metric_table
from mrnet.predictor import Predictor
from mrnet.training.loop import train
from mrnet.training.state import Run

log = logging.getLogger(__name__)

NOTICE = (
    "SYNTHETIC: rendered videos and generated sentences. These figures show that the software works; "
    "they say nothing of real video and compare with no published number."
)
_EXAMPLES = 4


def run_demo(out: Path, seed: int, overrides: Sequence[str] = ()) -> str:
    """Run the demo, or go on with one that was interrupted.

    Args:
        out: folder for everything: ``benchmark/``, ``run/``, ``report.html``, ``report.json``.
        seed: of the benchmark and the training.
        overrides: of fields of the demo recipe, ``"dotted.key=value"``.

    Returns:
        a summary for the terminal.

    Raises:
        CheckpointError: ``out`` holds something else, or the demo of another seed.
    """
    started = time.perf_counter()
    benchmark, run_directory = out / "benchmark", out / "run"
    config = load_recipe(
        "demo",
        [f"data.{split}={json.dumps(str(benchmark / f'{split}.json'))}" for split in ("train", "val", "test")]
        + [f"data.video_features={json.dumps(str(benchmark / 'videos'))}", f"train.seed={seed}", *overrides],
    )
    _claim(out, seed)
    log.info("%s", NOTICE)
    if not benchmark.exists():
        log.info("rendering videos ...")
        render_benchmark(benchmark, seed, workers=os.cpu_count() or 1)
    log.info("encoding videos, training ...")
    run = train(config, run_directory, resume=(run_directory / RUN_FILE).exists(), cpu=True)
    log.info("evaluating ...")
    predictor = Predictor.load(run_directory, device="cpu")
    report, examples = _evaluate(predictor, run, benchmark, out)
    report["seconds"] = round(time.perf_counter() - started, 1)
    html = render_report(report, run.history, examples, NOTICE)
    write_atomically(out / "report.json", json.dumps(report, indent=2) + "\n")
    write_atomically(out / "report.html", html)
    return _summary(report, out)


def _claim(out: Path, seed: int) -> None:
    """Make the folder ours, or see that it is ours already."""
    marker = out / "demo.json"
    claim = json.dumps({"demo": 1, "seed": seed}) + "\n"
    if marker.is_file():
        if marker.read_text(encoding="utf-8") != claim:
            raise CheckpointError(f"{out} holds the demo of another seed: choose another --out")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} already exists and is no demo: choose another --out")
    make_directory(out)
    write_atomically(marker, claim)


def _evaluate(predictor: Predictor, run: Run, benchmark: Path, out: Path) -> tuple[dict[str, Any], list[Example]]:
    config: Config = predictor.config
    source = open_source(config.data)
    records = source.split(config.data, "test")
    report, predictions = evaluate(
        predictor.model,
        source.dataset(records, config),
        source.split(config.data, "train"),
        config,
        predictor.device,
        ["single", "joint"],
        split="test",
    )
    for protocol, rows in predictions.items():
        write_predictions(out / f"predictions.{protocol}.jsonl", rows)
    examples = []
    for record in records[:_EXAMPLES]:
        path = benchmark / "videos" / f"{record.video_id}.mp4"
        video = predictor.encode_video(path)
        found = {query.qid: predictor.find(video, query.text, k=1) for query in record.queries}
        examples.append(Example(path, record, {qid: moments[0] for qid, moments in found.items() if moments}))
    asked = records[0].queries[0]
    answer = examples[0].answers[asked.qid]
    checkpoint = [] if out == DEFAULT_OUT else ["--checkpoint", str(run.directory)]
    report |= {
        "synthetic": NOTICE,
        "epochs": run.epoch,
        "best_epoch": run.best,
        "typed_query": {
            "video": str(examples[0].path),
            "query": asked.text,
            "command": shlex.join(["mrnet", "find", str(examples[0].path), asked.text, *checkpoint]),
            "truth": list(asked.moments[0]),
            "answer": answer._asdict(),
        },
    }
    return report, examples


def _summary(report: dict[str, Any], out: Path) -> str:
    rows = {f"MRNet, {protocol}": values for protocol, values in report["metrics"].items()}
    rows |= {
        "best constant moment": report["baselines"]["constant"],
        "rank only (for joint)": report["baselines"]["rank_only"],
    }
    asked = report["typed_query"]
    start_s, end_s = asked["truth"]
    return "\n".join(
        [
            "",
            NOTICE,
            "",
            metric_table(rows),
            "",
            f"asked:  {asked['command']}",
            f"answer: {asked['answer']['start_s']:.1f} s - {asked['answer']['end_s']:.1f} s"
            f"   (truth: {start_s:.1f} s - {end_s:.1f} s)",
            f"report: {out / 'report.html'}   ({report['seconds']:.0f} s this time)",
        ]
    )
