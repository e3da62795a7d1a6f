"""What a recording says, by way of the speech recognisers of the `transformers` library, such as Whisper."""

from pathlib import Path
from typing import Any

import torch
import transformers

from mrnet.device import choose_device
from mrnet.errors import AudioError, ConfigError
from mrnet.features.encoders.hub import LOCAL, find_model, loading
from mrnet.media.audio import SAMPLE_RATE, audio_windows

# Whisper hears windows of exactly this length.
_WINDOW_S = 30.0
_MOST_TOKENS = 128


class Recogniser:
    """Turns a recording into a sentence.

    Longer recordings are heard 30 s at a time.

    Source: Radford et al., "Robust speech recognition via large-scale weak supervision", 2023.
    """

    def __init__(self, model: str, device: str | None = None) -> None:
        """Load a model: a folder, or a hub id with or without ``@REVISION``.

        Raises:
            ConfigError: it cannot be found or loaded, recognises no speech, or was not made for 16 kHz.
        """
        self._device = choose_device(device)
        folder = find_model(model)
        self.name = f"hf:{folder.name}"
        with loading(folder, "speech"):
            networks: Any = transformers.AutoModelForSpeechSeq2Seq
            network, report = networks.from_pretrained(
                folder.path, **LOCAL, dtype=torch.float32, output_loading_info=True
            )
            self._extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(folder.path, **LOCAL)  # type: ignore[no-untyped-call]
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder.path, **LOCAL)
        if missing := sorted(report["missing_keys"]):
            raise ConfigError(
                f"{folder.name}: its weights lack {len(missing)} of the tensors of a {type(network).__name__}, "
                f"{missing[0]} for one; they are incomplete or of another model, get them again"
            )
        if self._extractor.sampling_rate != SAMPLE_RATE:
            raise ConfigError(
                f"{folder.name}: hears sound at {self._extractor.sampling_rate} Hz; name a model for 16000 Hz"
            )
        self._network = network.eval().requires_grad_(False).to(self._device)

    def __call__(self, recording: str | Path) -> str:
        """The words of a recording.

        Raises:
            AudioError: it cannot be decoded, is silent, or no word is recognised in it.
        """
        words: list[str] = []
        for samples in audio_windows(recording, _WINDOW_S):
            given = self._extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            heard = given[self._extractor.model_input_names[0]].to(self._device)
            with torch.inference_mode():
                tokens = self._network.generate(heard, max_new_tokens=_MOST_TOKENS)
            words += self._tokenizer.decode(tokens[0], skip_special_tokens=True).split()
        if not words:
            raise AudioError(f"{recording}: {self.name} recognises no word in it; speak the query, or write it")
        return " ".join(words)
