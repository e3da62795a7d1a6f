"""Released checkpoints through `convert_checkpoint`: the same scores, and a refusal for everything else.

The cases hold configurations and weights under their released names, with what the released code computed.
"""

import copy
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from mrnet.config.data import DataConfig
from mrnet.config.parse import parse_config
from mrnet.config.run import RunConfig
from mrnet.documents import parse_yaml
from mrnet.errors import CheckpointError, ConfigError, MRNetError, OutputError
from mrnet.provenance import Provenance
from mrnet.retrieval.trained import fuse_scores
from mrnet.weights import native as checkpoint
from mrnet.weights.native import Checkpoint, find_run_config, load_checkpoint
from mrnet.weights.released import (
    attention_was_trained,
    convert_checkpoint,
    import_config,
    import_released,
    read_settings,
)

CASES = Path(__file__).parents[1] / "parity" / "cases"
INDEX: dict[str, Any] = json.loads((CASES / "index.json").read_text(encoding="utf-8"))
UNUSED = ("text_encoder.fc_out1.", "text_out.fc_out2.", "text_out.layernorm.")
BELONG = "the weights and the configuration do not belong together"

Tree = dict[str, Any]


def nested(tree: Tree) -> Tree:
    """Dotted keys as the released YAML has them, one level each."""
    whole: Tree = {}
    for key, value in tree.items():
        node = whole
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = nested(value) if isinstance(value, dict) else value
    return whole


def tensors_of(case: str, prefix: str = "") -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in load_file(CASES / f"{case}.safetensors").items()
        if name.startswith(prefix)
    }


class Released:
    """A released checkpoint in a folder, to be spoilt and converted."""

    def __init__(self, folder: Path, case: str = "activitynet") -> None:
        self.folder = folder
        self.pth, self.yml, self.out = folder / "best.pth", folder / "config.yml", folder / "converted"
        self.config = nested(copy.deepcopy(INDEX[case]["config"]))
        self.weights = tensors_of(case, "weights.")
        self.write()

    def write(self) -> None:
        self.yml.write_text(yaml.safe_dump(self.config))
        document = {
            "model": self.weights,
            "optimizer": {"state": {0: {"step": 7, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
            "scheduler": {"milestones": {8: 1, 13: 1}, "last_epoch": 3},
            "epoch": 3,
        }
        torch.save(document, self.pth)

    def set(self, key: str, value: Any) -> None:
        *parents, leaf = key.split(".")
        node = self.config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
        self.write()

    def convert(self) -> None:
        convert_checkpoint(self.pth, self.yml, self.out)

    def converted(self) -> tuple[RunConfig, Checkpoint]:
        """What a conversion writes."""
        self.convert()
        return find_run_config(self.out), load_checkpoint(self.out)

    def refusal(self, kind: type[MRNetError]) -> str:
        """The one-line message of a conversion that fails and leaves nothing behind."""
        before = sorted(self.folder.rglob("*"))
        with pytest.raises(kind) as caught:
            self.convert()
        assert sorted(self.folder.rglob("*")) == before
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)


@pytest.fixture
def released(tmp_path: Path) -> Released:
    return Released(tmp_path)


class TestConversion:
    @pytest.mark.parametrize("case", sorted(INDEX))
    def test_the_released_scores(self, tmp_path: Path, case: str) -> None:
        released = Released(tmp_path, case)
        config, checkpoint = released.converted()
        model = checkpoint.build()

        expected = tensors_of(case)
        query_features = [expected[f"input.query_features.{i}"] for i in range(3)]
        queries = torch.nn.utils.rnn.pad_sequence(query_features, batch_first=True)
        counts = torch.tensor([len(rows) for rows in query_features])
        mask = torch.arange(queries.shape[1]) < counts[:, None]
        with torch.no_grad():
            embeddings = model(expected["input.video_features"], queries, mask, "joint")
            iou, contrastive = embeddings.iou_logits().sigmoid(), embeddings.contrastive_scores()
        fused = fuse_scores(iou, contrastive, config.decode.score_power)
        assert torch.equal(model.valid, expected["eval.valid_mask"].bool())
        for name, actual in (("iou", iou), ("contrastive", contrastive), ("fused", fused)):
            wanted = torch.cat([expected[f"eval.{name}_scores.{i}"] for i in range(3)])
            torch.testing.assert_close(actual, wanted[:, model.valid], atol=1e-5, rtol=0)
            assert (wanted[:, ~model.valid] == 0).all()

    def test_the_settings(self, released: Released) -> None:
        config, checkpoint = released.converted()
        assert config.name == checkpoint.spec.name == "activitynet"
        assert (checkpoint.spec.model, checkpoint.spec.decode) == (config.model, config.decode)
        assert (config.train.protocol, config.train.precision) == ("joint", "fp32")
        assert (config.model.projections, config.model.attention, config.model.mask) == ("modality", "all", "both")
        assert not config.model.tied_initialisation
        assert (config.model.layers, config.model.heads, config.model.gamma) == (2, 4, 0.98)
        assert (config.model.dim, config.model.clip_hidden, config.model.head_hidden) == (32, 40, 24)
        assert config.model.pooling_counts == [3, 2, 2]
        assert (config.loss.margin, config.loss.contrastive_weight, config.loss.top_k) == (0.3, 0.1, 1)
        assert (config.loss.sparsity_weight, config.loss.sparsity_doubling_ratio) == (10.0, 0.15)
        assert config.loss.sparsity_per_video
        assert (config.decode.nms_threshold, config.decode.score_power) == (0.5, 0.5)
        assert config.evaluation.tious == [0.3, 0.5, 0.7]

    def test_where_it_came_from_is_kept(self, released: Released) -> None:
        spec = released.converted()[1].spec
        assert spec.query_widths == {"text": 24}
        assert spec.provenances == {
            "video": Provenance(
                backbone="c3d",
                dim=20,
                details={"converted_from": "best.pth", "released_config": "config.yml"},
            ),
            "text": Provenance(backbone="released", dim=24),
        }

    def test_no_path_of_its_maker(self, released: Released) -> None:
        released.set("DATASETS.TRAIN", [f"{released.folder}/train.json"])
        released.set("OUTPUT_DIR", str(released.folder))
        released.convert()
        files = sorted(released.out.iterdir())
        assert [file.name for file in files] == ["model.safetensors", "mrnet.json", "recipe.yaml"]
        assert [file.name for file in files if str(released.folder).encode() in file.read_bytes()] == []

    def test_the_same_without_files(self, released: Released) -> None:
        config, saved = released.converted()
        imported = import_released(released.config, released.weights)
        assert imported.config == config
        assert imported.config.data == DataConfig()
        assert imported.weights.keys() == saved.weights.keys()
        assert all(torch.equal(tensor, saved.weights[name]) for name, tensor in imported.weights.items())
        video = imported.spec.provenances["video"]
        assert video.details == {}
        details = saved.spec.provenances["video"].details
        given = imported.spec.provenances | {"video": video.model_copy(update={"details": details})}
        assert imported.spec.model_copy(update={"provenances": given}) == saved.spec

    def test_the_features_it_names(self, released: Released) -> None:
        released.set("MODEL.RET.VIDEO_MODE", "i3d")
        assert import_released(released.config, released.weights).spec.provenances["video"].backbone == "i3d"

    def test_the_released_charades_file_attends_to_nothing(self, tmp_path: Path) -> None:
        released = Released(tmp_path, "charades_released")
        config, _ = released.converted()
        assert (config.model.attention, config.model.softmax) == ("video", False)
        assert config.model.zero_linear_retention

    @pytest.mark.parametrize("dim", [32, 256])
    @pytest.mark.parametrize(
        ("trained", "matrix"),
        [
            (False, None),
            (False, "text.v"),
            (True, "video.q"),
            (True, "video.k"),
            (True, "video.v"),
            (True, "text.q"),
        ],
    )
    def test_attention_that_was_never_trained_keeps_its_spread(
        self, dim: int, trained: bool, matrix: str | None
    ) -> None:
        generator = torch.Generator().manual_seed(dim)
        weights = {
            f"transformer.layers.{layer}.retention.projections.{kind}.{letter}.weight": torch.randn(
                dim, dim, generator=generator
            )
            / dim
            for layer in range(4)
            for kind in ("video", "text")
            for letter in "qkv"
        }
        weights["transformer.layers.0.retention.output.weight"] = torch.ones(dim, dim)
        if matrix is not None:  # as much as its own size, in one layer
            changed = weights[f"transformer.layers.2.retention.projections.{matrix}.weight"]
            changed += torch.randn(dim, dim, generator=generator) / dim
        assert attention_was_trained(weights) == trained

    @pytest.mark.parametrize("trained", [False, True])
    def test_whether_attention_was_trained_is_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, trained: bool
    ) -> None:
        released = Released(tmp_path, "charades_released")
        generator = torch.Generator().manual_seed(0)
        for name, weight in released.weights.items():
            if "W_vid_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * (0.1 if trained else 1 / 32))
        released.write()
        with caplog.at_level("INFO", logger="mrnet"):
            _, checkpoint = released.converted()
        if trained:
            said = "attention: trained, and zero in this model (quirk zero_linear_retention)"
        else:
            said = (
                "attention: never trained, its matrices keep the spread they began with, and zero in this model "
                "(quirk zero_linear_retention)"
            )
        noted = checkpoint.spec.provenances["video"].details["attention"]
        assert noted == ("trained" if trained else "never trained")
        assert caplog.messages == [said]

    def test_shared_projections_are_read_off_the_weights(self, tmp_path: Path) -> None:
        released = Released(tmp_path, "tacos")
        config, checkpoint = released.converted()
        assert (config.model.projections, config.model.tied_initialisation) == ("shared", True)
        assert config.evaluation.tious == [0.1, 0.3, 0.5]
        released_query = released.weights["trans_ret.rets.0.self_attn.linears.0.weight"]
        name = "transformer.layers.0.retention.projections.shared.q.weight"
        assert torch.equal(checkpoint.weights[name], released_query)

    def test_modality_matrices_are_transposed(self, released: Released) -> None:
        _, checkpoint = released.converted()
        turned = released.weights["trans_ret.rets.1.W_txt_K"].T
        assert torch.equal(checkpoint.weights["transformer.layers.1.retention.projections.text.k.weight"], turned)

    def test_weights_of_several_gpus(self, released: Released, tmp_path: Path) -> None:
        released.convert()
        (tmp_path / "several").mkdir()
        other = Released(tmp_path / "several")
        other.weights = {f"module.{name}": tensor for name, tensor in other.weights.items()}
        other.write()
        other.convert()
        assert (other.out / "model.safetensors").read_bytes() == (released.out / "model.safetensors").read_bytes()

    def test_the_format_of_older_pytorch(self, released: Released) -> None:
        torch.save({"model": released.weights}, released.pth, _use_new_zipfile_serialization=False)
        bias = released.converted()[1].weights["query_encoder.bias"]
        assert torch.equal(bias, released.weights["text_encoder.fc_out2.bias"])

    def test_dotted_keys_at_the_top(self, released: Released) -> None:
        released.config = INDEX["activitynet"]["config"]
        released.write()
        assert released.converted()[0].name == "activitynet"

    def test_keys_about_where_it_ran_are_passed_over(self, released: Released) -> None:
        released.config["MODEL"]["DEVICE"] = "cuda"
        released.config["DATASETS"]["TRAIN"] = ["activitynet_train"]
        released.config |= {"OUTPUT_DIR": ".", "DATALOADER": {"NUM_WORKERS": 4}}
        released.set("SOLVER.CHECKPOINT_PERIOD", 1)
        assert released.converted()[0].model.layers == 2


class TestReleasedDefaults:
    def test_what_a_tacos_file_leaves_out(self) -> None:
        given = nested(copy.deepcopy(INDEX["tacos"]["config"]))
        del given["MODEL"]["RET"]["INPUT_TEXT_DIM"], given["SOLVER"]["LOSS_RATIO"], given["SOLVER"]["USE_LRTNET"]
        config = import_config(given, modality=False, source="tacos")
        assert config.model.query_dim == 768
        assert config.loss.sparsity_doubling_ratio == 0.0
        assert config.model.transformer is True
        assert config.model.attention_dropout == 0.0

    def test_solver_settings(self) -> None:
        given = nested(copy.deepcopy(INDEX["tacos"]["config"]))
        given["SOLVER"] |= {
            "LR": 0.0015, "BATCH_SIZE": 2, "MAX_EPOCH": 250, "MILESTONES": [130, 190], "ONLY_IOU": 100,
            "ATT_DROPOUT": 0.1,
        }  # fmt: skip
        config = import_config(given, modality=False, source="tacos")
        assert (config.train.lr, config.train.batch_size, config.train.epochs) == (0.0015, 2, 250)
        assert (config.train.milestones, config.train.full_loss_epochs) == ([130, 190], 100)
        assert config.model.attention_dropout == 0.1

    @pytest.mark.parametrize(
        ("name", "proposals", "boundary", "dropped"),
        [
            ("pool", "pool", "none", False),
            ("pool_b", "pool", "add", False),
            ("pool_c", "pool", "concat", False),
            ("conv", "conv", "none", False),
            ("conv_b", "conv", "add", True),
            ("conv_c", "conv", "concat", False),
        ],
    )
    def test_proposal_kinds(self, name: str, proposals: str, boundary: str, dropped: bool) -> None:
        given = nested(copy.deepcopy(INDEX["activitynet"]["config"]))
        given["MODEL"]["RET"]["FEAT2D"]["NAME"] = name
        model = import_config(given, modality=True, source="x").model
        assert (model.proposals, model.boundary, model.boundary_replaces_conv) == (proposals, boundary, dropped)

    def test_its_training(self) -> None:
        config = import_config({}, modality=True, source="x")
        assert (config.train.protocol, config.train.precision, config.train.seed) == ("joint", "fp32", 0)
        assert config.name == "released"


class TestReadSettings:
    """`--config` takes a file of ours and a released one alike."""

    @pytest.mark.parametrize(("case", "projections"), [("activitynet", "modality"), ("tacos", "shared")])
    def test_a_released_file_by_the_name_of_its_dataset(self, tmp_path: Path, case: str, projections: str) -> None:
        released = Released(tmp_path, case)
        config = parse_config(read_settings(released.yml), source="x")
        assert config == import_config(released.config, modality=projections == "modality", source="x")
        assert (config.name, config.model.projections) == (case, projections)
        assert config.model.tied_initialisation == (projections == "shared")
        assert (config.train.protocol, config.train.precision) == ("joint", "fp32")

    @pytest.mark.parametrize(
        ("line", "name", "projections", "lr"),
        [("DATASETS.NAME: tacos", "tacos", "shared", 0.01), ("SOLVER.LR: 0.5", "released", "modality", 0.5)],
    )
    def test_one_dotted_key_tells_a_released_file(
        self, tmp_path: Path, line: str, name: str, projections: str, lr: float
    ) -> None:
        (tmp_path / "config.yml").write_text(line)
        settings = read_settings(tmp_path / "config.yml")
        assert (settings["name"], settings["model"]["projections"]) == (name, projections)
        assert settings["train"]["lr"] == lr

    def test_the_recipe_of_a_checkpoint(self, released: Released) -> None:
        released.convert()
        tree = read_settings(released.out / "recipe.yaml")
        assert parse_config(tree, source="x") == find_run_config(released.out)

    def test_a_native_file_is_left_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("{model: {mask: no, layers: 3}, 1: x}")
        assert read_settings(tmp_path / "mine.yaml") == {"model": {"mask": "no", "layers": 3}, 1: "x"}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, ": No such file or directory: give {} with --config"),
            ("[1]", " holds no mapping of keys: give {}"),
            ("a: [1", " is not YAML (expected ',' or ']', but got '<stream end>', line 1): give {}"),
        ],
    )
    def test_not_a_file_of_settings(self, tmp_path: Path, content: str | None, message: str) -> None:
        path = tmp_path / "mine.yaml"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError) as caught:
            read_settings(path)
        wanted = "a checkpoint's recipe.yaml or a released config.yml"
        assert str(caught.value) == f"{path}{message.format(wanted)}"

    def test_a_key_that_the_released_code_does_not_know(self, released: Released) -> None:
        released.set("SOLVER.FOO", 1)
        with pytest.raises(ConfigError) as caught:
            read_settings(released.yml)
        assert str(caught.value) == (
            f"{released.yml}: unknown key 'SOLVER.FOO': is this a released MRNet configuration?"
        )


class TestWeightsThatDoNotFit:
    def test_missing(self, released: Released) -> None:
        del released.weights["trans_ret.rets.0.W_vid_Q"]
        released.write()
        assert released.refusal(CheckpointError) == (
            f"{released.pth} has no weight 'trans_ret.rets.0.W_vid_Q': {BELONG}"
        )

    @pytest.mark.parametrize("prefix", UNUSED)
    def test_missing_though_unused(self, released: Released, prefix: str) -> None:
        del released.weights[f"{prefix}bias"]
        released.write()
        assert released.refusal(CheckpointError) == f"{released.pth} has no weight '{prefix}bias': {BELONG}"

    def test_extra(self, released: Released) -> None:
        released.weights["stray.weight"] = torch.zeros(1)
        released.write()
        assert released.refusal(CheckpointError) == (
            f"{released.pth} has an unexpected weight 'stray.weight': {BELONG}"
        )

    def test_misshapen(self, released: Released) -> None:
        released.weights["featpool.conv.weight"] = torch.zeros(40, 21, 1)
        released.write()
        assert released.refusal(CheckpointError) == (
            f"{released.pth}: weight 'featpool.conv.weight' has shape [40, 21, 1], the configuration needs "
            "[40, 20, 1]"
        )

    def test_fewer_layers_than_the_configuration(self, released: Released) -> None:
        released.set("SOLVER.TRANS_LAYER", 3)
        assert released.refusal(CheckpointError) == (
            f"{released.pth} has no weight 'trans_ret.rets.2.W_vid_Q' and 17 more: {BELONG}"
        )

    def test_other_clips_than_the_configuration(self, released: Released) -> None:
        released.config["INPUT"]["NUM_PRE_CLIPS"] = 64
        released.set("MODEL.RET.NUM_CLIPS", 32)
        assert released.refusal(CheckpointError) == (
            f"{released.pth}: weight 'trans_ret.rets.0.learn_vid_ret.weight' has shape [256, 1], the "
            "configuration needs [1024, 1]"
        )

    def test_no_weights_at_all(self, released: Released) -> None:
        released.weights = {}
        released.write()
        assert released.refusal(CheckpointError).startswith(
            f"{released.pth} has no weight 'featpool.conv.weight' and "
        )

    @pytest.mark.parametrize(
        "document",
        [{"state_dict": {}}, torch.zeros(3), [1], {"model": 3}, {"model": {"a": 3}}, {"model": {"a": {}}}],
        ids=["other key", "tensor", "list", "number", "numbers", "nested"],
    )
    def test_no_state_dict(self, released: Released, document: Any) -> None:
        torch.save(document, released.pth)
        assert released.refusal(CheckpointError) == (
            f"{released.pth} holds no state dict under 'model': is it a released checkpoint?"
        )

    def test_names_that_are_numbers(self, released: Released) -> None:
        torch.save({"model": {1: torch.zeros(1)}}, released.pth)
        assert "holds no state dict under 'model'" in released.refusal(CheckpointError)


class TestConfigurationAsYacsReadsIt:
    @pytest.mark.parametrize(
        ("released_key", "spelt", "key", "value"),
        [
            ("SOLVER.MILESTONES", "(8, 13)", "train.milestones", [8, 13]),
            ("SOLVER.MILESTONES", "'[8, 13]'", "train.milestones", [8, 13]),
            ("SOLVER.MILESTONES", "8, 13", "train.milestones", [8, 13]),
            ("MODEL.RET.FEAT2D.POOLING_COUNTS", "(15, 8, 8)", "model.pooling_counts", [15, 8, 8]),
            ("SOLVER.TRANS_LAYER", "'4'", "model.layers", 4),
            ("SOLVER.LR", "1e-4", "train.lr", 1e-4),  # a string in YAML 1.1
            ("SOLVER.LR", "'0.0015'", "train.lr", 0.0015),
            ("SOLVER.ATT_DROPOUT", "None", "model.attention_dropout", 0.0),
            ("SOLVER.ATT_DROPOUT", "no", "model.attention_dropout", 0.0),
            ("SOLVER.ATT_DROPOUT", "'0.1'", "model.attention_dropout", 0.1),
            ("SOLVER.D_DOUBLE", "no", "model.bidirectional", False),
            ("SOLVER.D_DOUBLE", "'False'", "model.bidirectional", False),
            ("SOLVER.D_DOUBLE", "on", "model.bidirectional", True),
            ("SOLVER.USE_LRTNET", "OFF", "model.transformer", False),
            ("SOLVER.MASK_MODE", "'no'", "model.mask", "none"),
            ("SOLVER.MASK_MODE", "no", "model.mask", "none"),  # yacs would refuse it
            ("SOLVER.ATT_MODE", "v", "model.attention", "video"),
            ("DATASETS.NAME", "tacos", "name", "tacos"),
        ],
    )
    def test_value(self, released_key: str, spelt: str, key: str, value: Any) -> None:
        found: Any = self.read(released_key, spelt).model_dump()
        for part in key.split("."):
            found = found[part]
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("released_key", "spelt", "message"),
        [
            ("SOLVER.D_DOUBLE", "1", "SOLVER.D_DOUBLE is 1, it should be true or false"),
            ("SOLVER.D_DOUBLE", "None", "SOLVER.D_DOUBLE is None, it should be true or false"),
            ("SOLVER.LR", "True", "SOLVER.LR is True, it should be something like 0.01"),
            ("SOLVER.TRANS_LAYER", "true", "SOLVER.TRANS_LAYER is True, it should be something like 2"),
            ("SOLVER.TRANS_LAYER", "4.0", "SOLVER.TRANS_LAYER: Input should be a valid integer, got 4.0"),
            ("SOLVER.MILESTONES", "'8'", "SOLVER.MILESTONES: Input should be a valid list, got 8"),
        ],
    )
    def test_refused(self, released_key: str, spelt: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            self.read(released_key, spelt)
        assert str(caught.value) == f"config.yml: {message}"

    @staticmethod
    def read(key: str, spelt: str) -> Any:
        return import_config(parse_yaml(f"{key}: {spelt}"), modality=True, source="config.yml")


class TestSettingsFromAFile:
    def test_a_native_file_is_taken_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("name: mine\nmodel: {attention: off, mask: no}\ntrain: {lr: 1.0e-3}\n")
        assert read_settings(path) == {
            "name": "mine",
            "model": {"attention": "off", "mask": "no"},
            "train": {"lr": 0.001},
        }

    @pytest.mark.parametrize(
        ("name", "projections"), [("tacos", "shared"), ("charades", "modality"), ("activitynet", "modality")]
    )
    def test_a_released_file(self, tmp_path: Path, name: str, projections: str) -> None:
        path = tmp_path / "config.yml"
        path.write_text(
            f"DATASETS: {{NAME: {name}}}\nINPUT: {{NUM_PRE_CLIPS: 256}}\n"
            "SOLVER:\n  MILESTONES: (8, 13)\n  ATT_DROPOUT: None\n  D_DOUBLE: no\n  ATT_MODE: all\n"
        )
        settings = read_settings(path)
        assert settings["name"] == name
        assert settings["train"]["milestones"] == [8, 13]
        assert settings["train"]["protocol"] == "joint"
        assert (settings["model"]["attention_dropout"], settings["model"]["bidirectional"]) == (0.0, False)
        assert settings["model"]["projections"] == projections
        assert settings["model"]["tied_initialisation"] == (projections == "shared")

    def test_a_released_file_with_an_unknown_key(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yml"
        path.write_text("SOLVER.FOO: 1\n")
        with pytest.raises(ConfigError) as caught:
            read_settings(path)
        assert str(caught.value) == f"{path}: unknown key 'SOLVER.FOO': is this a released MRNet configuration?"

    def test_keys_that_are_numbers(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("1: 2\n")
        assert read_settings(path) == {1: 2}


class TestConfigurationThatDoesNotFit:
    """Which file to mend is part of a message: here it is the YAML."""

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("SOLVER.FOO", 1, "unknown key 'SOLVER.FOO': is this a released MRNet configuration?"),
            ("MODEL.RETT.X", 1, "unknown key 'MODEL.RETT.X': is this a released MRNet configuration?"),
            ("SOLVER", 3, "unknown key 'SOLVER': is this a released MRNet configuration?"),
            (
                "SOLVER.ATT_MODE",
                "sideways",
                "SOLVER.ATT_MODE is 'sideways', the released code knows all, v, trans, no",
            ),
            ("SOLVER.ATT_MODE", None, "SOLVER.ATT_MODE is None, the released code knows all, v, trans, no"),
            (
                "SOLVER.MASK_MODE",
                False,
                "SOLVER.MASK_MODE is False, the released code knows no, ret, sparse, both",
            ),
            (
                "MODEL.RET.FEAT2D.NAME",
                "poool",
                "MODEL.RET.FEAT2D.NAME is 'poool', the released code knows pool, pool_b, pool_c, conv, conv_b, "
                "conv_c",
            ),
            ("SOLVER.N_HEAD", 5, "model: dim 32 must be even and a multiple of heads (5)"),
        ],
    )
    def test_refused(self, released: Released, key: str, value: Any, message: str) -> None:
        released.set(key, value)
        assert released.refusal(ConfigError).endswith(f": {message}")

    def test_the_message_names_the_configuration(self, released: Released) -> None:
        released.set("SOLVER.ATT_MODE", "sideways")
        assert released.refusal(ConfigError).startswith(f"{released.yml}: ")

    def test_the_message_names_the_released_key(self, released: Released) -> None:
        released.set("SOLVER.GAMMA", 2)
        assert released.refusal(ConfigError) == (
            f"{released.yml}: SOLVER.GAMMA: Input should be less than or equal to 1, got 2"
        )

    @pytest.mark.parametrize(
        ("key", "value"),
        [("SOLVER.ATT_MODE", ["all"]), ("SOLVER.MILESTONES", 8), ("SOLVER.MILESTONES", None)],
    )
    def test_values_of_another_type(self, released: Released, key: str, value: Any) -> None:
        released.set(key, value)
        assert key in released.refusal(ConfigError)

    def test_a_quoted_boolean(self, tmp_path: Path) -> None:
        released = Released(tmp_path, "charades_released")
        released.set("SOLVER.ATT_SOFTMAX", "False")
        assert released.converted()[0].model.zero_linear_retention

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", " holds no mapping of keys: give the released config.yml"),
            (b"- 1", " holds no mapping of keys: give the released config.yml"),
            (b"a text", " holds no mapping of keys: give the released config.yml"),
            (
                b"a: [1",
                " is not YAML (expected ',' or ']', but got '<stream end>', line 1): give the released config.yml",
            ),
            (
                b"a: !!python/object/apply:os.getcwd []",
                " is not YAML (could not determine a constructor for the tag "
                "'tag:yaml.org,2002:python/object/apply:os.getcwd', line 1): give the released config.yml",
            ),
            (
                b"\xff\xfe",
                " is not YAML ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte): give the "
                "released config.yml",
            ),
        ],
    )
    def test_not_a_configuration(self, released: Released, content: bytes, message: str) -> None:
        released.yml.write_bytes(content)
        assert released.refusal(ConfigError) == f"{released.yml}{message}"

    def test_missing(self, released: Released) -> None:
        released.yml.unlink()
        assert released.refusal(ConfigError) == (
            f"{released.yml}: No such file or directory: give the released config.yml with --config"
        )

    def test_a_folder(self, released: Released) -> None:
        released.yml = released.folder
        assert released.refusal(ConfigError) == (
            f"{released.folder}: Is a directory: give the released config.yml with --config"
        )


class Marker:
    """Unpickling it creates a file: what a hostile checkpoint could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


class TestFilesThatAreNotCheckpoints:
    @pytest.mark.parametrize("where", ["beside", "weights"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_is_refused_and_not_run(self, released: Released, where: str, zipped: bool) -> None:
        touched = released.folder / "touched"
        hostile = Marker(touched)
        pickle.loads(pickle.dumps(hostile))  # it would work
        assert touched.exists()
        touched.unlink()
        document = {"model": released.weights, "epoch": hostile} if where == "beside" else {"model": hostile}
        torch.save(document, released.pth, _use_new_zipfile_serialization=zipped)
        assert released.refusal(CheckpointError) == (
            f"{released.pth} needs unpickling of more than weights, which could run code: refused; save it again "
            "as a plain dict of tensors"
        )
        assert not touched.exists()

    @pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
    def test_truncated(self, released: Released, keep: float) -> None:
        whole = released.pth.read_bytes()
        released.pth.write_bytes(whole[: int(len(whole) * keep) if 0 < keep < 1 else int(keep)])
        text = released.refusal(CheckpointError)
        assert text.startswith(f"{released.pth} is damaged or not a PyTorch file (")
        assert text.endswith("): fetch it again")

    @pytest.mark.parametrize(
        "keep",
        [
            1000,
            100,
            0.5,
            -1,
        ],
    )
    def test_truncated_file_of_older_pytorch(self, released: Released, keep: float) -> None:
        held = io.BytesIO()
        torch.save({"model": released.weights}, held, _use_new_zipfile_serialization=False)
        whole = held.getvalue()
        released.pth.write_bytes(whole[: int(len(whole) * keep) if 0 < keep < 1 else int(keep)])
        assert released.refusal(CheckpointError).endswith("): fetch it again")

    @pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04" + bytes(100), bytes(1000)])
    def test_something_else(self, released: Released, content: bytes) -> None:
        released.pth.write_bytes(content)
        text = released.refusal(CheckpointError)
        assert text.startswith(f"{released.pth} is damaged or not a PyTorch file (")

    @pytest.mark.parametrize(
        "content", [b"<html>Not found</html>", b"<!DOCTYPE html>\n<html></html>", b"version https://git-lfs\n"]
    )
    def test_text_is_not_called_a_pickle(self, released: Released, content: bytes) -> None:
        released.pth.write_bytes(content)
        text = released.refusal(CheckpointError)
        assert text.startswith(f"{released.pth} is damaged or not a PyTorch file (")

    def test_no_advice_to_unpickle(self, released: Released) -> None:
        released.pth.write_bytes(bytes(1000))
        assert "weights_only" not in released.refusal(CheckpointError)

    def test_a_pickle_is_refused_without_warnings(
        self, released: Released, recwarn: pytest.WarningsRecorder
    ) -> None:
        released.pth.write_bytes(pickle.dumps({"model": 1}, protocol=4))
        assert released.refusal(CheckpointError).startswith(f"{released.pth} ")
        assert [str(warning.message) for warning in recwarn] == []

    def test_missing(self, released: Released) -> None:
        released.pth.unlink()
        assert released.refusal(CheckpointError) == (
            f"{released.pth}: No such file or directory: give a released .pth file"
        )

    def test_a_folder(self, released: Released) -> None:
        released.pth = released.folder
        assert released.refusal(CheckpointError) == (
            f"{released.folder}: Is a directory: give a released .pth file"
        )


class TestOut:
    @pytest.mark.parametrize("name", ["converted", "converted/notes.txt"])
    def test_taken(self, released: Released, name: str) -> None:
        taken = released.folder / name
        taken.parent.mkdir(exist_ok=True)
        taken.write_text("mine")
        assert released.refusal(OutputError) == (
            f"{released.out} already exists and is not empty: choose another place or remove it"
        )
        assert taken.read_text() == "mine"

    def test_twice(self, released: Released) -> None:
        released.convert()
        assert released.refusal(OutputError) == (
            f"{released.out} already exists and is not empty: choose another place or remove it"
        )

    def test_an_empty_folder_will_do(self, released: Released) -> None:
        released.out.mkdir()
        assert released.converted()[0].name == "activitynet"

    def test_below_a_file(self, released: Released) -> None:
        released.out = released.yml / "converted"
        assert released.refusal(OutputError) == (
            f"{released.out}: cannot be written (File exists); choose another place"
        )

    def test_nothing_half_written(self, released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(directory: Path, *rest: object) -> None:  # noqa: ARG001
            (directory / "model.safetensors").write_bytes(b"half")
            raise CheckpointError("disk full")

        monkeypatch.setattr(checkpoint, "write_checkpoint", fail)
        assert released.refusal(CheckpointError) == "disk full"
        assert sorted(path.name for path in released.folder.iterdir()) == ["best.pth", "config.yml"]
