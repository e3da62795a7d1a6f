"""Checkpoint folders of a tiny model, and released checkpoints, made of the cases that hold what the released code
computed."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.errors import MRNetError
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.weights.native import Checkpoint, find_run_config, load_checkpoint, save_checkpoint
from mrnet.weights.released import convert_checkpoint

CASES = Path(__file__).parents[1] / "parity" / "cases"
INDEX: dict[str, Any] = json.loads((CASES / "index.json").read_text(encoding="utf-8"))

Tree = dict[str, Any]
Make = Callable[..., RunConfig]


def nested(tree: Tree) -> Tree:
    """Dotted keys as the released YAML has them, one level each."""
    whole: Tree = {}
    for key, value in tree.items():
        node = whole
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = nested(value) if isinstance(value, dict) else value
    return whole


def tensors_of(case: str, prefix: str = "") -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in load_file(CASES / f"{case}.safetensors").items()
        if name.startswith(prefix)
    }


def text_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 1
    return text


class Released:
    """A released checkpoint in a folder, to be spoilt and converted."""

    def __init__(self, folder: Path, case: str = "activitynet") -> None:
        self.folder = folder
        self.pth, self.yml, self.out = folder / "best.pth", folder / "config.yml", folder / "converted"
        self.config = nested(copy.deepcopy(INDEX[case]["config"]))
        self.weights = tensors_of(case, "weights.")
        self.write()

    def write(self) -> None:
        self.yml.write_text(yaml.safe_dump(self.config))
        document = {
            "model": self.weights,
            "optimizer": {"state": {0: {"step": 7, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
            "scheduler": {"milestones": {8: 1, 13: 1}, "last_epoch": 3},
            "epoch": 3,
        }
        torch.save(document, self.pth)

    def set(self, key: str, value: Any) -> None:
        *parents, leaf = key.split(".")
        node = self.config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
        self.write()

    def convert(self) -> None:
        convert_checkpoint(self.pth, self.yml, self.out)

    def converted(self) -> tuple[RunConfig, Checkpoint]:
        """What a conversion writes."""
        self.convert()
        return find_run_config(self.out), load_checkpoint(self.out)

    def refusal(self, kind: type[MRNetError]) -> str:
        """The one-line message of a conversion that fails and leaves nothing behind."""
        before = sorted(self.folder.rglob("*"))
        with pytest.raises(kind) as caught:
            self.convert()
        assert sorted(self.folder.rglob("*")) == before
        return text_of(caught)


@pytest.fixture
def released(tmp_path: Path) -> Released:
    return Released(tmp_path)


@pytest.fixture
def config(tiny: Make) -> RunConfig:
    return tiny(train={"seed": 7})


@pytest.fixture
def spec(config: RunConfig) -> ModelSpec:
    provenance = Provenance(backbone="random", dim=6, rows_per_s=1.0, details={"seed": "0"})
    return ModelSpec(
        name=config.name,
        model=config.model,
        decode=config.decode,
        query_widths={"text": 2, "speech": 3},
        provenances={"video": provenance},
    )


@pytest.fixture
def weights(config: RunConfig) -> dict[str, Tensor]:
    torch.manual_seed(5)
    return MRNet(config.model).state_dict()


@pytest.fixture
def saved(tmp_path: Path, spec: ModelSpec, config: RunConfig, weights: dict[str, Tensor]) -> Path:
    folder = tmp_path / "saved"
    save_checkpoint(folder, spec, config, weights)
    return folder
