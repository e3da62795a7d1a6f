"""Native checkpoints: a folder of safetensors, JSON and YAML, and nothing pickled.

    CHECKPOINT/mrnet.json              format, and the ModelSpec: all that answering needs
    CHECKPOINT/model.safetensors       weights
    CHECKPOINT/video.pca.safetensors   the PCA of its video features, where they went through one
    CHECKPOINT/recipe.yaml             the settings it was trained with, for `mrnet train --config`

No file of it holds a path of its maker, so a checkpoint can be passed on as it is. Where its data lie is in
``run.json`` of the run around it.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mrnet.config.data import PATH_FIELDS
from mrnet.config.model import ModelConfig
from mrnet.config.parse import parse_config, parse_spec
from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.documents import parse_json, parse_yaml
from mrnet.errors import CheckpointError
from mrnet.files import new_directory
from mrnet.model.ensemble import Network, make_network
from mrnet.model.fast.routes import Route

WEIGHTS_FILE = "model.safetensors"
SPEC_FILE = "mrnet.json"
RECIPE_FILE = "recipe.yaml"
PCA_FILE = "video.pca.safetensors"
ONNX_FILES = ("video.onnx", "queries.onnx")
RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
FORMAT = 2

# Weights of a network that is built to compare its own with those of a file, however few the file holds.
_NEVER_TOO_MANY = 2**20

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        folder: the folder.
        spec: what answering needs to know.
        weights: native name -> weight.
    """

    folder: Path
    spec: ModelSpec
    weights: dict[str, Tensor]

    @property
    def pca(self) -> Path | None:
        """File of the PCA that its video features went through, if it holds one."""
        return find_pca(self.folder)

    def build(self, *, route: Route = "auto", memory_budget: int | None = None) -> Network:
        """The network, see :func:`build_model`."""
        return build_model(
            self.spec.model, self.weights, str(self.folder), route=route, memory_budget=memory_budget
        )


def write_checkpoint(
    directory: Path, spec: ModelSpec, config: RunConfig, weights: Mapping[str, Tensor], pca: Path | None = None
) -> None:
    """Write the files of a checkpoint into an existing directory (see :func:`mrnet.files.new_directory`).

    Args:
        directory: the directory.
        spec: what answering needs.
        config: what the weights were trained with; its paths are left out.
        weights: native name -> weight.
        pca: file of the PCA that the video features went through, if any.
    """
    save_tensors(directory / WEIGHTS_FILE, weights)
    if pca is not None:
        shutil.copyfile(pca, directory / PCA_FILE)
    recipe = config.without_paths().model_dump(mode="json", exclude={"data": set(PATH_FIELDS)})
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    (directory / RECIPE_FILE).write_text(text, encoding="utf-8")
    document = {"format": FORMAT, "spec": spec.model_dump(mode="json")}
    (directory / SPEC_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def save_checkpoint(directory: Path, spec: ModelSpec, config: RunConfig, weights: Mapping[str, Tensor]) -> None:
    """Create a checkpoint folder, atomically.

    Raises:
        OutputError: the folder already holds something, or cannot be written.
    """
    with new_directory(directory) as temporary:
        write_checkpoint(temporary, spec, config, weights)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder, or the best epoch of a training run.

    Raises:
        CheckpointError: nothing there, damaged, or of another format.
    """
    folder = resolve_checkpoint(path)
    if not (folder / WEIGHTS_FILE).exists() and (folder / ONNX_FILES[0]).exists():
        raise CheckpointError(
            f"{folder} was made by `mrnet export` for another runtime: ask it with --runtime onnx, or give the "
            "checkpoint that it was made from"
        )
    return Checkpoint(folder, load_spec(folder), load_tensors(folder / WEIGHTS_FILE))


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint folder that ``path`` means: itself, or the best epoch of a training run.

    Raises:
        CheckpointError: neither.
    """
    if (path / SPEC_FILE).is_file():
        return path
    run = path / RUN_FILE
    if run.is_file():
        best = read_json(run).get("best")
        if best is not None:
            folder = path / CHECKPOINTS / Path(str(best)).name
            if not (folder / SPEC_FILE).is_file():
                raise CheckpointError(
                    f"{folder}, the best epoch by {run}, is gone or damaged: restore it, or train again"
                )
            return folder
        raise CheckpointError(
            f"{path} is a training run without a finished epoch yet: train it on, or use another"
        )
    what = "is not a checkpoint" if path.exists() else "does not exist"
    raise CheckpointError(
        f"{path} {what}: expected a folder with {SPEC_FILE} and {WEIGHTS_FILE}, or a training run; "
        "`mrnet train`, `mrnet demo` and `mrnet convert` make one"
    )


def load_spec(folder: Path) -> ModelSpec:
    """The specification in a checkpoint folder.

    Raises:
        CheckpointError: missing or malformed ``mrnet.json``, or one of another format.
    """
    path = folder / SPEC_FILE
    document = read_json(path)
    if "format" not in document:
        raise CheckpointError(f"{path} says no format, so it is none of ours or damaged: restore the checkpoint")
    found = document["format"]
    if found != FORMAT:
        older = isinstance(found, int) and found < FORMAT
        remedy = _how_to_remake(document) if older else "upgrade mrnet"
        raise CheckpointError(f"{path} has format {found!r}, this version reads {FORMAT}: {remedy}")
    return parse_spec(document.get("spec"), source=str(path))


def _how_to_remake(document: Mapping[str, object]) -> str:
    """The command that makes a checkpoint of an older format anew."""
    config = document.get("config")
    config = config if isinstance(config, dict) else {}
    video = config.get("video_provenance")
    details = video.get("details") if isinstance(video, dict) else None
    if isinstance(details, dict) and "converted_from" in details:
        files = f"{details['converted_from']} --config {details.get('released_config', 'CONFIG.yml')}"
        return f"make it anew with `mrnet convert {files} --out NEW`"
    return f"make it anew with `mrnet train --recipe {config.get('name', 'NAME')} --out NEW`"


def find_pca(folder: Path) -> Path | None:
    """The file of the PCA in a checkpoint folder, if it holds one."""
    path = folder / PCA_FILE
    return path if path.is_file() else None


def find_run_config(path: Path) -> RunConfig:
    """What a checkpoint was trained with: of the run around it, data paths and all, else its own ``recipe.yaml``.

    Args:
        path: a training run, an epoch of one, or a checkpoint by itself.

    Raises:
        CheckpointError: neither is there, or it is damaged.
        ConfigError: a key or value in it is unknown.
    """
    folder = resolve_checkpoint(path)
    around = folder.resolve().parent
    run = around.parent / RUN_FILE
    if around.name == CHECKPOINTS and run.is_file():
        return parse_config(read_json(run).get("config"), source=str(run))
    recipe = folder / RECIPE_FILE
    try:
        tree = parse_yaml(recipe.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first_line = str(error).splitlines()[0]
        raise CheckpointError(
            f"{recipe} is not readable YAML ({first_line}): restore or remake the checkpoint"
        ) from None
    return parse_config(tree, source=str(recipe))


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file of ours.

    Raises:
        CheckpointError: not JSON, or not an object.
    """
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}): restore or remake the checkpoint") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds no JSON object: restore or remake the checkpoint")
    return document


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


def build_model(
    model: ModelConfig,
    weights: Mapping[str, Tensor],
    source: str,
    *,
    route: Route = "auto",
    memory_budget: int | None = None,
) -> Network:
    """The network with weights in place, in evaluation mode.

    Args:
        model: architecture.
        weights: native name -> weight.
        source: of the weights, for messages.
        route: of the proposal convolutions.
        memory_budget: bytes that their speed may cost; ``None`` for a quarter of this machine's memory.

    Raises:
        CheckpointError: a missing, extra or misshapen weight, or one of no finite numbers, by name.
    """
    held = sum(weight.numel() for weight in weights.values())
    if model.about_weights > 2 * held + _NEVER_TOO_MANY:  # before memory is taken for them
        raise CheckpointError(
            f"{source} holds {held} weights, but the configuration is of a network of about {model.about_weights:.1e}: "
            "they do not belong together"
        )
    check_values(weights, source, "restore or remake the checkpoint")
    network = make_network(model, route=route, memory_budget=memory_budget)
    check_weights(weight_shapes(network), weights, source)
    network.load_state_dict(dict(weights))
    return network.eval()


def load_initial(network: Network, checkpoint: Checkpoint, fresh: Collection[str]) -> None:
    """Put the weights of a checkpoint into a network that goes on learning.

    Args:
        network: takes the weights.
        checkpoint: from which.
        fresh: parts of the network, ``query_encoder`` for one, that start anew; all others must fit.

    Raises:
        CheckpointError: a weight is missing, extra or misshapen and not in a fresh part, or there is no such part.
    """

    def is_fresh(name: str) -> bool:
        return any(name == part or name.startswith(f"{part}.") for part in fresh)

    shapes = weight_shapes(network)
    for part in fresh:
        if not any(name == part or name.startswith(f"{part}.") for name in shapes):
            parts = ", ".join(dict(network.named_children()))
            raise CheckpointError(
                f"--fresh {part}: the network has no such part; it has {parts}, and parts of these"
            )
    kept = {name: weight for name, weight in checkpoint.weights.items() if not is_fresh(name)}
    try:
        check_weights(
            {name: shape for name, shape in shapes.items() if not is_fresh(name)}, kept, str(checkpoint.folder)
        )
    except CheckpointError as error:
        raise CheckpointError(f"{error}; a part that must differ is named with --fresh PART") from None
    network.load_state_dict(kept, strict=False)


def weight_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight of the network."""
    return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}


def check_values(weights: Mapping[str, Tensor], source: str, remedy: str) -> None:
    """Weights are finite floating-point numbers of 16 bits or more; batch norm's counts of batches are whole.

    Raises:
        CheckpointError: naming the first that is not, and the remedy.
    """
    for name, weight in weights.items():
        counts = name.endswith("num_batches_tracked") and weight.dtype == torch.int64
        if weight.dtype not in _FLOATS and not counts:
            held = str(weight.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{source}: weight {name!r} is of type {held}, not float16, bfloat16, float32 or float64: {remedy}"
            )
        if not weight.isfinite().all():
            raise CheckpointError(f"{source}: weight {name!r} holds NaN or infinity: {remedy}")


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
