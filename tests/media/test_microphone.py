"""Recording a query, from a microphone that the test plays."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mrnet.errors import AudioError, ConfigError, MRNetError
from mrnet.media import microphone
from mrnet.media.audio import SAMPLE_RATE, read_audio
from mrnet.media.microphone import record


class PortAudioError(Exception):
    """As the library has one."""


class Microphone:
    """Stands for the module ``sounddevice``: hears a tone from 1 s on, for so many seconds, as loud as told."""

    PortAudioError = PortAudioError

    def __init__(self, loud: float = 0.3, lasts_s: float = 2.0, rate: int = 44_100) -> None:
        self.rate = rate
        times_s = np.arange(20 * rate) / rate
        heard = (times_s >= 1) & (times_s < 1 + lasts_s)
        self.samples = (loud * np.sin(2 * np.pi * 300 * times_s) * heard).astype(np.float32)
        self.given = 0
        self.is_open = False
        self.settings: dict[str, object] = {}

    def query_devices(self, kind: str) -> dict[str, float]:
        assert kind == "input"
        return {"default_samplerate": float(self.rate)}

    def InputStream(self, **settings: object) -> "Microphone":
        self.settings = settings
        return self

    def __enter__(self) -> "Microphone":
        self.is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False

    def read(self, count: int) -> tuple[np.ndarray, bool]:
        assert self.is_open
        self.given += count
        return self.samples[self.given - count : self.given, None], False


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    return lambda module: monkeypatch.setitem(sys.modules, "sounddevice", module)


@pytest.mark.parametrize("rate", [44_100, 16_000])
def test_it_ends_when_nobody_speaks_any_more(rate: int, plugged: Callable[[object], None], tmp_path: Path) -> None:
    plugged(played := Microphone(rate=rate))
    out = io.StringIO()
    record(tmp_path / "q.wav", out)
    samples = read_audio(tmp_path / "q.wav")
    assert len(samples) == pytest.approx(
        5 * SAMPLE_RATE, abs=200
    )  # a second of nothing, two of a tone, two of nothing
    loud = np.flatnonzero(abs(samples) > 0.1) / SAMPLE_RATE
    assert (loud.min(), loud.max()) == (pytest.approx(1, abs=0.01), pytest.approx(3, abs=0.01))
    assert abs(samples).max() == pytest.approx(0.3, abs=0.01)
    assert played.settings == {"samplerate": rate, "channels": 1, "dtype": "float32"}
    assert not played.is_open
    assert out.getvalue() == "recording: speak, then press Enter; ends when you stop, or after 15 s\n"


@pytest.mark.parametrize(("loud", "lasts_s"), [(0.3, 30.0), (0.01, 2.0)])
def test_it_ends_after_15_seconds(
    loud: float, lasts_s: float, plugged: Callable[[object], None], tmp_path: Path
) -> None:
    plugged(Microphone(loud, lasts_s))
    record(tmp_path / "q.wav", io.StringIO())
    assert len(read_audio(tmp_path / "q.wav")) == pytest.approx(15 * SAMPLE_RATE, abs=200)


def test_it_ends_with_enter_and_shows_how_loud_it_is(
    plugged: Callable[[object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged(played := Microphone(lasts_s=30.0))
    monkeypatch.setattr(microphone, "_entered", lambda: played.given >= 1.55 * played.rate)
    out = Terminal()
    record(tmp_path / "q.wav", out)
    assert len(read_audio(tmp_path / "q.wav")) == pytest.approx(1.6 * SAMPLE_RATE, abs=200)
    bars = out.getvalue().partition("\n")[2].strip("\r\n").split("\r")
    assert bars[0] == " 0.1 s  [                    ]"
    assert bars[-1] == " 1.6 s  [#################   ]"
    assert len(bars) == 16
    assert out.getvalue().endswith("]\n")


def test_enter_is_seen_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert not microphone._entered()
    monkeypatch.setattr(sys, "stdin", None)
    assert not microphone._entered()


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal is another thing there")
def test_enter_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import pty

    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert not microphone._entered()
        os.write(ours, b"\n")
        assert microphone._entered()
        assert not microphone._entered()
    os.close(ours)


def test_ctrl_c_leaves_nothing(plugged: Callable[[object], None], tmp_path: Path) -> None:
    class Interrupted(Microphone):
        def read(self, count: int) -> tuple[np.ndarray, bool]:
            if self.given > self.rate:
                raise KeyboardInterrupt
            return super().read(count)

    plugged(played := Interrupted())
    out = Terminal()
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "q.wav", out)
    assert list(tmp_path.iterdir()) == []
    assert not played.is_open
    assert out.getvalue().endswith("]\n")  # what comes next has a line of its own


def refusal(kind: type[MRNetError], folder: Path) -> str:
    with pytest.raises(kind) as caught:
        record(folder / "q.wav", io.StringIO())
    assert list(folder.iterdir()) == []
    return str(caught.value)


def test_without_the_library(plugged: Callable[[object], None], tmp_path: Path) -> None:
    plugged(None)
    assert refusal(ConfigError, tmp_path) == (
        "recording needs sounddevice, which is not installed: pip install 'mrnet[microphone]'"
    )


def test_without_portaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    (tmp_path / "empty").mkdir()
    assert refusal(ConfigError, tmp_path / "empty") == (
        "recording needs PortAudio, which is not installed: on Debian, apt install libportaudio2"
    )


def test_without_a_microphone(plugged: Callable[[object], None], tmp_path: Path) -> None:
    def query_devices(kind: str) -> dict[str, float]:
        raise PortAudioError(f"Error querying {kind} device -1")

    plugged(SimpleNamespace(PortAudioError=PortAudioError, query_devices=query_devices))
    assert refusal(AudioError, tmp_path) == (
        "no microphone can be recorded from (Error querying input device -1): connect one, or give --speech FILE"
    )


def test_a_microphone_that_is_pulled_out(plugged: Callable[[object], None], tmp_path: Path) -> None:
    class Pulled(Microphone):
        def read(self, count: int) -> tuple[np.ndarray, bool]:
            if self.given > self.rate:
                raise PortAudioError("Unanticipated host error")
            return super().read(count)

    plugged(Pulled())
    assert refusal(AudioError, tmp_path).startswith(
        "no microphone can be recorded from (Unanticipated host error): "
    )
