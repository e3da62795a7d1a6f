"""Lines where there is no terminal, and what they say."""

import logging
import time

import pytest

from mrnet import progress
from mrnet.progress import Progress, track


def test_line_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counted = Progress(480, "training", "step", quiet=True)
    assert counted.line() == "training: 0 of 480 steps, 0 steps/s, ? left"
    now[0] += 48
    for _ in range(120):
        counted.update(epoch=3, loss="0.512")
    assert counted.line() == "training: 120 of 480 steps, 2.5 steps/s, 0:02:24 left, epoch 3, loss 0.512"
    now[0] += 552
    assert counted.line() == "training: 120 of 480 steps, 5 s a step, 0:30:00 left, epoch 3, loss 0.512"


def test_a_line_is_logged_while_one_item_takes_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    caplog.set_level(logging.INFO, logger="mrnet")

    def slow() -> None:
        deadline = time.monotonic() + 10
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)

    items = track(["a", "b"], 2, "predicting", "video")
    assert next(items) == "a"
    slow()
    assert caplog.messages[0].startswith("predicting: 0 of 2 videos, 0 videos/s, ? left")
    assert list(items) == ["b"]
    count = len(caplog.messages)
    time.sleep(0.05)
    assert len(caplog.messages) == count  # it has ended


def test_quiet_logs_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    caplog.set_level(logging.INFO, logger="mrnet")
    with Progress(1, "training", "step", quiet=True) as counted:
        time.sleep(0.05)
        counted.update()
    assert not caplog.messages
