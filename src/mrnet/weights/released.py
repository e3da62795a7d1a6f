"""Import of checkpoints of the released code.

Source: docs/method.md, sections 10 and 11.
"""

import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrnet.config.model import ModelConfig
from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.errors import CheckpointError
from mrnet.provenance import Provenance
from mrnet.weights.native import check_values, check_weights, save_checkpoint
from mrnet.weights.released_config import VIDEO_FEATURES, flatten, import_config, read_yaml

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Released:
    """A released checkpoint in native terms.

    Attributes:
        spec: what answering needs.
        config: what it was trained with; no data paths.
        weights: native name -> weight.
    """

    spec: ModelSpec
    config: RunConfig
    weights: dict[str, Tensor]


def import_released(
    released_config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    source: str = "released checkpoint",
    config_source: str = "released configuration",
    details: Mapping[str, str] | None = None,
) -> Released:
    """A released configuration and state dict as native ones.

    The projection form is read off the weights: the two released model files differ in it, and no
    configuration key names it.

    Args:
        released_config: nested, as in the yacs YAML; dotted keys are accepted at any level.
        weights: under their released names.
        source: of the weights, for messages.
        config_source: of the configuration, for messages.
        details: what the provenance of the video features should tell besides.

    Raises:
        ConfigError: a key or value that the released code does not know.
        CheckpointError: a missing, extra or misshapen weight, or one of no finite numbers, by its released name.
    """
    modality = any(name.endswith("W_vid_Q") for name in weights)
    config = import_config(released_config, modality=modality, source=config_source)
    renames = released_names(config.model, modality=modality)
    check_weights({name: rename.shape for name, rename in renames.items()}, weights, source)
    check_values(weights, source, "fetch the file again")
    native = {
        rename.native: rename.to_native(weights[name])
        for name, rename in renames.items()
        if rename.native is not None
    }
    details = {} if details is None else dict(details)
    if config.model.transformer and config.model.zero_linear_retention:
        details["attention"] = "trained" if attention_was_trained(native) else "never trained"
    backbone = flatten(released_config).get(VIDEO_FEATURES, "c3d")
    spec = ModelSpec(
        name=config.name,
        model=config.model,
        decode=config.decode,
        query_widths={"text": config.model.query_dim},
        provenances={
            "video": Provenance(backbone=str(backbone), dim=config.model.video_dim, details=details),
            "text": Provenance(backbone="released", dim=config.model.query_dim),
        },
    )
    return Released(spec, config, native)


@dataclass(frozen=True)
class Rename:
    """Where a released weight goes.

    Attributes:
        native: native name, or ``None`` for a weight that the released forward pass never uses.
        shape: expected released shape.
        transpose: released matrices multiply from the right, native ones are Linear weights.
        native_shape: shape to reshape to, where it differs.
    """

    native: str | None
    shape: tuple[int, ...]
    transpose: bool = False
    native_shape: tuple[int, ...] | None = None

    def to_native(self, tensor: Tensor) -> Tensor:
        """The released tensor (a weight or its gradient) in native layout."""
        tensor = tensor.T if self.transpose else tensor
        return (tensor if self.native_shape is None else tensor.reshape(self.native_shape)).contiguous()


def released_names(model: ModelConfig, *, modality: bool) -> dict[str, Rename]:
    """Every weight that a released checkpoint of this architecture holds. Source: docs/method.md, section 10."""
    d, t, hidden = model.dim, model.num_clips, model.clip_hidden
    names: dict[str, Rename] = {}

    def linear(released: str, native: str | None, out_dim: int, in_dim: int, *rest: int) -> None:
        names[f"{released}.weight"] = Rename(native and f"{native}.weight", (out_dim, in_dim, *rest))
        names[f"{released}.bias"] = Rename(native and f"{native}.bias", (out_dim,))

    def norm(released: str, native: str | None, dim: int) -> None:
        names[f"{released}.weight"] = Rename(native and f"{native}.weight", (dim,))
        names[f"{released}.bias"] = Rename(native and f"{native}.bias", (dim,))

    linear("featpool.conv", "clip_encoder.reduce", hidden, model.video_dim, 1)
    linear("text_encoder.fc_out1", None, d, model.query_dim)
    linear("text_encoder.fc_out2", "query_encoder", d, model.query_dim)
    linear("text_out.fc_out1", "query_iou", d, d)
    linear("text_out.fc_out2", None, d, d)
    norm("text_out.layernorm", None, d)
    for block, in_dim in ((0, hidden), (1, d)):
        norm(f"input_vid_proj.{block}.LayerNorm", f"clip_encoder.project.{4 * block}", in_dim)
        linear(f"input_vid_proj.{block}.net.1", f"clip_encoder.project.{4 * block + 2}", d, in_dim)

    def if_used(native: str, used: bool = True) -> str | None:
        return f"transformer.{native}" if model.transformer and used else None

    attends = model.attention != "off"
    for i in range(model.layers):
        ret, native = f"trans_ret.rets.{i}", f"layers.{i}.retention"
        if modality:
            used_text = {"all": "QKV", "video": "V"}.get(model.attention, "")
            used_video = "QKV" if model.attention in ("all", "video") else ""
            for released, part, used in (("vid", "video", used_video), ("txt", "text", used_text)):
                for letter in "QKV":
                    names[f"{ret}.W_{released}_{letter}"] = Rename(
                        if_used(f"{native}.projections.{part}.{letter.lower()}.weight", letter in used),
                        (d, d),
                        transpose=True,
                    )
        else:
            for index, letter in enumerate("qkv"):
                linear(
                    f"{ret}.self_attn.linears.{index}",
                    if_used(f"{native}.projections.shared.{letter}", attends),
                    d,
                    d,
                )
        output = 0 if modality else 3
        linear(f"{ret}.self_attn.linears.{output}", if_used(f"{native}.output", attends), d, d)
        names[f"{ret}.learn_vid_ret.weight"] = Rename(
            if_used(f"{native}.sparse_logits", model.uses_sparse_mask), (t * t, 1), native_shape=(t, t)
        )
        names[f"{ret}.xpos.scale"] = Rename(None, (d // 2,))
        linear(f"trans_ret.ffns.{i}.0", if_used(f"layers.{i}.ffn.0"), model.ffn_dim, d)
        linear(f"trans_ret.ffns.{i}.2", if_used(f"layers.{i}.ffn.2"), d, model.ffn_dim)
        norm(f"trans_ret.layer_norms_1.{i}", if_used(f"layers.{i}.norm1"), d)
        norm(f"trans_ret.layer_norms_2.{i}", if_used(f"layers.{i}.norm2"), d)
    norm("trans_ret.norm", if_used("norm"), d)

    if model.proposals == "conv":
        level = 0
        for depth, count in enumerate(model.pooling_counts):
            for position in range(count):
                kernel = 3 if depth and position == 0 else 2
                native_conv = None if model.boundary_replaces_conv else f"proposal_map.convs.{level}"
                linear(f"feat2d.convs.{level}", native_conv, d, d, kernel)
                level += 1
    if model.boundary == "concat":
        linear("feat2d.vis_conv", "proposal_map.fuse", d, 3 * d, 1, 1)

    k = model.head_kernel
    for index in range(model.head_layers):
        in_dim = d if index == 0 else model.head_hidden
        linear(f"proposal_conv.convs.{index}", f"proposal_head.convs.{index}", model.head_hidden, in_dim, k, k)
        norm(f"proposal_conv.bn.{index}", f"proposal_head.norms.{index}", model.head_hidden)
        for statistic in ("running_mean", "running_var"):
            names[f"proposal_conv.bn.{index}.{statistic}"] = Rename(
                f"proposal_head.norms.{index}.{statistic}", (model.head_hidden,)
            )
        names[f"proposal_conv.bn.{index}.num_batches_tracked"] = Rename(
            f"proposal_head.norms.{index}.num_batches_tracked", ()
        )
    linear("proposal_conv.conv1x1_iou", "proposal_head.iou", d, model.head_hidden, 1, 1)
    linear("proposal_conv.conv1x1_contrastive", "proposal_head.contrastive", d, model.head_hidden, 1, 1)
    return names


def convert_checkpoint(checkpoint: Path, released_config: Path, out: Path) -> Released:
    """Turn a released ``.pth`` and its YAML into a native checkpoint folder.

    Raises:
        ConfigError, CheckpointError: as :func:`import_released`; or a file that is missing, damaged, or
            would need unpickling.
    """
    tree = read_yaml(released_config, "the released config.yml")
    weights = _read_pth(checkpoint)
    details = {"converted_from": checkpoint.name, "released_config": released_config.name}
    released = import_released(tree, weights, str(checkpoint), str(released_config), details)
    attention = released.spec.provenances["video"].details.get("attention")
    if attention is not None:
        log.info(
            "attention: %s, and zero in this model (quirk zero_linear_retention)",
            attention + (", its matrices keep the spread they began with" if attention == "never trained" else ""),
        )
    save_checkpoint(out, released.spec, released.config, released.weights)
    return released


def attention_was_trained(weights: Mapping[str, Tensor]) -> bool:
    """Whether any matrix of Q, K or V has left the spread that it begins with: mean 0, deviation 1/d.

    With the quirk ``zero_linear_retention`` no gradient reaches them, so that they keep it; of text only Q and K count,
    for its V is trained where text takes no part in attention.

    Args:
        weights: native ones of the form with modality matrices.
    """
    pattern = re.compile(r"transformer\.layers\.\d+\.retention\.projections\.(video\.[qkv]|text\.[qk])\.weight")
    return any(not _is_initial(weight) for name, weight in weights.items() if pattern.fullmatch(name))


def _is_initial(matrix: Tensor) -> bool:
    """Whether a ``(d, d)`` matrix has mean 0 and deviation 1/d, within five standard errors of either."""
    dim = len(matrix)
    scaled = matrix.double() * dim
    return abs(scaled.mean().item()) < 5 / dim and abs(scaled.std().item() - 1) < 5 / (2**0.5 * dim)


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}: give a released .pth file") from None
    if start != b"PK" and start[:1] != b"\x80":  # neither a zip archive nor the pickle of an old file
        raise CheckpointError(
            f"{path} is damaged or not a PyTorch file (it begins with {start!r}): fetch it again"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on old pickles; what matters is raised
            document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} needs unpickling of more than weights, which could run code: refused; "
            "save it again as a plain dict of tensors"
        ) from None
    except Exception:  # a damaged pickle can raise anything
        raise CheckpointError(
            f"{path} is damaged or not a PyTorch file (its content does not parse): fetch it again"
        ) from None
    weights = document.get("model") if isinstance(document, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise CheckpointError(f"{path} holds no state dict under 'model': is it a released checkpoint?")
    # A released run on several GPUs saves its weights under "module."
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}
