"""Videos whose frames and sounds say when they are of, made and read back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 44_100
_BITS = 12


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(height, width, 3) uint8: the index in binary, as 4 x 3 blocks of black and white; upper left first."""
    bits = np.array([index >> bit & 1 for bit in range(_BITS)], np.uint8).reshape(3, 4)
    rows = np.arange(height) * 3 // height
    columns = np.arange(width) * 4 // width
    return np.repeat((bits * 200 + 20)[rows][:, columns, None], 3, axis=2)


def index_of(frame: np.ndarray) -> int:
    """What :func:`picture` made a frame of."""
    height, width = frame.shape[:2]
    rows = (np.arange(3) * 2 + 1) * height // 6
    columns = (np.arange(4) * 2 + 1) * width // 8
    bits = frame[rows][:, columns].mean(axis=2).ravel() > 120
    return int(sum(1 << bit for bit in range(_BITS) if bits[bit]))


def noise(seconds: float, seed: int) -> np.ndarray:
    """(samples,) float32: noise that is unlike itself at any other time, below 4 kHz."""
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal(round(seconds * RATE) + 10)
    return (np.convolve(raw, np.ones(11) / 11)[10:][: round(seconds * RATE)] * 0.5).clip(-1, 1).astype(np.float32)


def write_footage(
    path: Path,
    times_s: Sequence[float | Fraction],
    *,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    sounds: Iterable[str] = (),
    start_s: float = 0.0,
    time_base: Fraction = Fraction(1, 90_000),
    options: dict[str, str] | None = None,
    **settings: Any,
) -> None:
    """Write a video whose frame k is :func:`picture` k, and whose sound track j is :func:`noise` of seed j.

    Args:
        path: the file; its suffix says which container.
        times_s: when each frame is shown, in seconds; the last for as long as the one before.
        size: height and width.
        codec: of the pictures.
        sounds: codec of each sound track.
        start_s: when picture and sound start on the clock of the file.
        time_base: of the pictures' timestamps.
        options: of the encoder; one key frame in a second unless it says otherwise.
        settings: attributes of the picture stream.
    """
    end_s = float(2 * times_s[-1] - times_s[-2])
    with av.open(str(path), "w") as container:
        fps = Fraction(len(times_s) / end_s).limit_denominator(1001)
        stream = container.add_stream(codec, rate=fps, options={"g": str(round(fps))} | (options or {}))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        for name, value in settings.items():
            setattr(stream, name, value)
        tracks = []
        for seed, sound_codec in enumerate(sounds):
            sound = container.add_stream(sound_codec, rate=48_000 if sound_codec == "libopus" else RATE)
            tracks.append((sound, noise(end_s, seed)))
        chunk = RATE // 10
        heard = 0
        for index, time_s in enumerate([*times_s, end_s]):
            while heard < min(float(time_s) * RATE, end_s * RATE):
                for sound, samples in tracks:
                    part = av.AudioFrame.from_ndarray(samples[None, heard : heard + chunk], "fltp", "mono")
                    part.sample_rate, part.time_base = RATE, Fraction(1, RATE)
                    part.pts = heard + round(start_s * RATE)
                    container.mux(sound.encode(part))
                heard += chunk
            if index < len(times_s):
                frame = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24")
                frame.time_base = time_base
                frame.pts = round((time_s + Fraction(start_s)) / time_base)
                container.mux(stream.encode(frame))
        for track in (stream, *(sound for sound, _ in tracks)):
            container.mux(track.encode())


@dataclass(frozen=True)
class Footage:
    """What a file holds.

    Attributes:
        indices: of the pictures, in the order they are shown.
        times_s: when each is shown, in seconds.
        keys: those that are key frames.
        size: (height, width) of the frames as stored.
        rotation: degrees counterclockwise that set them upright.
        sounds: a pair a track: when it starts, in seconds, and its (samples,) float32 at ``RATE``.
    """

    indices: list[int]
    times_s: list[float]
    keys: list[int]
    size: tuple[int, int]
    rotation: int
    sounds: list[tuple[float, np.ndarray]]


def read_footage(path: Path, *, from_first: bool = False) -> Footage:
    """Decode all of a file.

    Args:
        path: the file.
        from_first: whether to give times from when the first frame is shown, and not from 0 on the file's clock.
    """
    indices, times_s, keys = [], [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            indices.append(index_of(frame.to_ndarray(format="rgb24")))
            times_s.append(frame.time)
            keys += [indices[-1]] * frame.key_frame
            size, rotation = (frame.height, frame.width), frame.rotation % 360
        num_tracks = len(container.streams.audio)
    first_s = times_s[0] if from_first else 0.0
    sounds = []
    for track in range(num_tracks):
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("fltp", "mono", RATE)
            decoded = list(container.decode(audio=track))
            parts = [part for frame in decoded for part in resampler.resample(frame)]
            parts += resampler.resample(None)
            samples = np.concatenate([part.to_ndarray()[0] for part in parts])
            sounds.append((decoded[0].time - first_s, samples))
    return Footage(indices, [time_s - first_s for time_s in times_s], keys, size, rotation, sounds)


def lag_s(sound: np.ndarray, original: np.ndarray, at_s: float) -> float:
    """How many seconds later a piece of sound is heard than in the original, if it starts at ``at_s`` of that."""
    reach = RATE // 5
    first = round(at_s * RATE)
    middle = sound[len(sound) // 4 : len(sound) * 3 // 4]
    at = first + len(sound) // 4
    low = max(at - reach, 0)
    there = original[low : at + len(middle) + reach]
    size = 1 << (len(there) + len(middle)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(there, size) * np.conj(np.fft.rfft(middle, size)), size)
    best = int(np.argmax(correlation[: len(there) - len(middle) + 1]))
    assert correlation[best] > 0.5 * np.sqrt((middle**2).sum() * (there[best : best + len(middle)] ** 2).sum())
    return (at - (low + best)) / RATE
