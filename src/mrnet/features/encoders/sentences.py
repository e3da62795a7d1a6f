"""Sentences by way of the `sentence-transformers` library."""

import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
from sentence_transformers import SentenceTransformer

from mrnet.device import choose_device
from mrnet.documents import parse_json
from mrnet.errors import ConfigError, DataError
from mrnet.features.backbone import Modality, Rows, check_sentence
from mrnet.features.encoders.hub import LIBRARIES, LOCAL, ModelFolder, find_model, loading
from mrnet.features.encoders.networks import weights_revision
from mrnet.provenance import Provenance, portable_name

_MODULE = re.compile(
    r"sentence_transformers\.(?:models|base\.modules|sentence_transformer\.modules)\.(?:\w+\.)?(\w+)"
)
# Without Router and Asym, whose own settings name classes in turn.
_MODULES = frozenset(
    {
        "BoW",
        "CLIPModel",
        "CNN",
        "Dense",
        "Dropout",
        "LayerNorm",
        "LSTM",
        "Normalize",
        "Pooling",
        "StaticEmbedding",
        "Transformer",
        "WeightedLayerPooling",
        "WordEmbeddings",
        "WordWeights",
    }
)


class SentenceEncoder:
    """A vector a sentence, pooled and scaled as a model of sentence-transformers says.

    The released code's GloVe vectors are such a model, ``average_word_embeddings_glove.6B.300d``.
    Sentences that are longer than a model's limit, or hold no word it knows, are refused.
    """

    kind: Modality = "text"
    rate: float | None = None
    batch_size = 64

    def __init__(self, model: str, device: str | None = None) -> None:
        """Load a model: a folder, or a hub id with or without publisher and ``@REVISION``.

        Raises:
            ConfigError: it cannot be found or loaded, or is no model of sentence-transformers.
        """
        chosen = choose_device(device)
        if "/" not in model and not Path(model).is_dir():
            model = f"sentence-transformers/{model}"  # as the library itself does
        folder = find_model(model)
        parts = _parts(folder)
        with loading(folder, self.kind):
            self._model = SentenceTransformer(str(folder.path), device=str(chosen), **LOCAL).float()
            self.dim = self._model.encode(["a"], show_progress_bar=False).shape[1]
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "") or ""
        self._lock = threading.Lock()  # a tokenizer changes its own state while it works
        self.name = portable_name(f"st:{folder.name}")
        weights = [file for part in parts for file in folder.weights(part)]
        self.revision = weights_revision(weights, "sentence-transformers 1")
        self._details = folder.details

    def prepare(self, source: str | Path) -> Iterator[str]:
        """The sentence, once it is known to fit.

        Raises:
            DataError: the sentence is empty, holds no word that the model knows, or is longer than it takes.
        """
        sentence = check_sentence(source)
        with self._lock:
            count = self._count_tokens(self._prompt + sentence)
        if count == 0:
            raise DataError(f"{self.name} knows no word of the query {sentence[:40]!r}; put it in other words")
        limit = self._model.max_seq_length
        if limit is not None and count > limit:
            raise DataError(
                f"the query has {count} tokens, {self.name} takes at most {limit}: "
                f"shorten it (it begins {sentence[:40]!r})"
            )
        yield sentence

    def encode(self, inputs: Sequence[str]) -> list[Rows]:
        """A ``(1, dim)`` float32 vector for each sentence."""
        vectors = self._model.encode(list(inputs), batch_size=len(inputs), show_progress_bar=False)
        return list(np.asarray(vectors, dtype=np.float32)[:, None])

    def provenance(self) -> Provenance:
        """How these vectors are made."""
        return Provenance(
            backbone=self.name,
            dim=self.dim,
            revision=self.revision,
            normalisation="as the model's modules say",
            libraries={"sentence-transformers": sentence_transformers.__version__, **LIBRARIES},
            details=self._details,
        )

    def _count_tokens(self, text: str) -> int:
        tokenizer: Any = self._model.tokenizer
        if callable(tokenizer):
            return len(tokenizer(text, verbose=False)["input_ids"])
        return len(tokenizer.tokenize(text))  # a table of words


def _parts(folder: ModelFolder) -> list[str]:
    """Subfolders of the modules of a model, in order.

    Raises:
        ConfigError: the folder holds no model of sentence-transformers, or one with modules of its own.
    """
    path = folder.path / "modules.json"
    try:
        modules = [(str(module["type"]), str(module["path"])) for module in parse_json(path.read_bytes())]
    except FileNotFoundError:
        raise ConfigError(
            f"{folder.name}: is no model of sentence-transformers, it has no modules.json; "
            "for an encoder of transformers say hf: instead of st:"
        ) from None
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"{path}: lists no modules; get the model again") from None
    for name, _ in modules:
        found = _MODULE.fullmatch(name)
        if found is None or found[1] not in _MODULES:
            raise ConfigError(
                f"{path}: names {name!r}, which is none of the modules of sentence-transformers that are known here: "
                "the code of a model is not run; name another model"
            )
    return [part for _, part in modules]
