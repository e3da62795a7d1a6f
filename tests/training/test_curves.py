"""Curves as TensorBoard itself reads them."""

import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrnet.training.curves import Curves


def read(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars(name)]


def test_a_resumed_run_takes_the_place_of_what_was_stopped(tmp_path: Path) -> None:
    first = Curves(tmp_path / "curves", 1)
    for epoch, value in enumerate((4.0, 3.0, 2.5), start=1):
        first.add(epoch, {"loss/total": value, "lr": 0.5})
    assert read(tmp_path / "curves", "loss/total") == [(1, 4.0), (2, 3.0), (3, 2.5)]  # before it is closed, too
    first.close()
    second = Curves(tmp_path / "curves", 3)
    second.add(3, {"loss/total": 2.0})
    second.close()
    assert read(tmp_path / "curves", "loss/total") == [(1, 4.0), (2, 3.0), (3, 2.0)]


def test_no_thread_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python waits for ever for one that has no memory to begin in."""
    monkeypatch.setattr(threading.Thread, "start", None)
    curves = Curves(tmp_path / "curves", 1)
    curves.add(1, {"lr": 0.25})
    curves.close()
    monkeypatch.undo()
    assert read(tmp_path / "curves", "lr") == [(1, 0.25)]
