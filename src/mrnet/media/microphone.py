"""Record a spoken query."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import av
import numpy as np

from mrnet.errors import AudioError, ConfigError
from mrnet.media.audio import SAMPLE_RATE, Samples, write_audio

LONGEST_S = 15.0
"""No query is longer."""

# How often to look for Enter, and to show how loud it is.
_BLOCK_S = 0.1
# Peak from which on somebody speaks, and for how long nobody does when the query has ended.
_LOUD, _PAUSE_S = 0.02, 2.0
_METER, _METER_FLOOR_DB = 20, 60.0


def record(path: Path, said_on: TextIO | None = None) -> None:
    """Record from the microphone that the system has chosen, as 16 kHz mono WAV.

    It ends with Enter, with two seconds in which nobody speaks after somebody has, or after 15 s.

    Args:
        path: the file to write.
        said_on: where to show that it records, and how loud; standard error if left out.

    Raises:
        ConfigError: the library that records is not installed.
        AudioError: no microphone was found, or it gives no sound.
        OutputError: the file cannot be written.
    """
    sound = _sounddevice()
    out = sys.stderr if said_on is None else said_on
    blocks: list[Samples] = []
    try:
        rate = round(sound.query_devices(kind="input")["default_samplerate"])
        with sound.InputStream(samplerate=rate, channels=1, dtype="float32") as stream:
            print(f"recording: speak, then press Enter; ends when you stop, or after {LONGEST_S:.0f} s", file=out)
            for block in _blocks(stream, rate):
                blocks.append(block)
                _show(out, block, len(blocks))
    except (sound.PortAudioError, ValueError) as error:
        raise AudioError(
            f"no microphone can be recorded from ({error}): connect one, or give --speech FILE"
        ) from None
    finally:
        if blocks and out.isatty():
            print(file=out)
    write_audio(path, _resampled(np.concatenate(blocks), rate))


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise ConfigError(
            "recording needs sounddevice, which is not installed: pip install 'mrnet[microphone]'"
        ) from None
    except OSError:  # its wheel brings PortAudio for macOS and Windows alone
        raise ConfigError(
            "recording needs PortAudio, which is not installed: on Debian, apt install libportaudio2"
        ) from None
    return sounddevice


def _blocks(stream: Any, rate: int) -> Iterator[Samples]:
    """``(n,)`` samples at a time, to the end of the query."""
    quiet_s = -math.inf  # until somebody speaks
    for _ in range(round(LONGEST_S / _BLOCK_S)):
        samples, _overflowed = stream.read(round(rate * _BLOCK_S))
        block: Samples = samples[:, 0].copy()
        yield block
        quiet_s = 0.0 if abs(block).max() >= _LOUD else quiet_s + _BLOCK_S
        if quiet_s >= _PAUSE_S - _BLOCK_S / 2 or _entered():
            return


def _entered() -> bool:
    """Whether somebody has pressed Enter; where nobody can, never."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.kbhit() and msvcrt.getwch() in "\r\n"
    import select

    pressed = bool(select.select([sys.stdin], [], [], 0)[0])
    if pressed:
        sys.stdin.readline()
    return pressed


def _show(out: TextIO, block: Samples, count: int) -> None:
    """On a terminal, a bar as long as it is loud, from -60 dB."""
    if out.isatty():
        loud_db = 20 * math.log10(max(float(abs(block).max()), 1e-9))
        bar = "#" * round(_METER * min(max(loud_db / _METER_FLOOR_DB + 1, 0.0), 1.0))
        print(f"\r{count * _BLOCK_S:4.1f} s  [{bar:<{_METER}}]", end="", file=out, flush=True)


def _resampled(samples: Samples, rate: int) -> Samples:
    if rate == SAMPLE_RATE:
        return samples
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])
