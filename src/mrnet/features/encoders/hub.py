"""Find and load models of the `transformers` library: from a folder, or from the Hugging Face hub.

A model's name is a local folder, or an id on the hub, ``openai/clip-vit-base-patch32``, followed or not by
``@`` and a revision. Code that comes with a model is never run; the network is used for ids alone.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import logging as chatter

from mrnet.errors import ConfigError
from mrnet.features.backbone import Modality

LIBRARIES = {"torch": torch.__version__, "transformers": transformers.__version__}

# How models are loaded: from their files, without the code that may come with them.
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
# In the order in which the library prefers them; the first that is there is the one it loads.
_WEIGHTS = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
)
_SETTINGS = ("*.json", "*.txt", "*.model")
# What a checkpoint may lack: tensors for training alone, and a pooler that its task did not need.
_TRAINING_ONLY = ("masked_spec_embed", "mask_token")
_POOLER = ("pooler.dense.weight", "pooler.dense.bias")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model lies.

    Attributes:
        name: its hub id, or absolute folder: what names it here.
        path: the folder.
        commit: of the hub; empty for a local folder.
    """

    name: str
    path: Path
    commit: str = ""

    @property
    def details(self) -> dict[str, str]:
        """What provenance tells of it."""
        return {"commit": self.commit} if self.commit else {}

    def weights(self, subfolder: str = "") -> list[Path]:
        """Files that hold the weights of a (sub)folder, sorted; none where it has no weights."""
        return next((files for p in _WEIGHTS if (files := sorted((self.path / subfolder).glob(p)))), [])


def find_model(name: str) -> ModelFolder:
    """Find a model; of one named by a hub id, what is not in the local cache is downloaded.

    Args:
        name: a folder, or a hub id with or without ``@REVISION``.

    Raises:
        ConfigError: there is no such folder, and the hub cannot give it either.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        folder = Path(os.path.normpath(folder.absolute()))
        return ModelFolder(str(folder), folder)
    repo, _, revision = name.partition("@")
    try:
        folder = _download(repo, revision, _WEIGHTS[:2])
        if not any(folder.rglob("*.safetensors")):
            folder = _download(repo, revision, _WEIGHTS)
    except HFValidationError:
        raise ConfigError(f"{name}: no such folder, and no id of a model on huggingface.co; correct it") from None
    except GatedRepoError:
        raise ConfigError(
            f"{name}: its authors ask for consent; give it on https://huggingface.co/{repo}, then run `hf auth login`"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise ConfigError(
            f"{name}: no such folder, and no such model or revision on huggingface.co; correct it, "
            "or run `hf auth login` if it is private"
        ) from None
    except Exception as error:  # the hub's own, its HTTP client's, the system's: offline in one way or another
        raise ConfigError(
            f"{name}: no such folder, not in the local cache, and huggingface.co cannot be reached "
            f"({type(error).__name__}); give its folder, or run `hf download {repo}` where there is network "
            "and bring the folder here"
        ) from None
    return ModelFolder(name, folder, folder.name)


def _download(repo: str, revision: str, weights: Sequence[str]) -> Path:
    patterns = [*_SETTINGS, *(f"*{pattern}" for pattern in weights)]
    return Path(snapshot_download(repo, revision=revision or None, allow_patterns=patterns))


def load_network(folder: ModelFolder, device: torch.device, kind: Modality) -> Any:
    """The network of a model folder in float32, without task heads, for inference.

    Raises:
        ConfigError: the folder holds no such model, or not all of its weights.
    """
    if not (folder.path / "config.json").is_file() or not folder.weights():
        raise ConfigError(
            f"{folder.name}: is no folder of a transformers model; it should hold config.json and model.safetensors"
        )
    with loading(folder, kind):
        model, report = transformers.AutoModel.from_pretrained(
            folder.path, **LOCAL, dtype=torch.float32, output_loading_info=True
        )
    absent = {key for key in report["missing_keys"] if not key.endswith(_TRAINING_ONLY)}
    if missing := sorted(absent.difference(_POOLER)):
        raise ConfigError(
            f"{folder.name}: its weights lack {len(missing)} of the tensors of a {type(model).__name__}, "
            f"{missing[0]} for one; they are incomplete or of another model, get them again"
        )
    if absent:  # what is left at its random start must not reach a feature
        model.pooler = None
    return model.eval().requires_grad_(False).to(device)


@contextlib.contextmanager
def loading(folder: ModelFolder, kind: Modality) -> Iterator[None]:
    """Keep the library quiet, and give whatever it raises as one line.

    Raises:
        ConfigError: anything was raised inside.
    """
    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity(logging.ERROR)
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # what a library raises on foreign files is not for us to list
        said = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ConfigError(
            f"{folder.name}: cannot be used as a {kind} encoder ({said}); "
            f"name a model of {kind} with all of its files"
        ) from error
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()  # type: ignore[no-untyped-call]


def mean_token(hidden: torch.Tensor) -> torch.Tensor:
    """LayerNorm without trained scale, then the mean over all tokens.

    Args:
        hidden: ``(inputs, tokens, dim)`` last hidden state; special tokens count.

    Returns:
        ``(inputs, dim)``.

    Source: docs/method.md, section 12.
    """
    return torch.nn.functional.layer_norm(hidden, hidden.shape[-1:], eps=1e-5).mean(dim=1)
