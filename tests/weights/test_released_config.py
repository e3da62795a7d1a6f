"""Released configurations: what they say, as yacs reads it, and what is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest

from mrnet.config.parse import parse_config
from mrnet.documents import parse_yaml
from mrnet.errors import ConfigError
from mrnet.weights.native import find_run_config
from mrnet.weights.released_config import import_config, read_settings
from tests.weights.conftest import INDEX, Released, nested


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
