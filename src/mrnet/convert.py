"""Import of checkpoints and configurations of the released code.

Source: spec sections 9 to 11.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from mrnet.checkpoint import check_weights, save_checkpoint
from mrnet.config import Config, ModelConfig, parse_config
from mrnet.errors import CheckpointError, ConfigError
from mrnet.types import Provenance

# Released defaults of the keys that a released file may leave out.
_DEFAULTS: dict[str, Any] = {
    "MODEL.RET.NUM_CLIPS": 128,
    "MODEL.RET.JOINT_SPACE_SIZE": 256,
    "MODEL.RET.INPUT_TEXT_DIM": 768,
    "MODEL.RET.VIDEO_MODE": "c3d",
    "MODEL.RET.FEATPOOL.INPUT_SIZE": 4096,
    "MODEL.RET.FEATPOOL.HIDDEN_SIZE": 512,
    "MODEL.RET.FEATPOOL.KERNEL_SIZE": 2,
    "MODEL.RET.FEAT2D.NAME": "pool",
    "MODEL.RET.FEAT2D.POOLING_COUNTS": [15, 8, 8, 8],
    "MODEL.RET.PREDICTOR.HIDDEN_SIZE": 512,
    "MODEL.RET.PREDICTOR.KERNEL_SIZE": 5,
    "MODEL.RET.PREDICTOR.NUM_STACK_LAYERS": 8,
    "MODEL.RET.LOSS.MIN_IOU": 0.3,
    "MODEL.RET.LOSS.MAX_IOU": 0.7,
    "MODEL.RET.LOSS.NUM_POSTIVE_VIDEO_PROPOSAL": 1,
    "MODEL.RET.LOSS.NEGATIVE_VIDEO_IOU": 0.5,
    "MODEL.RET.LOSS.SENT_REMOVAL_IOU": 0.5,
    "MODEL.RET.LOSS.CONTRASTIVE_WEIGHT": 0.05,
    "MODEL.RET.LOSS.TAU_VIDEO": 0.2,
    "MODEL.RET.LOSS.TAU_SENT": 0.2,
    "MODEL.RET.LOSS.MARGIN": 0.2,
    "SOLVER.MAX_EPOCH": 12,
    "SOLVER.LR": 0.01,
    "SOLVER.BATCH_SIZE": 32,
    "SOLVER.MILESTONES": [8, 11],
    "SOLVER.ONLY_IOU": 7,
    "SOLVER.MASK_MODE": "both",
    "SOLVER.SPARSE_WEIGHT": 20.0,
    "SOLVER.ATT_MODE": "v",
    "SOLVER.D_DOUBLE": True,
    "SOLVER.ATT_SOFTMAX": True,
    "SOLVER.ATT_DROPOUT": None,
    "SOLVER.TRANS_LAYER": 2,
    "SOLVER.N_HEAD": 8,
    "SOLVER.GAMMA": 0.98,
    "SOLVER.USE_LRTNET": True,
    "SOLVER.LOSS_RATIO": 0.0,
    "INPUT.NUM_PRE_CLIPS": 256,
    "TEST.NMS_THRESH": 0.5,
    "TEST.CONTRASTIVE_SCORE_POW": 0.5,
    "DATASETS.NAME": "",
}
# Keys that say where or how the released scripts ran, not what the model computes.
_IGNORED = re.compile(
    r"MODEL\.(DEVICE|ARCHITECTURE)|MODEL\.RET\.TEXT_ENCODER\.NAME|MODEL\.RET\.LOSS\.(BCE_WEIGHT|PAIRWISE_SENT_WEIGHT)"
    r"|DATASETS\.(TRAIN|TEST)|DATALOADER\.NUM_WORKERS|OUTPUT_DIR|PATHS_CATALOG|TEST\.BATCH_SIZE"
    r"|SOLVER\.(CHECKPOINT_PERIOD|TEST_PERIOD|RESUME|RESUME_EPOCH|FREEZE_BERT|SKIP_TEST)"
)
_ATTENTION = {"all": "all", "v": "video", "trans": "plain", "no": "off"}
_MASK = {"no": "none", "ret": "decay", "sparse": "sparse", "both": "both"}
_PROPOSALS = {
    f"{kind}{suffix}": (kind, boundary)
    for kind in ("pool", "conv")
    for suffix, boundary in (("", "none"), ("_b", "add"), ("_c", "concat"))
}
_TIOUS = {"tacos": [0.1, 0.3, 0.5]}


def import_released(
    released_config: Mapping[str, Any], weights: Mapping[str, Tensor], source: str = "released checkpoint"
) -> tuple[Config, dict[str, Tensor]]:
    """A released configuration and state dict as native ones.

    The projection form is read off the weights: the two released model files differ in it, and no
    configuration key names it.

    Args:
        released_config: nested, as in the yacs YAML; dotted keys are accepted at any level.
        weights: under their released names.
        source: for messages.

    Raises:
        ConfigError: a key or value that the released code does not know.
        CheckpointError: a missing, extra or misshapen weight, by its released name.
    """
    config = import_config(released_config, modality=_has_modality_matrices(weights), source=source)
    renames = released_names(config.model, modality=_has_modality_matrices(weights))
    check_weights({name: rename.shape for name, rename in renames.items()}, weights, source)
    native = {
        rename.native: rename.to_native(weights[name])
        for name, rename in renames.items()
        if rename.native is not None
    }
    return config, native


def _has_modality_matrices(weights: Mapping[str, Tensor]) -> bool:
    return any(name.endswith("W_vid_Q") for name in weights)


def import_config(released_config: Mapping[str, Any], *, modality: bool, source: str) -> Config:
    """A released configuration as a native one.

    Args:
        released_config: nested or dotted keys.
        modality: whether the weights are those of the form with modality matrices.
        source: for messages.

    Raises:
        ConfigError: a key or value that the released code does not know.
    """
    given = _flatten(released_config)
    for key in given:
        if key not in _DEFAULTS and not _IGNORED.fullmatch(key):
            raise ConfigError(f"{source}: unknown key {key!r}: is this a released MRNet configuration?")
    value = {**_DEFAULTS, **given}

    def choose(key: str, table: Mapping[str, Any]) -> Any:
        if value[key] not in table:
            raise ConfigError(f"{source}: {key} is {value[key]!r}, the released code knows {', '.join(table)}")
        return table[value[key]]

    attention = choose("SOLVER.ATT_MODE", _ATTENTION)
    proposals, boundary = choose("MODEL.RET.FEAT2D.NAME", _PROPOSALS)
    ret, loss, solver = "MODEL.RET.", "MODEL.RET.LOSS.", "SOLVER."
    softmax = value[solver + "ATT_SOFTMAX"]
    dataset = str(value["DATASETS.NAME"])
    tree = {
        "name": dataset or "released",
        "model": {
            "video_dim": value[ret + "FEATPOOL.INPUT_SIZE"],
            "query_dim": value[ret + "INPUT_TEXT_DIM"],
            "num_pre_clips": value["INPUT.NUM_PRE_CLIPS"],
            "num_clips": value[ret + "NUM_CLIPS"],
            "pool_kernel": value[ret + "FEATPOOL.KERNEL_SIZE"],
            "clip_hidden": value[ret + "FEATPOOL.HIDDEN_SIZE"],
            "dim": value[ret + "JOINT_SPACE_SIZE"],
            "query_mode": "joint",
            "transformer": value[solver + "USE_LRTNET"],
            "layers": value[solver + "TRANS_LAYER"],
            "heads": value[solver + "N_HEAD"],
            "attention_dropout": value[solver + "ATT_DROPOUT"] or 0.0,
            "projections": "modality" if modality else "shared",
            "attention": attention,
            "mask": choose("SOLVER.MASK_MODE", _MASK),
            "gamma": value[solver + "GAMMA"],
            "bidirectional": value[solver + "D_DOUBLE"],
            "softmax": softmax,
            "zero_linear_retention": modality and not softmax,
            "pooling_counts": value[ret + "FEAT2D.POOLING_COUNTS"],
            "proposals": proposals,
            "boundary": boundary,
            "boundary_replaces_conv": (proposals, boundary) == ("conv", "add"),
            "head_hidden": value[ret + "PREDICTOR.HIDDEN_SIZE"],
            "head_kernel": value[ret + "PREDICTOR.KERNEL_SIZE"],
            "head_layers": value[ret + "PREDICTOR.NUM_STACK_LAYERS"],
        },
        "loss": {
            "min_iou": value[loss + "MIN_IOU"],
            "max_iou": value[loss + "MAX_IOU"],
            "top_k": value[loss + "NUM_POSTIVE_VIDEO_PROPOSAL"],
            "margin": value[loss + "MARGIN"],
            "contrastive_weight": value[loss + "CONTRASTIVE_WEIGHT"],
            "tau_video": value[loss + "TAU_VIDEO"],
            "tau_sentence": value[loss + "TAU_SENT"],
            "negative_iou": value[loss + "NEGATIVE_VIDEO_IOU"],
            "sentence_removal_iou": value[loss + "SENT_REMOVAL_IOU"],
            "sparsity_weight": value[solver + "SPARSE_WEIGHT"],
            "sparsity_doubling_ratio": value[solver + "LOSS_RATIO"],
        },
        "decode": {
            "nms_threshold": value["TEST.NMS_THRESH"],
            "score_power": value["TEST.CONTRASTIVE_SCORE_POW"],
        },
        "train": {
            "lr": value[solver + "LR"],
            "batch_size": value[solver + "BATCH_SIZE"],
            "epochs": value[solver + "MAX_EPOCH"],
            "milestones": list(value[solver + "MILESTONES"]),
            "full_loss_epochs": value[solver + "ONLY_IOU"],
        },
        "evaluation": {"tious": _TIOUS.get(dataset, [0.3, 0.5, 0.7])},
        "video_provenance": {
            "backbone": value[ret + "VIDEO_MODE"],
            "dim": value[ret + "FEATPOOL.INPUT_SIZE"],
        },
        "query_provenance": {"backbone": "released", "dim": value[ret + "INPUT_TEXT_DIM"]},
    }
    return parse_config(tree, source)


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
    """Every weight that a released checkpoint of this architecture holds. Source: spec section 10."""
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


def convert_checkpoint(checkpoint: Path, released_config: Path, out: Path) -> Config:
    """Turn a released ``.pth`` and its YAML into a native checkpoint folder.

    Raises:
        ConfigError, CheckpointError: as :func:`import_released`; or a file that is missing, damaged, or
            would need unpickling.
    """
    tree = _read_yaml(released_config)
    weights = _read_pth(checkpoint)
    config, native = import_released(tree, weights, source=str(checkpoint))
    details = {"converted_from": checkpoint.name, "released_config": released_config.name}
    assert config.video_provenance is not None
    config = config.model_copy(
        update={"video_provenance": Provenance(**{**config.video_provenance.model_dump(), "details": details})}
    )
    save_checkpoint(out, config, native)
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: give the released config.yml with --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"{path} is not YAML ({first_line}): give the released config.yml") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no mapping of keys: give the released config.yml")
    return tree


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}: give a released .pth file") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} needs unpickling of more than weights, which could run code: refused; "
            "save it again as a plain dict of tensors"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or not a PyTorch file ({first_line}): fetch it again") from None
    weights = document.get("model") if isinstance(document, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path} holds no state dict under 'model': is it a released checkpoint?")
    # A released run on several GPUs saves its weights under "module."
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
