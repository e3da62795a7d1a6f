"""Native checkpoints: a folder with ``model.safetensors`` and ``mrnet.json``, and nothing pickled.

Where the video features went through a PCA, its file is there too, as ``video.pca.safetensors``.

``mrnet.json`` holds the whole configuration, feature provenance included, so a checkpoint can be used
from itself alone.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mrnet.config import Config, parse_config
from mrnet.errors import CheckpointError
from mrnet.model.mrnet import MRNet

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "mrnet.json"
PCA_FILE = "video.pca.safetensors"
RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
FORMAT = 1


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory that appears under its name only when it is complete.

    Yields a temporary sibling to write into; on success it is renamed to ``path``, which must not hold
    anything yet; on any error it is removed.

    Raises:
        CheckpointError: ``path`` exists and is not an empty directory, is the working directory, or cannot
            be written.
    """
    if path.resolve() == Path.cwd():
        raise CheckpointError("the working folder cannot be replaced by a checkpoint: name a new folder")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"{path} already exists and is not empty: choose another place or remove it")
    try:
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had our number
        temporary.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from None
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already where all went well


def make_directory(path: Path) -> Path:
    """A folder to write results into, made if need be.

    Raises:
        CheckpointError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from None
    return path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_checkpoint(
    directory: Path, config: Config, weights: Mapping[str, Tensor], pca: Path | None = None
) -> None:
    """Write the files of a checkpoint into an existing directory (see :func:`new_directory`)."""
    save_tensors(directory / WEIGHTS_FILE, weights)
    if pca is not None:
        shutil.copyfile(pca, directory / PCA_FILE)
    document = {"format": FORMAT, "config": config.model_dump(mode="json")}
    (directory / CONFIG_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def save_checkpoint(directory: Path, config: Config, weights: Mapping[str, Tensor]) -> None:
    """Create a checkpoint folder, atomically.

    Raises:
        CheckpointError: the folder already holds something.
    """
    with new_directory(directory) as temporary:
        write_checkpoint(temporary, config, weights)


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint folder that ``path`` means: itself, or the best epoch of a training run.

    Raises:
        CheckpointError: neither.
    """
    if (path / CONFIG_FILE).is_file():
        return path
    run = path / RUN_FILE
    if run.is_file():
        best = read_json(run).get("best")
        if best is not None:
            folder = path / CHECKPOINTS / str(best)
            if not (folder / CONFIG_FILE).is_file():
                raise CheckpointError(
                    f"{folder}, the best epoch by {run}, is gone or damaged: restore it, or train again"
                )
            return folder
        raise CheckpointError(
            f"{path} is a training run without a finished epoch yet: train it on, or use another"
        )
    what = "is not a checkpoint" if path.exists() else "does not exist"
    raise CheckpointError(
        f"{path} {what}: expected a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, or a training run; "
        "`mrnet train`, `mrnet demo` and `mrnet convert` make one"
    )


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file of ours.

    Raises:
        CheckpointError: not JSON, or not an object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}): restore or remake the checkpoint") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds no JSON object: restore or remake the checkpoint")
    return document


def load_config(directory: Path) -> Config:
    """The configuration of a checkpoint folder.

    Raises:
        CheckpointError: missing or malformed ``mrnet.json``, or one of a newer format.
    """
    path = resolve_checkpoint(directory) / CONFIG_FILE
    document = read_json(path)
    if "format" not in document:
        raise CheckpointError(f"{path} says no format, so it is none of ours or damaged: restore the checkpoint")
    if document["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {document['format']!r}, this version reads {FORMAT}: upgrade mrnet"
        )
    return parse_config(document.get("config"), source=str(path))


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, readable by whom the umask allows (the library's own writer asks nobody)."""
    path.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        CheckpointError: missing, truncated or not a safetensors file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({error}): restore or remake the checkpoint"
        ) from None


def load_checkpoint(directory: Path) -> tuple[Config, dict[str, Tensor]]:
    """Configuration and weights of a checkpoint folder or training run.

    Raises:
        CheckpointError: as :func:`load_config` and :func:`load_tensors`.
    """
    return load_config(directory), load_tensors(resolve_checkpoint(directory) / WEIGHTS_FILE)


def build_model(config: Config, weights: Mapping[str, Tensor], source: str) -> MRNet:
    """The network with weights in place, in evaluation mode.

    Raises:
        CheckpointError: a missing, extra or misshapen weight, by name.
    """
    with torch.device("meta"):
        expected = MRNet(config.model).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    check_weights(shapes, weights, source)
    model = MRNet(config.model)
    model.load_state_dict(weights)
    return model.eval()


def check_weights(expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor], source: str) -> None:
    """Compare names and shapes of weights with what is expected.

    Raises:
        CheckpointError: naming the first missing, extra or misshapen weight.
    """
    for problem, names in (
        ("has no weight", [name for name in expected if name not in weights]),
        ("has an unexpected weight", [name for name in weights if name not in expected]),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                f"{source} {problem} {names[0]!r}{more}: the weights and the configuration do not belong together"
            )
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise CheckpointError(
                f"{source}: weight {name!r} has shape {list(weights[name].shape)}, the configuration needs "
                f"{list(shape)}"
            )
