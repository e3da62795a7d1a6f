"""Recordings by way of the speech and sound encoders of the `transformers` library."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from mrnet.device import choose_device
from mrnet.errors import ConfigError
from mrnet.features.backbone import Modality, Rows
from mrnet.features.encoders.hub import LIBRARIES, LOCAL, find_model, load_network, loading, mean_token
from mrnet.features.encoders.networks import encode_alike, weights_revision
from mrnet.media.audio import SAMPLE_RATE, Samples, audio_windows, read_audio
from mrnet.provenance import Provenance, portable_name

_WINDOW_S = 30.0
# Length of a frame of AST's spectrogram, and from one to the next.
_AST_FRAME_S, _AST_STEP_S = 0.025, 0.010


class HubSpeech:
    """A vector a recording, from wav2vec 2.0, data2vec, UniSpeech-SAT, AST, …

    The last hidden state goes through a LayerNorm without trained scale, then the mean over all tokens is
    taken. Of a recording, AST hears as much as it was made for, the first 10.24 s; the others hear windows of at
    most 30 s, and their vectors are averaged.

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
            self._first_s: float | None = None
            if isinstance(self._extractor, transformers.ASTFeatureExtractor):
                self._first_s = (self._extractor.max_length - 1) * _AST_STEP_S + _AST_FRAME_S
            self.dim = self.encode([self._listen(np.zeros(SAMPLE_RATE, np.float32))])[0].shape[1]
        self.name = portable_name(f"hf:{folder.name}")
        heard = {"window": f"{_WINDOW_S:g} s"}
        recipe = "transformers speech 1"
        if self._first_s is not None:
            heard = {"heard": f"the first {self._extractor.max_length * _AST_STEP_S:g} s"}
            recipe = f"{recipe}, {heard['heard']}"
        self.revision = weights_revision(folder.weights(), recipe)
        self._details = {"model_type": network.config.model_type, **heard, **folder.details}

    def prepare(self, source: str | Path) -> Iterator[Rows]:
        """What the network is given of a recording: samples, or a spectrogram, as its makers prepare them.

        Raises:
            AudioError: the recording cannot be decoded, or is silent.
        """
        if self._first_s is not None:
            yield self._listen(read_audio(source, self._first_s))
            return
        for samples in audio_windows(source, _WINDOW_S):
            yield self._listen(samples)

    def encode(self, inputs: Sequence[Rows]) -> list[Rows]:
        """A ``(1, dim)`` float32 vector for each input."""
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
