"""Recordings by way of the speech and sound encoders of the `transformers` library."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from mrnet.device import choose_device
from mrnet.errors import ConfigError
from mrnet.features.backbone import Modality, Rows
from mrnet.features.encoders.hub import (
    LIBRARIES,
    LOCAL,
    encode_alike,
    find_model,
    load_network,
    loading,
    mean_token,
    weights_revision,
)
from mrnet.media.audio import SAMPLE_RATE, Samples, audio_windows
from mrnet.provenance import Provenance

_WINDOW_S = 30.0


class HubSpeech:
    """A vector a recording, from wav2vec 2.0, data2vec, UniSpeech-SAT, AST, …

    The last hidden state goes through a LayerNorm without trained scale, then the mean over all tokens is
    taken. Long recordings are heard in windows of at most 30 s, or of what the model takes, and averaged.

    Source: docs/method.md, section 12.
    """

    kind: Modality = "speech"
    rate: float | None = None
    batch_size = 4

    def __init__(self, model: str, device: str | None = None) -> None:
        """Load a model: a folder, or a hub id with or without ``@REVISION``.

        Raises:
            ConfigError: it cannot be found or loaded, encodes no sound, or was not made for 16 kHz.
        """
        self._device = choose_device(device)
        folder = find_model(model)
        network = load_network(folder, self._device, self.kind)
        self._network = network.get_encoder() if network.config.is_encoder_decoder else network
        with loading(folder, self.kind):
            extractors: Any = transformers.AutoFeatureExtractor
            self._extractor = extractors.from_pretrained(folder.path, **LOCAL)
            if self._extractor.sampling_rate != SAMPLE_RATE:
                raise ConfigError(
                    f"{folder.name}: hears sound at {self._extractor.sampling_rate} Hz; name a model for 16000 Hz"
                )
            self._window_s = _WINDOW_S
            if isinstance(self._extractor, transformers.ASTFeatureExtractor):  # a frame is 10 ms
                self._window_s = self._extractor.max_length / 100
            self.dim = self.encode([self._listen(np.zeros(SAMPLE_RATE, np.float32))])[0].shape[1]
        self.name = f"hf:{folder.public_name}"
        self.revision = weights_revision(folder.weights(), "transformers speech 1")
        self._details = {
            "model_type": network.config.model_type,
            "window": f"{self._window_s:g} s",
            **folder.details,
        }

    def prepare(self, source: str | Path) -> Iterator[Rows]:
        """What the network is given for each window: the samples, or a spectrogram, as its makers prepare them.

        Raises:
            AudioError: the recording cannot be decoded, or is silent.
        """
        for samples in audio_windows(source, self._window_s):
            yield self._listen(samples)

    def encode(self, inputs: Sequence[Rows]) -> list[Rows]:
        """A ``(1, dim)`` float32 vector for each window."""
        return encode_alike(inputs, lambda heard: mean_token(self._network(heard).last_hidden_state), self._device)

    def provenance(self) -> Provenance:
        """How these vectors are made."""
        return Provenance(
            backbone=self.name,
            dim=self.dim,
            revision=self.revision,
            normalisation="LayerNorm without scale, mean over all tokens",
            libraries=LIBRARIES,
            details=self._details,
        )

    def _listen(self, samples: Samples) -> Rows:
        given = self._extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np")
        return np.asarray(given[self._extractor.model_input_names[0]][0], dtype=np.float32)
