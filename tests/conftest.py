"""What many tests need: a tiny model, a tiny dataset, and the shared reference files where they are."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnet.config.model import ModelConfig
from mrnet.config.parse import parse_config
from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.features.store.writer import write_store
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.weights.native import save_checkpoint

# Of two workers on two cores each takes one, and so does what it starts: threads that wait for one another spin.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "video_dim": 6,
        "query_dim": 5,
        "num_pre_clips": 16,
        "num_clips": 8,
        "pool_kernel": 2,
        "clip_hidden": 12,
        "clip_dropout": 0.0,
        "dim": 8,
        "layers": 2,
        "heads": 2,
        "ffn_dim": 16,
        "dropout": 0.0,
        "pooling_counts": [3, 2],
        "head_hidden": 8,
        "head_kernel": 3,
        "head_layers": 2,
    },
    "train": {"lr": 0.01, "batch_size": 3, "epochs": 3, "milestones": [2], "full_loss_epochs": 2},
}


def merge(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for key, value in changes.items():
        merged[key] = merge(tree.get(key, {}), value) if isinstance(value, dict) else value
    return merged


@pytest.fixture
def tiny() -> Callable[..., RunConfig]:
    """A tiny configuration with changes, ``tiny(model={"layers": 1})``."""

    def make(**changes: Any) -> RunConfig:
        return parse_config(merge(TINY, changes), source="tiny")

    return make


def spec_of(config: RunConfig, **provenances: Provenance) -> ModelSpec:
    """What a checkpoint of a text model trained with a configuration says."""
    return ModelSpec(
        name=config.name,
        model=config.model,
        decode=config.decode,
        query_widths={"text": config.model.query_dim},
        provenances=dict(provenances),  # type: ignore[arg-type]
    )


def save_untrained(folder: Path, config: RunConfig, spec: ModelSpec) -> Path:
    """A checkpoint of the weights that a model begins with."""
    torch.manual_seed(0)
    save_checkpoint(folder, spec, config, MRNet(spec.model).state_dict())
    return folder


def as_overrides(tree: dict[str, Any], prefix: str = "") -> list[str]:
    """A tree of fields as ``--set`` takes it."""
    found: list[str] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += as_overrides(value, f"{prefix}{key}.")
        else:
            found += ["--set", f"{prefix}{key}={json.dumps(value)}"]
    return found


@pytest.fixture
def tiny_model() -> Callable[..., ModelConfig]:
    def make(**changes: Any) -> ModelConfig:
        return parse_config(merge(TINY, {"model": changes}), source="tiny").model

    return make


@pytest.fixture
def dataset_files(tmp_path: Path) -> dict[str, str]:
    """Annotations and features of a tiny random dataset, as overrides of ``data``."""
    rng = np.random.default_rng(0)
    videos = {f"v{i}": rng.standard_normal((int(rng.integers(5, 30)), 6)).astype(np.float32) for i in range(10)}
    write_store(tmp_path / "videos.h5", videos.items(), Provenance(backbone="random", dim=6, rows_per_s=1.0))
    queries = {}
    for split, names in {"train": list(videos)[:7], "val": list(videos)[7:]}.items():
        tree = {}
        for name in names:
            duration = float(len(videos[name]))
            count = int(rng.integers(1, 4))
            starts = rng.uniform(0, duration * 0.6, count)
            spans = [[float(s), float(min(duration, s + duration * 0.3))] for s in starts]
            tree[name] = {
                "duration": duration,
                "timestamps": spans,
                "sentences": [f"sentence {i} of {name}" for i in range(count)],
            }
            queries.update({f"{name}#{i}": rng.standard_normal((1, 5)) for i in range(count)})
        (tmp_path / f"{split}.json").write_text(json.dumps(tree))
    write_store(tmp_path / "queries.h5", queries.items(), Provenance(backbone="random", dim=5))
    return {
        "train": str(tmp_path / "train.json"),
        "val": str(tmp_path / "val.json"),
        "test": str(tmp_path / "val.json"),
        "video_features": str(tmp_path / "videos.h5"),
        "text_features": str(tmp_path / "queries.h5"),
    }


@pytest.fixture
def batch_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three videos with 2, 1 and 3 queries: features, queries, mask."""
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(3, 16, 6, generator=generator)
    queries = torch.randn(3, 3, 5, generator=generator)
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    return video, queries, mask


@pytest.fixture
def samples() -> Callable[..., np.ndarray]:
    """``samples(seconds, seed)``: noise of varying loudness, at 16 kHz."""

    def make(seconds: float, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        count = round(seconds * 16_000)
        loudness = 0.1 + 0.05 * np.sin(np.arange(count) / 3000)
        return (rng.standard_normal(count) * loudness).clip(-1, 1).astype(np.float32)

    return make
