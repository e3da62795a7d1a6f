"""The command, run in an empty folder, and what its tests need there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.cli import main
from mrnet.config.run import RunConfig
from mrnet.features.cache import FOLDER_VARIABLE
from mrnet.features.registry import make_backbone
from mrnet.media.video import write_video
from mrnet.model.mrnet import MRNet
from mrnet.weights.native import save_checkpoint
from tests.conftest import TINY, as_overrides, merge, spec_of


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def sets(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


class Command:
    """Runs the command in an empty working folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        out, err = self._capsys.readouterr()
        return status, out, err

    def refuses(self, *words: str | Path) -> str:
        """The one line of a refusal, which leaves the folder as it was."""
        before = tree(self.folder)
        status, out, err = self(*words)
        assert (status, out) == (2, ""), err
        assert err.endswith("\n")
        assert len(err.splitlines()) == 1, err
        assert err.startswith("mrnet")
        assert "Traceback" not in err
        assert tree(self.folder) == before
        return err.removesuffix("\n")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is kept of videos is no file of the person's who runs the tests."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, capsys)


@pytest.fixture
def data_set(dataset_files: dict[str, str]) -> list[str]:
    """``--set`` of the tiny dataset and a model that fits it."""
    quick = {"batch_size": 4, "epochs": 1, "milestones": [], "full_loss_epochs": 1}
    changes = {"name": "demo", "data": dataset_files, "train": quick, "model": {"layers": 1}}
    return as_overrides(merge(TINY, changes))


@pytest.fixture
def checkpoint(tmp_path: Path, tiny: Callable[..., RunConfig]) -> Path:
    """An untrained model of raw videos and text queries."""
    video, text = (
        make_backbone("video", "color-hog-motion").provenance(),
        make_backbone("text", "hashed-words").provenance(),
    )
    config = tiny(model={"video_dim": video.dim, "query_dim": text.dim})
    torch.manual_seed(0)
    spec = spec_of(config, video=video, text=text)
    save_checkpoint(tmp_path / "model", spec, config, MRNet(config.model).state_dict())
    return tmp_path / "model"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four seconds of a brightening picture."""
    write_video(tmp_path / "a.mp4", (np.full((64, 64, 3), 8 * i, np.uint8) for i in range(20)), fps=5)
    return tmp_path / "a.mp4"
