"""Agreement with numbers printed by the released implementation."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import parity
from checks import Check, scaled_error

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).parent / "cases"
SHARED = ROOT.parent / "shared" / "parity"


@pytest.mark.parametrize("route", ["dense", "tiled", "auto"])
def test_cases_in_the_repository(route: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(CASES), "--route", route]) == 0
    out = capsys.readouterr().out
    for name in ("activitynet", "tacos", "charades_released", "resample.0", "iou_map.0", "valid_mask"):
        assert name in out
    assert "0 above their limit" in out


@pytest.mark.skipif(not SHARED.is_dir(), reason="the whole set of parity cases (shared/parity) is not here")
@pytest.mark.parametrize("route", ["dense", "tiled"])
def test_all_shared_cases(route: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(SHARED), "--route", route]) == 0
    out = capsys.readouterr().out
    assert "qvhighlights" in out
    for trace in (SHARED / "trajectories" / "traces").iterdir():
        assert f"{trace.name}: " in out


def test_a_wrong_weight_is_noticed(tmp_path: Path) -> None:
    tensors = load_file(CASES / "tacos.safetensors")
    tensors["weights.featpool.conv.bias"] += 0.01
    save_file(tensors, tmp_path / "tacos.safetensors")
    index = json.loads((CASES / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({"tacos": index["tacos"]}))
    assert parity.main([str(tmp_path)]) == 1


def test_a_wrong_gradient_is_noticed(tmp_path: Path) -> None:
    tensors = load_file(CASES / "tacos.safetensors")
    tensors["grad.featpool.conv.weight"] *= 1.01
    save_file(tensors, tmp_path / "tacos.safetensors")
    shutil.copy(CASES / "index.json", tmp_path)
    assert parity.main([str(tmp_path)]) == 1


def test_nan_fails() -> None:
    error = scaled_error(torch.tensor([float("nan")]), torch.tensor([1.0]))
    assert not Check("case", "quantity", error, 1.0).ok


def test_folders_without_cases_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(tmp_path)]) == 2
    assert parity.main([str(tmp_path / "nowhere")]) == 2
    (tmp_path / "index.json").write_text("{")
    assert parity.main([str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("parity: error: ") for line in lines)


def test_evaluation_case_without_its_scores_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(CASES / "data.safetensors", tmp_path)
    (tmp_path / "evaluation_x.json").write_text("{}")
    assert parity.main([str(tmp_path)]) == 0
    assert "evaluation_x: skipped, evaluation_x.safetensors is not there" in capsys.readouterr().out
