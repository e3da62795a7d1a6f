"""Lines where there is no terminal, and what they say."""

import io
import logging
import threading
import time

import pytest

from mrnet.progress import Progress, track


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says, in seconds."""
    time_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: time_s[0])
    return time_s


def test_line_by_hand(now: list[float]) -> None:
    counted = Progress(480, "training", "step", quiet=True)
    assert counted.line() == "training: 0 of 480 steps, 0 steps/s, ? left"
    now[0] += 48
    for _ in range(120):
        counted.update(epoch=3, loss="0.512")
    assert counted.line() == "training: 120 of 480 steps, 2.5 steps/s, 0:02:24 left, epoch 3, loss 0.512"
    now[0] += 552
    assert counted.line() == "training: 120 of 480 steps, 5 s a step, 0:30:00 left, epoch 3, loss 0.512"


def test_a_line_is_logged_when_half_a_minute_has_passed(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mrnet")
    for _ in track(range(7), 7, "predicting", "video"):
        now[0] += 12
    assert caplog.messages == [
        "predicting: 3 of 7 videos, 12 s a video, 0:00:48 left",
        "predicting: 6 of 7 videos, 12 s a video, 0:00:12 left",
    ]


def test_quiet_logs_nothing(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with Progress(1, "training", "step", quiet=True) as counted:
        now[0] += 100
        counted.update()
    assert not caplog.messages


def test_no_thread_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python waits for ever for one that has no memory to begin in."""
    monkeypatch.setattr(threading.Thread, "start", None)
    assert list(track("abc", 3, "predicting", "video")) == ["a", "b", "c"]


def test_what_is_reached_of_what_only_the_work_knows(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mrnet")
    with Progress(None, "encoding", "second") as progress:
        now[0] += 100  # nothing is known yet
        progress.reach(0, 0)
        progress.reach(0.0, 7199.6)
        now[0] += 20
        progress.reach(240.3, 7199.6)
        now[0] += 20
        progress.reach(480.4, 7199.6)
    assert caplog.messages == ["encoding: 480 of 7200 seconds, 12 seconds/s, 0:09:20 left"]


def test_a_terminal_shows_a_bar_until_all_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    caplog.set_level(logging.INFO, logger="mrnet")
    progress = Progress(None, "encoding", "second")
    assert not terminal.getvalue()
    progress.reach(0, 8)
    assert "encoding:   0%" in terminal.getvalue()
    assert "0/8" in terminal.getvalue()
    progress.reach(8, 8)
    shown = terminal.getvalue()
    assert not shown.rpartition("\r")[0].rpartition("\r")[2].strip()  # wiped
    progress.reach(8, 8)
    assert terminal.getvalue() == shown
    assert not caplog.messages
