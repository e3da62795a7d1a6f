"""Sentences by way of the text encoders of the `transformers` library."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from mrnet.device import choose_device
from mrnet.errors import DataError
from mrnet.features.backbone import Modality, Rows, check_sentence
from mrnet.features.encoders.hub import LIBRARIES, LOCAL, find_model, load_network, loading, mean_token
from mrnet.features.encoders.networks import encode_alike, weights_revision
from mrnet.provenance import Provenance, portable_name

Tokens = npt.NDArray[np.int64]


class HubText:
    """A vector a sentence, from DistilBERT, data2vec, BERT, RoBERTa, T5, …, or a text tower such as CLIP's.

    An encoder's last hidden state goes through a LayerNorm without trained scale, then the mean over all
    tokens, special ones too, is taken. A text tower (CLIP, SigLIP, X-CLIP) gives its own pooled, projected
    vector, which lies in the space of its image vectors. Sentences that are longer than a model's limit are
    refused, not cut.

    Attributes:
        is_tower: whether its vectors lie in the space of the same model's image vectors.

    Source: docs/method.md, section 12, for DistilBERT and data2vec.
    """

    kind: Modality = "text"
    rate: float | None = None
    batch_size = 64

    def __init__(self, model: str, device: str | None = None) -> None:
        """Load a model: a folder, or a hub id with or without ``@REVISION``.

        Raises:
            ConfigError: it cannot be found or loaded, or encodes no text.
        """
        self._device = choose_device(device)
        folder = find_model(model)
        network = load_network(folder, self._device, self.kind)
        self.is_tower = hasattr(network, "get_text_features")
        self._network = network.get_encoder() if network.config.is_encoder_decoder else network
        # SigLIP attends to padding: it was trained with every sentence filled up to the limit.
        self._is_filled = network.config.model_type.startswith("siglip")
        self._lock = threading.Lock()  # a tokenizer changes its own state while it works
        with loading(folder, self.kind):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder.path, **LOCAL)
            self._limit = min(self._tokenizer.model_max_length, _positions(network))
            self.dim = self.encode([next(self.prepare("a"))])[0].shape[1]
        self.name = portable_name(f"hf:{folder.name}")
        self.revision = weights_revision(folder.weights(), "transformers text 1")
        self._details = {"model_type": network.config.model_type, **folder.details}

    def prepare(self, source: str | Path) -> Iterator[Tokens]:
        """The ``(tokens,)`` ids of a sentence.

        Raises:
            DataError: the sentence is empty, or longer than the model takes.
        """
        sentence = check_sentence(source)
        with self._lock:
            ids = self._tokenizer(sentence, verbose=False)["input_ids"]
            if len(ids) > self._limit:
                raise DataError(
                    f"the query has {len(ids)} tokens, {self.name} takes at most {self._limit}: "
                    f"shorten it (it begins {sentence[:40]!r})"
                )
            if self._is_filled:
                ids = self._tokenizer(sentence, padding="max_length", max_length=self._limit)["input_ids"]
        yield np.asarray(ids, dtype=np.int64)

    def encode(self, inputs: Sequence[Tokens]) -> list[Rows]:
        """A ``(1, dim)`` float32 vector for each sentence."""
        return encode_alike(inputs, self._forward, self._device)

    def provenance(self) -> Provenance:
        """How these vectors are made."""
        pooling = "pooled by the text tower" if self.is_tower else "LayerNorm without scale, mean over all tokens"
        return Provenance(
            backbone=self.name,
            dim=self.dim,
            revision=self.revision,
            normalisation=pooling,
            libraries=LIBRARIES,
            details=self._details,
        )

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        if self.is_tower:
            pooled: torch.Tensor = self._network.get_text_features(input_ids=ids).pooler_output
            return pooled
        return mean_token(self._network(input_ids=ids).last_hidden_state)


def _positions(network: Any) -> int:
    """Tokens that the position embeddings of a text encoder have room for; very many where it has none."""
    positions = getattr(network.config.get_text_config(), "max_position_embeddings", None) or 10**9
    # RoBERTa and its kin number positions from the one after the padding token's.
    first = [
        module.padding_idx + 1
        for name, module in network.named_modules()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    return int(positions - max(first, default=0))
