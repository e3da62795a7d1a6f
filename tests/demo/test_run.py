"""The demo from end to end, in small: fewer videos, one epoch."""

import json
import re
from pathlib import Path

import pytest

from mrnet.demo.benchmark import render_benchmark
from mrnet.demo.report import curve
from mrnet.demo.run import run_demo
from mrnet.errors import CheckpointError
from mrnet.predictor import Predictor

SMALL = ["train.epochs=1", "train.milestones=[]", "model.layers=1", "model.head_layers=2"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    out.mkdir()
    (out / "demo.json").write_text('{"demo": 1, "seed": 3}\n')
    render_benchmark(out / "benchmark", 3, train=4, val=2, test=2, workers=1)
    summary = run_demo(out, 3, SMALL)
    assert "SYNTHETIC" in summary
    assert "MRNet, single" in summary
    assert f"--checkpoint {out / 'run'}" in summary
    return out


def test_report_json(demo: Path) -> None:
    report = json.loads((demo / "report.json").read_text())
    assert set(report["metrics"]) == {"single", "joint"}
    assert set(report["baselines"]) == {"constant", "rank_only"}
    for table in (*report["metrics"].values(), *report["baselines"].values()):
        assert {"R@1,IoU=0.5", "R@5,IoU=0.5", "mIoU"} <= set(table)
        assert all(0 <= value <= 100 for value in table.values())
    for name, (low, high) in report["intervals_95"]["single"].items():
        assert low <= report["metrics"]["single"][name] + 1e-6
        assert report["metrics"]["single"][name] <= high + 1e-6
    assert report["synthetic"].startswith("SYNTHETIC")
    assert report["videos"] == 2
    assert report["config"]["train"]["epochs"] == 1


def test_report_html_is_one_file_with_pictures(demo: Path) -> None:
    page = (demo / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 20  # ten of each test video
    assert "SYNTHETIC: rendered videos" in page
    assert "<polyline" in page
    assert "http" not in page  # nothing is fetched
    report = json.loads((demo / "report.json").read_text())
    assert f"{report['metrics']['single']['mIoU']:.1f}" in page


def test_checkpoint_answers_a_typed_query(demo: Path) -> None:
    report = json.loads((demo / "report.json").read_text())
    asked = report["typed_query"]
    (moment,) = Predictor.load(demo / "run", device="cpu").find(asked["video"], asked["query"], k=1)
    assert moment._asdict() == pytest.approx(asked["answer"])


def test_python_of_the_readme_runs(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    exec(code.replace("mrnet-demo", str(demo)), {})
    first = [float(number) for number in capsys.readouterr().out.splitlines()[0].split()]
    assert 0 <= first[0] < first[1]


def test_run_again_trains_nothing(demo: Path) -> None:
    before = (demo / "run" / "run.json").stat().st_mtime_ns
    run_demo(demo, 3, SMALL)
    assert (demo / "run" / "run.json").stat().st_mtime_ns == before


def test_other_folders_are_left_alone(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds the demo of another seed"):
        run_demo(demo, 4)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CheckpointError, match="already exists and is no demo"):
        run_demo(tmp_path, 0)


def test_curve_by_hand() -> None:
    assert curve([2.0, 1.0, 0.0]) == "0.0,0.0 320.0,100.0 640.0,200.0"
    assert curve([50.0], top=100.0) == "0.0,100.0"
