"""SIMULATED speech: sentences said by espeak-ng in many voices, with noise.

The test split's voices are heard nowhere else. Formant synthesis is far from people's speech, so a score on it
compares with no published one.
"""

import ctypes
import functools
import importlib.util
import random
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt

from mrnet.errors import ConfigError
from mrnet.media.audio import SAMPLE_RATE

TRAIN_VOICES = (
    "en-us+m1", "en-us+f1", "en-us+m3", "en-us+f2", "en-us+Annie", "en-us+adam", "en-us+Mario", "en-us+Alicia",
    "en-us+michel", "en-us+linda", "en-gb-x-rp+m7", "en-gb-x-rp+f5", "en-us+paul", "en-us+steph2",
    "en-us+f3", "en-us+m4", "en-us+m6", "en-us+m8", "en-us+Alex", "en-us+Denis", "en-us+Gene", "en-us+Hugo",
    "en-us+Jacky", "en-us+Marco", "en-us+aunty", "en-us+benjamin", "en-us+ian", "en-us+steph", "en-us+shelby",
    "en-us+victor", "en-us+max", "en-us+ed", "en-us+caleb", "en-us+john", "en-us+norbert", "en-gb-x-rp+zac",
    "en-gb-x-rp+steph3", "en-gb-x-rp+grandma",
)  # fmt: skip
VAL_VOICES = ("en-us+m5", "en-us+anika", "en-gb-x-rp+david")
TEST_VOICES = ("en-us+m2", "en-us+f4", "en-us+Andrea", "en-us+Lee", "en-gb-x-rp+belinda")

_WORDS_PER_MIN = (150, 190)
_PITCH = (35, 65)
_SNR_DB = (15.0, 30.0)

# speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT, POS_CHARACTER, espeakCHARS_UTF8, espeakRATE,
# espeakPITCH.
_SYNCHRONOUS, _DONT_EXIT, _BY_CHARACTER, _UTF8, _RATE, _PITCH_PARAMETER = 2, 0x8000, 1, 1, 1, 3
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sentence is said.

    Attributes:
        voice: of espeak-ng, ``language+variant``.
        words_per_min: speed.
        pitch: 0 to 99, 50 being the voice's own.
        snr_db: level of the speech over that of the white noise added to it.
        seed: of the noise.
    """

    voice: str
    words_per_min: int
    pitch: int
    snr_db: float
    seed: int

    @classmethod
    def draw(cls, voice: str, rng: random.Random) -> "Manner":
        """A random manner of a voice."""
        return cls(
            voice,
            rng.randint(*_WORDS_PER_MIN),
            rng.randint(*_PITCH),
            round(rng.uniform(*_SNR_DB), 1),
            rng.getrandbits(31),
        )


def can_speak() -> bool:
    """Whether what the spoken half of the demo needs is installed."""
    return all(importlib.util.find_spec(name) for name in ("espeakng_loader", "onnxruntime")) and (
        importlib.util.find_spec("livekit") is not None
    )


def speak(text: str, manner: Manner) -> npt.NDArray[np.float32]:
    """Say a sentence. The phase of the voice varies from call to call, by what was said before.

    Returns:
        (n,) float32 samples, 16 kHz, in [-1, 1].

    Raises:
        ConfigError: espeak-ng is not there, or does not have the voice.
    """
    library, rate, chunks = _library()
    if library.espeak_SetVoiceByName(manner.voice.encode()):
        raise ConfigError(f"espeak-ng has no voice {manner.voice!r}: install a newer espeakng-loader")
    library.espeak_SetParameter(_RATE, manner.words_per_min, 0)
    library.espeak_SetParameter(_PITCH_PARAMETER, manner.pitch, 0)
    chunks.clear()
    data = text.encode()
    library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, _BY_CHARACTER, 0, _UTF8, None, None)
    samples = _resample(np.concatenate(chunks), rate).astype(np.float32) / 32768
    noise = np.random.default_rng(manner.seed).standard_normal(len(samples), dtype=np.float32)
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-manner.snr_db / 20)
    noisy: npt.NDArray[np.float32] = np.clip(samples + level * noise, -1, 1).astype(np.float32)
    return noisy


_alive: list[object] = []  # what C code calls must not be collected


@functools.cache
def _library() -> tuple[ctypes.CDLL, int, list[npt.NDArray[np.int16]]]:
    """espeak-ng, its sample rate, and the list into which it puts what it says; one a process."""
    try:
        import espeakng_loader
    except ImportError:
        raise ConfigError("speech needs espeak-ng: pip install 'mrnet[demo]'") from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
    if rate <= 0:
        raise ConfigError("espeak-ng does not start: install espeakng-loader anew")
    chunks: list[npt.NDArray[np.int16]] = []

    def take(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _CALLBACK(take)
    library.espeak_SetSynthCallback(callback)
    _alive.append(callback)
    return library, rate, chunks


def _resample(samples: npt.NDArray[np.int16], rate: int) -> npt.NDArray[np.int16]:
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    parts = [part.to_ndarray()[0] for given in (frame, None) for part in resampler.resample(given)]
    return np.concatenate(parts)
