"""Masks of a run: the start that training had, what it learnt, and the colours of both."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from draw_masks import LayerMasks, draw, masks_of_run
from mrnet.config.run import RunConfig
from mrnet.errors import CheckpointError
from mrnet.training.loop import train

Make = Callable[..., RunConfig]


def test_the_start_is_that_of_the_run(tiny: Make, dataset_files: dict[str, str], tmp_path: Path) -> None:
    """A training that moves no weight leaves its masks as they were."""
    config = tiny(data=dataset_files, train={"epochs": 1, "lr": 1e-12, "weight_decay": 0.0})
    train(config, tmp_path / "run", cpu=True)
    layers = masks_of_run(tmp_path / "run")
    assert len(layers) == config.model.layers
    for masks in layers:
        assert masks.likeness == pytest.approx(1.0)
        np.testing.assert_allclose(masks.first, masks.learnt, atol=1e-6)
        assert masks.means()[0] == pytest.approx(0.5, abs=0.1)
        decay = masks.used[0] / (masks.learnt + np.eye(len(masks.learnt)))[0]
        assert decay[2] / decay[1] == pytest.approx(config.model.gamma, rel=1e-4)


def test_colours() -> None:
    first, learnt = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    first[0, 1], learnt[1, 0] = 1.0, 1.0
    learnt[2, 3] = first[2, 3] = 0.6
    picture = draw([LayerMasks(first, learnt, learnt)])
    quarter, tops = 40, 30

    def at(column: int, row: int, cell: int) -> tuple[int, ...]:
        pixel = picture.getpixel((70 + column * 184 + cell * quarter + 20, tops + row * quarter + 20))
        assert isinstance(pixel, tuple)
        return pixel

    assert (at(0, 0, 1), at(1, 0, 1), at(2, 0, 1)) == ((0, 0, 0), (255, 255, 255), (0, 0, 255))
    assert (at(0, 1, 0), at(1, 1, 0), at(2, 1, 0)) == ((255, 255, 255), (0, 0, 0), (255, 0, 0))
    assert (at(0, 2, 3), at(2, 2, 3), at(3, 2, 3)) == ((102, 102, 102), (255, 255, 255), (102, 102, 102))


def test_a_run_without_sparse_masks_is_refused(tiny: Make, dataset_files: dict[str, str], tmp_path: Path) -> None:
    config = tiny(data=dataset_files, model={"mask": "decay"}, train={"epochs": 1})
    train(config, tmp_path / "run", cpu=True)
    with pytest.raises(CheckpointError, match="has no sparse mask"):
        masks_of_run(tmp_path / "run")
