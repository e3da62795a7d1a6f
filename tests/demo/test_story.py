"""The demo from end to end, in small: fewer videos, one epoch."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mrnet.answer import Answer
from mrnet.cli import main
from mrnet.demo.benchmark import render_benchmark
from mrnet.demo.page import Example, curve, render_report
from mrnet.demo.story import run_demo
from mrnet.demo.voices import can_speak
from mrnet.errors import FeatureError, OutputError
from mrnet.predictor import Predictor
from mrnet.training.state import load_history
from mrnet.types import Moment, Query, Span, VideoRecord

SMALL = ["train.epochs=1", "train.milestones=[]", "model.layers=1", "model.head_layers=2"]
speaking = pytest.mark.skipif(not can_speak(), reason="the extra `demo` is not installed")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    out.mkdir()
    (out / "demo.json").write_text('{"demo": 1, "seed": 3}\n')
    render_benchmark(out / "benchmark", 3, train=4, val=2, test=2, workers=1, speech=can_speak())
    summary = run_demo(out, 3, SMALL)
    assert "SYNTHETIC" in summary
    assert "MRNet, text, single" in summary
    assert f"--checkpoint {out / 'run'}" in summary
    assert ("MRNet, speech, single" in summary) is can_speak()
    return out


def typed(demo: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((demo / "report.json").read_text())["text"]
    return report


def test_report_json(demo: Path) -> None:
    assert json.loads((demo / "report.json").read_text())["synthetic"].startswith("SYNTHETIC")
    report = typed(demo)
    assert set(report["metrics"]) == {"single", "joint"}
    assert set(report["baselines"]) == {"constant", "rank_only"}
    for table in (*report["metrics"].values(), *report["baselines"].values()):
        assert {"R@1,IoU=0.5", "R@5,IoU=0.5", "mIoU"} <= set(table)
        assert all(0 <= value <= 100 for value in table.values())
    for name, (low, high) in report["intervals_95"]["single"].items():
        assert low <= report["metrics"]["single"][name] + 1e-6
        assert report["metrics"]["single"][name] <= high + 1e-6
    assert report["videos"] == 2
    assert report["config"]["train"]["epochs"] == 1


def test_report_html_is_one_file_with_pictures(demo: Path) -> None:
    page = (demo / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 30  # ten of each test video, and of the median one
    assert "SYNTHETIC: rendered videos" in page
    assert "<polyline" in page
    assert "http" not in page  # nothing is fetched
    assert f"{typed(demo)['metrics']['single']['mIoU']:.1f}" in page
    assert page.count("data:audio/wav;base64,") == can_speak()


def assert_answered(asked: dict[str, Any], answer: Answer) -> None:
    assert answer.best is not None
    assert answer.best[:3] == pytest.approx(tuple(asked["answer"].values()))
    assert list(asked["answer"]) == ["start_s", "end_s", "score"]
    assert asked["found"] == bool(answer.moments)


def test_a_best_guess_is_no_answer_on_the_page(demo: Path) -> None:
    """Where `mrnet find` says that a query is not in the video."""
    report = json.loads((demo / "report.json").read_text())
    video = demo / "benchmark" / "videos" / "test_0000.mp4"
    record = VideoRecord(
        "test_0000", 20.0, (Query("here", (Span(2, 4),), "a"), Query("not here", (Span(2, 4),), "b"))
    )
    moment = Moment(5.0, 10.0, 0.5)
    here = Answer("here", "text", 20.0, (moment,), None, "probability", "it")
    absent = replace(here, moments=(), best_guess=moment)
    example = Example("a video", video, record, {"text": {"a": here, "b": absent}})
    report = {key: value for key, value in report.items() if key != "speech"}
    report["text"]["example"] |= {"found": False}
    page = render_report(
        report, {"row": (report["text"]["metrics"]["single"], {})}, {"text": load_history(demo / "run")}, [example]
    )
    shown = re.findall(r'<span class="(answer[^"]*)" .* title="([^"]*)"', page)
    assert shown == [
        ("answer text", "answer, text: 5.0 – 10.0 s"),
        ("answer text guess", "best guess, text: 5.0 – 10.0 s"),
    ]
    assert "→ not in this video, as far as can be told; best guess <strong>" in page


def test_checkpoint_answers_a_typed_query(demo: Path) -> None:
    asked = typed(demo)["example"]
    answer = Predictor.load(demo / "run", device="cpu").find(asked["video"], asked["query"], k=1)
    assert_answered(asked, answer)


@speaking
def test_a_second_model_answers_a_spoken_query(demo: Path) -> None:
    report = json.loads((demo / "report.json").read_text())["speech"]
    assert set(report["metrics"]) == {"single"}
    assert report["baselines"] == typed(demo)["baselines"]
    assert report["spec"]["provenances"]["speech"]["backbone"] == "speech-embedding"
    assert "text" not in report["spec"]["provenances"]  # it never sees the text
    asked = report["example"]
    assert "--speech" in asked["command"]
    predictor = Predictor.load(demo / "run-speech", device="cpu")
    assert_answered(asked, predictor.find(asked["video"], speech=asked["speech"], k=1))
    with pytest.raises(
        FeatureError, match="the model was trained on speech queries and cannot be asked text ones"
    ):
        predictor.find(asked["video"], asked["query"])


@speaking
def test_one_model_takes_either_kind(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = demo / "benchmark"
    data = [f"data.{split}={benchmark / f'{split}.json'}" for split in ("train", "val", "test")]
    data += [f"data.video_features={benchmark / 'videos'}", f"data.speech_features={benchmark / 'speech'}"]
    data += ["data.query_kinds=[text,speech]", f"model.query_dim={512 + 1152}", "train.max_queries=3"]
    sets = [word for override in (*data, *SMALL) for word in ("--set", override)]
    run = str(tmp_path / "both")
    assert main(["train", "--recipe", "demo", "--cpu", "--out", run, *sets]) == 0
    assert main(["evaluate", "--checkpoint", run, "--protocol", "single"]) == 0
    table = capsys.readouterr().out
    assert "model, text, single" in table
    assert "model, speech, single" in table
    kinds = [
        json.loads((tmp_path / "both" / "test" / kind / "report.json").read_text())["query_kind"]
        for kind in ("text", "speech")
    ]
    assert kinds == ["text", "speech"]
    asked = json.loads((demo / "report.json").read_text())["speech"]["example"]
    predictor = Predictor.load(run, device="cpu")
    video = predictor.encode_video(asked["video"])
    by_text, by_ear = (
        predictor.find(video, asked["query"], k=1),
        predictor.find(video, speech=asked["speech"], k=1),
    )
    assert by_text[0].score != by_ear[0].score


def test_run_again_trains_nothing(demo: Path) -> None:
    before = (demo / "run" / "run.json").stat().st_mtime_ns
    run_demo(demo, 3, SMALL)
    assert (demo / "run" / "run.json").stat().st_mtime_ns == before


def test_other_folders_are_left_alone(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds the demo of another seed"):
        run_demo(demo, 4)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="already exists and is not empty"):
        run_demo(tmp_path, 0)


def test_curve_by_hand() -> None:
    assert curve({1: 2.0, 2: 1.0, 3: 0.0}) == "0.0,0.0 320.0,100.0 640.0,200.0"
    assert curve({1: 50.0}, top=100.0) == "0.0,100.0"
