"""Every measurement runs, on tiny sizes, and says what it should."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import data, load, model
from benchmarks.__main__ import main
from benchmarks.features import write_benchmark_video
from benchmarks.library import _make_video
from benchmarks.timing import in_turn, relative_distance, relative_error, table
from mrnet.config.recipes import load_recipe, recipe_names
from mrnet.config.run import RunConfig
from mrnet.media.video import probe, write_video
from mrnet.model.head import ProposalHead

BY_RECIPE = {
    "proposal-head": {"dense_seconds", "fast_seconds", "speedup", "max_relative_error", "memory_mb"},
    "predict": {"dense_seconds", "fast_seconds", "speedup", "max_relative_error"},
    "train-step": {
        "dense_forward_seconds", "fast_forward_seconds", "forward_speedup", "dense_backward_seconds",
        "fast_backward_seconds", "backward_speedup", "max_relative_error", "max_relative_distance",
        "dense_error_to_double", "fast_error_to_double",
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., RunConfig]) -> None:
    for module in (model, data, load):
        monkeypatch.setattr(module, "load_recipe", lambda _: tiny(train={"batch_size": 2}))
    monkeypatch.setattr(data, "_NUM_QUERIES", 300)


@pytest.mark.parametrize("what", BY_RECIPE)
def test_models(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [what, "--recipe", "tacos", "--repeats", "2", "--device", "cpu", "--json"]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    [row] = document["rows"]
    assert document["bench"] == what
    assert row["recipe"] == "tacos"
    assert BY_RECIPE[what] <= set(row)
    assert row["max_relative_error"] < 1e-4
    seconds = [value for name, value in row.items() if name.endswith("_seconds")]
    assert all(0 < value < 60 for value in seconds)


@pytest.mark.parametrize("what", BY_RECIPE)
def test_models_without_a_contrastive_embedding(
    what: str, tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(model={"contrastive_head": False}, loss={"contrastive_weight": 0.0}, train={"batch_size": 2})
    monkeypatch.setattr(model, "load_recipe", lambda _: config)
    assert main([what, "--recipe", "mrnet-plus", "--repeats", "1", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["max_relative_error"] < 1e-4


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_that_is_offered_has_convolutions_to_time(recipe: str) -> None:
    assert load_recipe(recipe).model.head_layers > 0


def test_a_recipe_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["load", "--recipe", "mrnet-minus"])
    assert caught.value.code == 2
    assert "--recipe: invalid choice: 'mrnet-minus' (choose from" in capsys.readouterr().err


def test_routes_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    convolve = ProposalHead.convolve
    monkeypatch.setattr(
        ProposalHead, "convolve", lambda self, x: convolve(self, x) * (1 + (self.stack.route == "dense"))
    )
    row = model.bench_proposal_head("tacos", 1, torch.device("cpu"), None)
    assert row["max_relative_error"] > 1e-3


def test_gradients_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def step() -> tuple[float, float, float]:
        row = model.bench_train_step("tacos", 1, torch.device("cpu"), None)
        return row["max_relative_error"], row["dense_error_to_double"], row["fast_error_to_double"]

    between, of_dense, of_fast = step()
    assert between < 1e-4
    assert 0 < of_dense < 1e-4
    assert 0 < of_fast < 1e-4
    convolve = ProposalHead.convolve

    def wrong(self: ProposalHead, x: torch.Tensor) -> torch.Tensor:
        return convolve(self, x) + (self.stack.route == "dense" and x.dtype == torch.float32)

    monkeypatch.setattr(ProposalHead, "convolve", wrong)
    between, of_dense, of_fast = step()
    assert between > 1e-2
    assert of_dense > 1e-2
    assert 0 < of_fast < 1e-4


def test_evaluation_and_loading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what in ("evaluate", "batches"):
        assert main([what, "--repeats", "1", "--json", str(tmp_path / "out.json")]) == 0
        [row] = json.loads((tmp_path / "out.json").read_text())["rows"]
        assert row["max_error"] == 0
        assert row["speedup"] > 0
        assert "speedup" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc/stat here")
def test_beside_a_busy_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(load, "SMALL", load.Small(clips=8, counts=(3, 2), width=4, maps=2))
    assert main(["load", "--recipe", "tacos", "demo", "--repeats", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["what"] for row in rows] == [
        "2 small maps, there and back", "tacos, one map", "demo, one map", "demo, 32 maps there and back",
    ]  # fmt: skip
    for row in rows:
        for route in ("dense", "tiled", "auto"):
            assert row[f"{route}_ratio"] == row[f"{route}_busy_s"] / row[f"{route}_quiet_s"] > 0


def test_features_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twelve frames at 4 a second, taken twice to make up six seconds."""
    write_video(tmp_path / "film.mp4", [np.full((48, 64, 3), 20 * k, dtype=np.uint8) for k in range(12)], 4)
    words = ["features", "--video", str(tmp_path / "film.mp4"), "--seconds", "6", "--backbone", "color-hog-motion"]
    assert main([*words, "--repeats", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    stages = ["decode, every frame", "decode, as needed", "encode", f"both, {os.cpu_count()} videos at a time"]
    assert [row["stage"] for row in rows] == stages
    for row in rows:
        assert (row["video"], row["copies"]) == ("film.mp4, 64x48, 4 fps, 3.0 s", 2)
        assert row["x_real_time"] > 0
        of_the_free = os.cpu_count() * 1e3 / row["cpu_ms_per_video_s"]
        assert row["x_real_time_if_cores_were_free"] == pytest.approx(of_the_free, rel=1e-12)


def test_a_simulated_video_has_the_length_asked_for(tmp_path: Path) -> None:
    shows = write_benchmark_video(tmp_path / "video.mp4", 2)
    assert "Big Buck Bunny" in shows or shows == "drifting noise"
    info = probe(tmp_path / "video.mp4")
    assert (info.width, info.height, info.fps) == (1280, 720, 30)
    assert info.duration_s == pytest.approx(2, abs=0.05)


def test_a_video_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "--video", str(tmp_path / "none.mp4"), "--backbone", "color-hog-motion"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmarks: error: ")
    assert "none.mp4" in error
    assert error.count("\n") == 1


def test_the_loop_by_hand() -> None:
    """Five clips of 2 s: the best moment overlaps the second best, which is the truth, by just 0.5."""
    scores = torch.zeros(1, 5, 5)
    for cell, score in {(0, 1): 0.9, (0, 0): 0.5, (1, 1): 0.2, (4, 4): 0.1, (2, 3): 0.05, (2, 4): 0.04}.items():
        scores[0][cell] = score
    moments, metrics = data.evaluate_by_loop(
        scores, torch.tensor([10.0]), torch.tensor([[0.0, 2.0]]), threshold=0.5
    )
    assert moments[0].tolist() == [[0, 4], [0, 2], [2, 4], [8, 10], [4, 8]]
    assert metrics == {
        "R@1,IoU=0.3": 1, "R@1,IoU=0.5": 1, "R@1,IoU=0.7": 0, "R@5,IoU=0.3": 1, "R@5,IoU=0.5": 1, "R@5,IoU=0.7": 1,
        "mIoU": 0.5,
    }  # fmt: skip


def test_ways_take_turns() -> None:
    calls: list[str] = []
    times = in_turn(2, lambda: calls.append("a"), lambda: calls.append("b"))
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert len(times) == 2
    found, expected = torch.tensor([1.0, -3.0]), torch.tensor([1.0, -4.0])
    assert relative_error(found, expected) == 0.25
    assert relative_distance(found, expected) == pytest.approx(17**-0.5)


def test_table() -> None:
    rows: list[dict[str, Any]] = [{"recipe": "x", "seconds": 12.345, "error": 2e-7, "none": None, "n": 3}]
    assert table(rows).splitlines() == ["recipe  seconds    error  none  n", "     x     12.3  2.0e-07     -  3"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "invalid choice: 'nothing'"),
        (["predict", "--recipe", "nothing"], "invalid choice: 'nothing'"),
        (["predict", "--memory-budget", "much"], "'much' is no size in KB, MB or GB, e.g. 500MB"),
        (["predict", "--repeats", "0"], "0 is not at least 1"),
    ],
)
def test_bad_arguments(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--device", "abacus"]) == 2
    assert "device 'abacus' cannot be used here" in capsys.readouterr().err


def test_sizes() -> None:
    from mrnet.cli.common import memory_size

    assert [memory_size(text) for text in ("500MB", "2GB", "1.5 GiB", "64k")] == [
        500 * 2**20, 2 * 2**30, 3 * 2**29, 64 * 2**10,
    ]  # fmt: skip


def test_library(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MRNET_CACHE", str(tmp_path))
    assert main(["library", "--counts", "1", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["videos"] for row in rows] == ["1 MADE, 4 s", "2 MADE, 4 s"]
    for row in rows:
        assert row["same_best_as_all"] == 1.0
        assert 0 < row["disk_mb"] < 10
        assert all(0 < value < 60 for name, value in row.items() if "seconds" in name)


def test_recall(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MRNET_CACHE", str(tmp_path / "cache"))
    for number in range(2):
        _make_video(tmp_path / f"v{number}.mp4", number)
    row = {"video": "v0.mp4", "start": 0.0, "end": 2.0, "query": "a dog", "duration": 4.0}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["recall", str(tmp_path), "--annotations", str(tmp_path / "a.jsonl"), "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)["rows"]
    assert (found["videos"], found["queries"]) == (2, 1)
    assert found["first_is_among_5_of_every"] == found["kept_where_4_are_asked"] == 1.0
    assert found["best_of_every_is_first"] in (0.0, 1.0)  # noise holds no dog, and one guess is all that there is


def test_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vectors", "--counts", "600", "1500", "--json"]) == 0
    first, last = json.loads(capsys.readouterr().out)["rows"]
    assert (first["rows"], first["index_ms"]) == ("600 SIMULATED", None)
    assert 0 < last["index_ms"] < 1000
    assert last["same_best"] == 1.0  # of its ten parts all are looked at
    assert last["same_videos"] == 1.0
