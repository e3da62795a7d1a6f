"""Import of configurations of the released code.

Source: docs/method.md, sections 9 and 11.
"""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mrnet.config.parse import parse_config
from mrnet.config.run import RunConfig
from mrnet.documents import parse_yaml
from mrnet.errors import ConfigError

# Native field -> released key and the default that the released code gives it where a file leaves it out.
_FIELDS: dict[str, tuple[str, Any]] = {
    "name": ("DATASETS.NAME", ""),
    "model.video_dim": ("MODEL.RET.FEATPOOL.INPUT_SIZE", 4096),
    "model.query_dim": ("MODEL.RET.INPUT_TEXT_DIM", 768),
    "model.num_pre_clips": ("INPUT.NUM_PRE_CLIPS", 256),
    "model.num_clips": ("MODEL.RET.NUM_CLIPS", 128),
    "model.pool_kernel": ("MODEL.RET.FEATPOOL.KERNEL_SIZE", 2),
    "model.clip_hidden": ("MODEL.RET.FEATPOOL.HIDDEN_SIZE", 512),
    "model.dim": ("MODEL.RET.JOINT_SPACE_SIZE", 256),
    "model.transformer": ("SOLVER.USE_LRTNET", True),
    "model.layers": ("SOLVER.TRANS_LAYER", 2),
    "model.heads": ("SOLVER.N_HEAD", 8),
    "model.attention_dropout": ("SOLVER.ATT_DROPOUT", None),
    "model.attention": ("SOLVER.ATT_MODE", "v"),
    "model.mask": ("SOLVER.MASK_MODE", "both"),
    "model.gamma": ("SOLVER.GAMMA", 0.98),
    "model.bidirectional": ("SOLVER.D_DOUBLE", True),
    "model.softmax": ("SOLVER.ATT_SOFTMAX", True),
    "model.pooling_counts": ("MODEL.RET.FEAT2D.POOLING_COUNTS", [15, 8, 8, 8]),
    "model.proposals": ("MODEL.RET.FEAT2D.NAME", "pool"),
    "model.head_hidden": ("MODEL.RET.PREDICTOR.HIDDEN_SIZE", 512),
    "model.head_kernel": ("MODEL.RET.PREDICTOR.KERNEL_SIZE", 5),
    "model.head_layers": ("MODEL.RET.PREDICTOR.NUM_STACK_LAYERS", 8),
    "loss.min_iou": ("MODEL.RET.LOSS.MIN_IOU", 0.3),
    "loss.max_iou": ("MODEL.RET.LOSS.MAX_IOU", 0.7),
    "loss.top_k": ("MODEL.RET.LOSS.NUM_POSTIVE_VIDEO_PROPOSAL", 1),
    "loss.margin": ("MODEL.RET.LOSS.MARGIN", 0.2),
    "loss.contrastive_weight": ("MODEL.RET.LOSS.CONTRASTIVE_WEIGHT", 0.05),
    "loss.tau_video": ("MODEL.RET.LOSS.TAU_VIDEO", 0.2),
    "loss.tau_sentence": ("MODEL.RET.LOSS.TAU_SENT", 0.2),
    "loss.negative_iou": ("MODEL.RET.LOSS.NEGATIVE_VIDEO_IOU", 0.5),
    "loss.sentence_removal_iou": ("MODEL.RET.LOSS.SENT_REMOVAL_IOU", 0.5),
    "loss.sparsity_weight": ("SOLVER.SPARSE_WEIGHT", 20.0),
    "loss.sparsity_doubling_ratio": ("SOLVER.LOSS_RATIO", 0.0),
    "decode.nms_threshold": ("TEST.NMS_THRESH", 0.5),
    "decode.score_power": ("TEST.CONTRASTIVE_SCORE_POW", 0.5),
    "train.lr": ("SOLVER.LR", 0.01),
    "train.batch_size": ("SOLVER.BATCH_SIZE", 32),
    "train.epochs": ("SOLVER.MAX_EPOCH", 12),
    "train.milestones": ("SOLVER.MILESTONES", [8, 11]),
    "train.full_loss_epochs": ("SOLVER.ONLY_IOU", 7),
}
# Keys that say where or how the released scripts ran, not what the model computes.
_IGNORED = re.compile(
    r"MODEL\.(DEVICE|ARCHITECTURE)|MODEL\.RET\.TEXT_ENCODER\.NAME|MODEL\.RET\.LOSS\.(BCE_WEIGHT|PAIRWISE_SENT_WEIGHT)"
    r"|DATASETS\.(TRAIN|TEST)|DATALOADER\.NUM_WORKERS|OUTPUT_DIR|PATHS_CATALOG|TEST\.BATCH_SIZE"
    r"|SOLVER\.(CHECKPOINT_PERIOD|TEST_PERIOD|RESUME|RESUME_EPOCH|FREEZE_BERT|SKIP_TEST)"
)
_WORDS: dict[str, dict[str, Any]] = {
    "model.attention": {"all": "all", "v": "video", "trans": "plain", "no": "off"},
    "model.mask": {"no": "none", "ret": "decay", "sparse": "sparse", "both": "both"},
    "model.proposals": {
        f"{kind}{suffix}": (kind, boundary)
        for kind in ("pool", "conv")
        for suffix, boundary in (("", "none"), ("_b", "add"), ("_c", "concat"))
    },
}
_TIOUS = {"tacos": [0.1, 0.3, 0.5]}
VIDEO_FEATURES = "MODEL.RET.VIDEO_MODE"
_RELEASED_SECTIONS = {"DATASETS", "MODEL", "SOLVER", "INPUT", "TEST", "DATALOADER"}


def import_config(released_config: Mapping[str, Any], *, modality: bool, source: str) -> RunConfig:
    """A released configuration as a native one.

    Values are what yacs, which the released code reads them with, takes them for: Python literals in strings are
    evaluated (``None``, ``(8, 13)``, ``1e-4``, a number in quotes), and where a boolean belongs, ``no``, ``off``,
    ``yes`` and ``on`` are booleans. Where a word belongs, ``no`` is that word; yacs would want it in quotes.

    Args:
        released_config: nested or dotted keys.
        modality: whether the weights are those of the form with modality matrices.
        source: for messages.

    Raises:
        ConfigError: a key or value that the released code does not know, by its released name.
    """
    given = flatten(released_config)
    known = {released for released, _ in _FIELDS.values()} | {VIDEO_FEATURES}
    for key in given:
        if key not in known and not _IGNORED.fullmatch(key):
            raise ConfigError(f"{source}: unknown key {key!r}: is this a released MRNet configuration?")
    tree: dict[str, Any] = {}
    for native, (released, default) in _FIELDS.items():
        value = given.get(released, default)
        if default is None or isinstance(default, bool):
            value = yaml.SafeLoader.bool_values.get(str(value).lower(), value)
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ConfigError(f"{source}: {released} is {value!r}, it should be true or false")
        if isinstance(value, bool) and isinstance(default, int | float | list) and not isinstance(default, bool):
            raise ConfigError(f"{source}: {released} is {value!r}, it should be something like {default!r}")
        *parents, leaf = native.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = _translated(native, value, source)

    model = tree["model"]
    model["proposals"], model["boundary"] = model["proposals"]
    model |= {
        "projections": "modality" if modality else "shared",
        "tied_initialisation": not modality,
        "zero_linear_retention": modality and not model["softmax"],
        "boundary_replaces_conv": (model["proposals"], model["boundary"]) == ("conv", "add"),
    }
    if model["attention"] == "off":
        model["mask"] = "none"  # whatever the file says: there is nothing to mask
    tree["evaluation"] = {"tious": _TIOUS.get(str(tree["name"]), [0.3, 0.5, 0.7])}
    tree["train"] |= {"protocol": "joint", "precision": "fp32"}
    try:
        return parse_config(tree, source)
    except ConfigError as error:
        message = str(error)
        for native, (released, _) in _FIELDS.items():
            message = message.replace(f"{source}: {native}", f"{source}: {released}")
        raise ConfigError(message) from None


def _translated(native: str, value: Any, source: str) -> Any:
    """A released value in native words.

    Raises:
        ConfigError: a word that the released code does not know.
    """
    if native == "name":
        return value or "released"
    if native == "model.attention_dropout":
        return 0.0 if value is None else value
    if native not in _WORDS:
        return value
    words = _WORDS[native]
    if not isinstance(value, str) or value not in words:
        released, _ = _FIELDS[native]
        raise ConfigError(f"{source}: {released} is {value!r}, the released code knows {', '.join(words)}")
    return words[value]


def read_settings(path: Path) -> dict[str, Any]:
    """The tree of a native configuration, from a file of one or from a released ``config.yml``.

    No key of a released file tells its model's form: that of TACoS is the one with projections of its own name
    (``shared``), the others are ``modality``; ``--set model.projections=...`` says otherwise.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds keys or values that the released code does not know.
    """
    tree = read_yaml(path, "a checkpoint's recipe.yaml or a released config.yml")
    if _RELEASED_SECTIONS.isdisjoint(str(key).split(".")[0] for key in tree):
        return tree
    name = str(flatten(tree).get("DATASETS.NAME", ""))
    return import_config(tree, modality=name != "tacos", source=str(path)).model_dump(mode="json")


def read_yaml(path: Path, wanted: str) -> dict[str, Any]:
    """The tree of a YAML file.

    Args:
        path: the file.
        wanted: what it should be, for messages.

    Raises:
        ConfigError: it is missing, or holds no mapping of keys.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: give {wanted} with --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"{path} is not YAML ({first_line}): give {wanted}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no mapping of keys: give {wanted}")
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A released configuration by dotted keys, with what its strings spell."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = _literal(value)
    return flat


def _literal(value: Any) -> Any:
    """What a string spells in Python, and anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value
