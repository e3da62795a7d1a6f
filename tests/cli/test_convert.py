"""``mrnet convert``"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.conftest import Command


class TestConvert:
    CASE = "activitynet"

    def released(self, folder: Path) -> tuple[Path, Path]:
        cases = Path(__file__).resolve().parents[1] / "parity" / "cases"
        weights = {
            name.removeprefix("weights."): tensor
            for name, tensor in load_file(cases / f"{self.CASE}.safetensors").items()
            if name.startswith("weights.")
        }
        torch.save({"model": weights, "epoch": 1}, folder / "a.pth")
        index = json.loads((cases / "index.json").read_text())
        (folder / "a.yml").write_text(json.dumps(index[self.CASE]["config"]))  # JSON is YAML
        return folder / "a.pth", folder / "a.yml"

    def test_converts(self, command: Command) -> None:
        pth, yml = self.released(command.folder)
        assert command("convert", pth, "--config", yml, "--out", "native") == (0, "native\n", "")
        assert sorted(path.name for path in Path("native").iterdir()) == [
            "model.safetensors", "mrnet.json", "recipe.yaml",
        ]  # fmt: skip
        line = command.refuses("convert", pth, "--config", yml, "--out", "native")
        assert line == "mrnet: error: native already exists and is not empty: choose another place or remove it"

    def test_out_is_here(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        pth, yml = self.released(command.folder)
        here = command.folder / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        status, _, err = command("convert", pth, "--config", yml, "--out", ".")
        assert status in (0, 2)
        assert "Traceback" not in err

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            ("no pth", "a.pth: No such file or directory: give a released .pth file"),
            ("no yml", "a.yml: No such file or directory: give the released config.yml with --config"),
            ("cut pth", "a.pth is damaged or not a PyTorch file ("),
            ("pth folder", "a.pth: Is a directory: give a released .pth file"),
            ("yml folder", "a.yml: Is a directory: give the released config.yml with --config"),
            (
                "not yaml",
                "a.yml is not YAML (expected ',' or ']', but got '<stream end>', line 1): give the released config.yml",
            ),
        ],
    )
    def test_refuses(self, command: Command, spoil: str, message: str) -> None:
        pth, yml = self.released(command.folder)
        path = pth if "pth" in spoil else yml
        if spoil == "cut pth":
            path.write_bytes(path.read_bytes()[:1000])
        elif spoil == "not yaml":
            path.write_text("a: [1")
        else:
            path.unlink()
            if "folder" in spoil:
                path.mkdir()
        line = command.refuses("convert", "a.pth", "--config", "a.yml", "--out", "native")
        assert line.startswith(f"mrnet: error: {message}")
