"""Decode sound files, and soundtracks of videos, to what speech encoders hear: 16 kHz mono."""

import math
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer

from mrnet.errors import AudioError
from mrnet.files import replacing
from mrnet.media.container import open_media, stated_duration

Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000

_SILENT_PEAK = 1e-4
# Speech encoders need a few hundredths of a second; no word is shorter than this.
_SHORTEST_S = 0.1
# A stream may fall short of its stated length by this much before it counts as cut off.
_SHORTFALL_S = 1.0
_SHORTFALL_FRACTION = 0.1
# Bare streams without a header: FFmpeg guesses their length from the first frames, and may be far out.
_LENGTH_GUESSED = ("aac", "mp3")
# What programs that write WAV to a pipe give as its size, not knowing it, is at least this.
_SIZE_UNKNOWN = 0x7FFFF000
_FULL_SCALE = 32768
# Of telephones 8000. A file of few samples a second would grow without end where they are made 16,000.
_LEAST_RATE = 1000


def read_audio(path: str | Path, first_s: float | None = None) -> Samples:
    """The samples of a file; for recordings as long as a query.

    Args:
        path: a sound file of any usual format, or a video with sound.
        first_s: no more than this much from its start, in seconds; the rest is decoded all the same, and checked.

    Returns:
        (n,) float32 at 16 kHz, in [-1, 1]: the mean of the channels.

    Raises:
        AudioError: the file is missing, is no media file, holds no sound or nothing but silence, is shorter
            than 0.1 s, or stops before its end.
    """
    most = math.inf if first_s is None else round(first_s * SAMPLE_RATE)
    kept: list[Samples] = []
    count = 0
    for chunk in _decode(Path(path)):
        if count < most:
            kept.append(chunk[: min(most - count, len(chunk))])
            count += len(kept[-1])
    return np.concatenate(kept)


def audio_windows(path: str | Path, window_s: float) -> Iterator[Samples]:
    """The samples of a file in consecutive windows; memory does not grow with its length.

    The last two windows are of one length, so that none is much shorter than the others. A file that is no
    longer than a window is one.

    Args:
        path: a sound file of any usual format, or a video with sound.
        window_s: the longest a window may be, in seconds.

    Yields:
        (n,) float32 at 16 kHz, in [-1, 1].

    Raises:
        AudioError: as for :func:`read_audio`; of silence and of an early end, after the last window.
    """
    size = round(window_s * SAMPLE_RATE)
    held: list[Samples] = []
    count = 0
    for chunk in _decode(Path(path)):
        held.append(chunk)
        count += len(chunk)
        if count > 2 * size:
            samples = np.concatenate(held)
            yield samples[:size]
            held, count = [samples[size:]], count - size
    yield from np.array_split(np.concatenate(held), math.ceil(count / size))


def write_audio(path: str | Path, samples: Samples) -> None:
    """Write a 16-bit WAV file; an interrupted call leaves no file behind.

    Args:
        path: the file to write; one already there is replaced once the new one is whole.
        samples: (n,) float32 at 16 kHz; what is outside [-1, 1] is clipped.

    Raises:
        OutputError: the file cannot be written.
    """
    scaled = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")
    with replacing(Path(path)) as part, part.open("wb") as stream, wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(scaled.tobytes())


def _decode(path: Path) -> Iterator[Samples]:
    """Samples as they come out of the decoder, a fraction of a second at a time; checked at the end."""
    count, peak = 0, 0.0
    with open_media(path, "sound", AudioError) as container:
        if not container.streams.audio:
            raise AudioError(f"{path}: holds no sound track; name a sound file, or a video with sound")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError(f"{path}: its sound is coded in a way that is not known here; convert it to WAV")
        if stream.rate < _LEAST_RATE:
            raise AudioError(f"{path}: has {stream.rate} samples a second, too few for speech; record it again")
        stated_s = _stated_s(container, stream, path)
        # 16-bit output, since for it FFmpeg takes the mean of channels; for floats it would let them overflow.
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        try:
            for frame in _frames(container, stream, path):
                for part in resampler.resample(frame):
                    samples = part.to_ndarray()[0].astype(np.float32) / _FULL_SCALE
                    count += len(samples)
                    peak = max(peak, float(abs(samples).max(initial=0.0)))
                    yield samples
        except ValueError as error:
            raise AudioError(
                f"{path}: sampling rate or channels change after {count / SAMPLE_RATE:.1f} s; "
                "convert it to 16 kHz mono WAV"
            ) from error
    length_s = count / SAMPLE_RATE
    if count == 0:
        raise AudioError(f"{path}: no sound in it can be decoded; the file is empty or damaged, replace it")
    if stated_s is not None and length_s < (1 - _SHORTFALL_FRACTION) * stated_s - _SHORTFALL_S:
        raise AudioError(
            f"{path}: the sound stops at {length_s:.1f} s of {stated_s:.1f} s; "
            "the file is incomplete, copy or download it again"
        )
    if length_s < _SHORTEST_S:
        raise AudioError(f"{path}: lasts {length_s:.3f} s, too short to say anything; record it again")
    if peak < _SILENT_PEAK:
        raise AudioError(f"{path}: is silent; record it again")


def _stated_s(container: InputContainer, stream: AudioStream, path: Path) -> float | None:
    """Length of the sound in seconds, where the file states one."""
    if container.format.name in _LENGTH_GUESSED:
        return None
    if container.format.name == "wav" and stream.bit_rate:
        # FFmpeg takes the length of a WAV file that is cut off for the length of what is left.
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8)[4:], "little")
        return size * 8 / stream.bit_rate if size < _SIZE_UNKNOWN else None
    return stated_duration(container, stream)


def _frames(container: InputContainer, stream: AudioStream, path: Path) -> Iterator[av.AudioFrame | None]:
    """The frames of a stream, then None to have the resampler give what it holds.

    A packet that does not decode is left out, as players do: damage that matters shows in the length.
    """
    floats = stream.codec_context.name.startswith("pcm_f")  # the one coding that can hold a NaN
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        for frame in frames:
            assert isinstance(frame, av.AudioFrame)
            if floats and not np.isfinite(frame.to_ndarray()).all():
                raise AudioError(f"{path}: NaN or infinity among its samples; write the file again")
            frame.pts = None  # samples follow each other, whatever their timestamps say
            yield frame
    yield None
