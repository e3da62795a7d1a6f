"""Recipes, overrides and the words of every refusal."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.fx.experimental._config

from mrnet.config import (
    DecodeConfig,
    ModelConfig,
    ModelSpec,
    RunConfig,
    apply_overrides,
    complete,
    load_recipe,
    parse_config,
    parse_spec,
    recipe_names,
)
from mrnet.errors import ConfigError
from mrnet.features.registry import make_backbone
from mrnet.model.ensemble import make_network, members_of
from mrnet.provenance import Provenance

ALL = {
    "activitynet", "activitynet-speech", "charades", "charades-c3d", "charades-speech", "charades-vgg",
    "clip-small", "demo", "mrnet-plus", "mrnet-small", "qvhighlights", "tacos", "tacos-speech",
}  # fmt: skip

# Spec section 9, typed in by hand: joint width, hidden, query width, temperatures, the two IoUs and heads
# are those of every benchmark.
COMMON: dict[str, Any] = {
    "model.dim": 256,
    "model.clip_hidden": 512,
    "model.head_hidden": 512,
    "model.query_dim": 768,
    "model.heads": 8,
    "model.ffn_dim": 1024,
    "model.clip_dropout": 0.5,
    "model.dropout": 0.1,
    "model.mask": "both",
    "model.bidirectional": True,
    "model.transformer": True,
    "model.doubled_diagonal": True,
    "model.text_positions": True,
    "model.zero_linear_retention": False,
    "model.proposals": "pool",
    "model.boundary": "none",
    "loss.tau_video": 0.1,
    "loss.tau_sentence": 0.1,
    "loss.negative_iou": 0.5,
    "loss.sentence_removal_iou": 0.5,
    "loss.sparsity_per_video": True,
    "train.protocol": "single",
    "train.betas": (0.9, 0.99),
    "train.weight_decay": 1e-5,
    "train.grad_clip": 5.0,
    "evaluation.metrics": "recall",
    "evaluation.ranks": [1, 5],
}
RELEASED: dict[str, dict[str, Any]] = {
    "activitynet": {
        "name": "activitynet",
        "model.video_dim": 500,
        "model.num_pre_clips": 256,
        "model.num_clips": 64,
        "model.pool_kernel": 4,
        "model.pooling_counts": [15, 8, 8],
        "model.head_kernel": 9,
        "model.head_layers": 4,
        "loss.min_iou": 0.5,
        "loss.max_iou": 1.0,
        "loss.top_k": 1,
        "loss.margin": 0.3,
        "loss.contrastive_weight": 0.1,
        "train.lr": 8e-4,
        "train.batch_size": 12,
        "train.epochs": 15,
        "train.milestones": [7, 15],
        "train.full_loss_epochs": 6,
        "model.layers": 2,
        "model.gamma": 0.98,
        "loss.sparsity_weight": 10.0,
        "loss.sparsity_doubling_ratio": 0.15,
        "model.attention": "all",
        "model.softmax": True,
        "model.attention_dropout": 0.0,
        "model.projections": "modality",
        "model.tied_initialisation": False,
        "decode.nms_threshold": 0.5,
        "decode.score_power": 0.5,
        "evaluation.tious": [0.3, 0.5, 0.7],
    },
    "charades": {
        "name": "charades",
        "model.video_dim": 1024,
        "model.num_pre_clips": 128,
        "model.num_clips": 64,
        "model.pool_kernel": 2,
        "model.pooling_counts": [15, 8, 8],
        "model.head_kernel": 17,
        "model.head_layers": 2,
        "loss.min_iou": 0.5,
        "loss.max_iou": 1.0,
        "loss.top_k": 1,
        "loss.margin": 0.4,
        "loss.contrastive_weight": 0.05,
        "train.lr": 1e-4,
        "train.batch_size": 12,
        "train.epochs": 25,
        "train.milestones": [8, 13],
        "train.full_loss_epochs": 7,
        "model.layers": 4,
        "model.gamma": 0.98,
        "loss.sparsity_weight": 10.0,
        "loss.sparsity_doubling_ratio": 0.0,
        "model.attention": "video",
        "model.softmax": False,
        "model.attention_dropout": 0.0,
        "model.projections": "modality",
        "model.tied_initialisation": False,
        "decode.nms_threshold": 0.5,
        "decode.score_power": 0.5,
        "evaluation.tious": [0.3, 0.5, 0.7],
    },
    "tacos": {
        "name": "tacos",
        "model.video_dim": 500,
        "model.num_pre_clips": 512,
        "model.num_clips": 128,
        "model.pool_kernel": 4,
        "model.pooling_counts": [15, 8, 8, 8],
        "model.head_kernel": 5,
        "model.head_layers": 3,
        "loss.min_iou": 0.3,
        "loss.max_iou": 0.7,
        "loss.top_k": 3,
        "loss.margin": 0.1,
        "loss.contrastive_weight": 0.1,
        "train.lr": 1.5e-3,
        "train.batch_size": 2,
        "train.epochs": 250,
        "train.milestones": [130, 190],
        "train.full_loss_epochs": 100,
        "model.layers": 1,
        "model.gamma": 0.999,
        "loss.sparsity_weight": 20.0,
        "loss.sparsity_doubling_ratio": 0.0,
        "model.attention": "all",
        "model.softmax": True,
        "model.attention_dropout": 0.1,
        "model.projections": "shared",
        "model.tied_initialisation": True,
        "decode.nms_threshold": 0.4,
        "decode.score_power": 0.3,
        "evaluation.tious": [0.1, 0.3, 0.5],
    },
}


def field(config: RunConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def refusal(*overrides: str, recipe: str = "activitynet") -> str:
    """The message for a recipe with these overrides; one line, as the command line prints it."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, overrides)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


class TestRecipes:
    def test_names(self) -> None:
        assert recipe_names() == sorted(ALL)

    @pytest.mark.parametrize("name", sorted(ALL))
    def test_every_recipe_loads_under_its_own_name(self, name: str) -> None:
        assert load_recipe(name).name == name

    @pytest.mark.parametrize("name", sorted(RELEASED))
    def test_released_settings(self, name: str) -> None:
        config = load_recipe(name)
        wanted = COMMON | RELEASED[name]
        assert {key: field(config, key) for key in wanted} == wanted

    @pytest.mark.parametrize("name", ["activitynet", "charades", "tacos"])
    def test_speech_differs_in_its_queries_only(self, name: str) -> None:
        speech, text = load_recipe(f"{name}-speech"), load_recipe(name)
        assert speech.name == f"{name}-speech"
        assert speech.data.query_kinds == ["speech"]
        assert speech.model_copy(update={"name": name, "data": text.data}) == text

    @pytest.mark.parametrize("features", ["vgg", "c3d"])
    def test_charades_with_other_features_differs_in_their_width_only(self, features: str) -> None:
        other, i3d = load_recipe(f"charades-{features}"), load_recipe("charades")
        assert (other.name, other.model.video_dim, i3d.model.video_dim) == (f"charades-{features}", 4096, 1024)
        model = other.model.model_copy(update={"video_dim": 1024})
        assert other.model_copy(update={"name": "charades", "model": model}) == i3d

    def test_a_kind_of_query_is_named_once(self) -> None:
        both = load_recipe("demo", ["data.query_kinds=[text,speech]"])
        assert both.data.query_kinds == ["text", "speech"]
        assert refusal("data.query_kinds=[text,text]", recipe="demo") == (
            "recipe demo: data: query_kinds ['text', 'text'] names a kind twice"
        )
        assert refusal("data.query_kinds=[]", recipe="demo") == (
            "recipe demo: data.query_kinds: List should have at least 1 item after validation, not 0, got []"
        )
        assert refusal("data.query_kinds=[typed]", recipe="demo") == (
            "recipe demo: data.query_kinds.0: Input should be 'text' or 'speech', got 'typed'"
        )

    def test_demo_takes_the_registered_backbones(self) -> None:
        config = load_recipe("demo")
        assert config.data.video_features == "mrnet-demo/benchmark/videos"
        assert config.data.text_features is None
        assert config.model.video_dim == make_backbone("video", config.data.video_backbone).dim
        assert config.model.query_dim == make_backbone("text", config.data.text_backbone).dim

    def test_qvhighlights_map_is_the_two_second_clips(self) -> None:
        config = load_recipe("qvhighlights")
        assert (config.model.num_clips, config.model.pool_stride) == (75, 1)
        assert config.evaluation.metrics == "qvhighlights"
        assert config.evaluation.select_by == "MR-full-mAP"

    def test_unknown_recipe(self) -> None:
        assert refusal(recipe="activitnet") == (
            "unknown recipe 'activitnet': choose one of activitynet, activitynet-speech, charades, charades-c3d, "
            "charades-speech, charades-vgg, clip-small, demo, mrnet-plus, mrnet-small, qvhighlights, tacos, "
            "tacos-speech"
        )

    @pytest.mark.parametrize("name", sorted(ALL))
    def test_round_trip_through_json(self, name: str) -> None:
        config = load_recipe(name)
        again = parse_config(json.loads(json.dumps(config.model_dump(mode="json"))), source="saved")
        assert again == config
        assert again.train.betas == (0.9, 0.99)


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "key", "value"),
        [
            ("model.layers=4", "model.layers", 4),
            ("model.gamma=0.5", "model.gamma", 0.5),
            ("train.lr=1e-3", "train.lr", 1e-3),
            ("model.pooling_counts=[3, 2]", "model.pooling_counts", [3, 2]),
            ("model.pooling_counts=[0,4]", "model.pooling_counts", [0, 4]),
            ("train.betas=[0.8, 0.9]", "train.betas", (0.8, 0.9)),
            ("train.milestones=[]", "train.milestones", []),
            ("model.softmax=false", "model.softmax", False),
            ("model.transformer=no", "model.transformer", False),
            ("model.mask=none", "model.mask", "none"),
            ("data.train=my videos/train.json", "data.train", ["my videos/train.json"]),
            ("data.train=a=b.json", "data.train", ["a=b.json"]),
            ("data.train=[a.json, b.json]", "data.train", ["a.json", "b.json"]),
            ("data.video_features=null", "data.video_features", None),
            ("loss.sparsity_doubling_ratio=null", "loss.sparsity_doubling_ratio", None),
            ("name=mine", "name", "mine"),
            ("evaluation.select_by=R@5,IoU=0.7", "evaluation.select_by", "R@5,IoU=0.7"),
            ("decode={nms_threshold: 0.3}", "decode.nms_threshold", 0.3),
        ],
    )
    def test_sets_one_field(self, override: str, key: str, value: Any) -> None:
        plain, changed = load_recipe("activitynet"), load_recipe("activitynet", [override])
        assert field(changed, key) == value
        assert type(field(changed, key)) is type(value)
        section = key.split(".")[0]
        assert changed.model_copy(update={section: getattr(plain, section)}) == plain

    def test_the_last_one_wins_and_the_tree_is_not_touched(self) -> None:
        tree = {"model": {"layers": 2, "gamma": 0.98}}
        assert apply_overrides(tree, ["model.layers=3", "model.layers=4"]) == {
            "model": {"layers": 4, "gamma": 0.98}
        }
        assert tree == {"model": {"layers": 2, "gamma": 0.98}}

    def test_attention_off(self) -> None:
        config = load_recipe("activitynet", ["model.attention=off", "model.mask=none"])
        assert config.model.attention == "off"

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("model.layers", "override 'model.layers' is not of the form key=value, e.g. model.layers=4"),
            ("=4", "override '=4' is not of the form key=value, e.g. model.layers=4"),
            ("", "override '' is not of the form key=value, e.g. model.layers=4"),
            ("model.layers=[1", "override 'model.layers=[1': '[1' is not a YAML value"),
            ("data.train=@x", "override 'data.train=@x': '@x' is not a YAML value"),
            (
                "name=!!python/object/apply:os.getcwd []",
                "override 'name=!!python/object/apply:os.getcwd []': "
                "'!!python/object/apply:os.getcwd []' is not a YAML value",
            ),
            ("model.layers.x=4", "override 'model.layers.x=4': 'layers' has no fields"),
            ("name.x=4", "override 'name.x=4': 'name' has no fields"),
            (
                "modle.layers=4",
                "recipe activitynet: unknown key 'modle'; known here: name, model, loss, decode, train, data, "
                "evaluation",
            ),
            (
                "decode.nms=0.5",
                "recipe activitynet: unknown key 'decode.nms'; known here: nms_threshold, score_power, rank_by",
            ),
            (
                "model.layers=four",
                "recipe activitynet: model.layers: Input should be a valid integer, got 'four'",
            ),
            (
                "model.layers=2.5",
                "recipe activitynet: model.layers: Input should be a valid integer, got 2.5",
            ),
            (
                "model.layers=0",
                "recipe activitynet: model.layers: Input should be greater than or equal to 1, got 0",
            ),
            (
                "model.gamma=1.01",
                "recipe activitynet: model.gamma: Input should be less than or equal to 1, got 1.01",
            ),
            ("model.dropout=1", "recipe activitynet: model.dropout: Input should be less than 1, got 1"),
            ("train.lr=0", "recipe activitynet: train.lr: Input should be greater than 0, got 0"),
            ("train.lr=.nan", "recipe activitynet: train.lr: Input should be a finite number, got nan"),
            (
                "train.seed=-1",
                "recipe activitynet: train.seed: Input should be greater than or equal to 0, got -1",
            ),
            (
                "model.softmax=maybe",
                "recipe activitynet: model.softmax: Input should be a valid boolean, unable to interpret input, "
                "got 'maybe'",
            ),
            (
                "model.mask=sideways",
                "recipe activitynet: model.mask: Input should be 'none', 'decay', 'sparse' or 'both', "
                "got 'sideways'",
            ),
            ("data.train=3", "recipe activitynet: data.train: Input should be a valid list, got 3"),
            (
                "data.train=[a.json, 3]",
                "recipe activitynet: data.train.1: Input should be a valid string, got 3",
            ),
            ("train.milestones=7", "recipe activitynet: train.milestones: Input should be a valid list, got 7"),
            (
                "model.pooling_counts=[15,-1]",
                "recipe activitynet: model.pooling_counts.1: Input should be greater than or equal to 0, got -1",
            ),
            ("train.betas=[0.9]", "recipe activitynet: train.betas.1: Field required, got [0.9]"),
            (
                "evaluation.tious=[0.5,2]",
                "recipe activitynet: evaluation.tious.1: Input should be less than or equal to 1, got 2",
            ),
        ],
    )
    def test_refused(self, override: str, message: str) -> None:
        assert refusal(override) == message

    def test_unknown_key_names_every_known_one(self) -> None:
        assert refusal("model.laers=4") == (
            "recipe activitynet: unknown key 'model.laers'; known here: " + ", ".join(ModelConfig.model_fields)
        )

    def test_several_problems_are_counted(self) -> None:
        assert refusal("model.layers=0", "train.lr=0", "data.train=3") == (
            "recipe activitynet: model.layers: Input should be greater than or equal to 1, got 0 (and 2 more)"
        )

    @pytest.mark.parametrize("key", ["train.lr", "loss.margin", "loss.sparsity_weight", "decode.score_power"])
    def test_infinity_is_out_of_range(self, key: str) -> None:
        assert refusal(f"{key}=.inf") == f"recipe activitynet: {key}: Input should be a finite number, got inf"


class TestParse:
    def test_source_and_key_come_first(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_config({"name": "x", "model": {}, "train": {}}, source="run/mrnet.json")
        assert str(caught.value) == "run/mrnet.json: model.video_dim: Field required (and 9 more)"

    @pytest.mark.parametrize("tree", [None, [], 3, "text"])
    def test_not_a_mapping(self, tree: Any) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_config(tree, source="mrnet.json")
        assert str(caught.value) == (
            f"mrnet.json: the configuration is {tree!r}, not a mapping of keys: restore the file"
        )

    def test_configurations_do_not_change(self, tiny: Callable[..., RunConfig]) -> None:
        config = tiny()
        with pytest.raises(ValueError, match="frozen"):
            config.model.layers = 7  # type: ignore[misc]
        assert config.model.layers == 2


class TestComplete:
    def test_a_dataset_over_the_tree_and_overrides_over_both(self, tiny: Callable[..., RunConfig]) -> None:
        tree = tiny(data={"train": "old.json", "val_fraction": 0.3}).model_dump(mode="json")
        config = complete(
            tree, "run", ["data.val=mine.json"], {"name": "pets", "data": {"train": "a.json", "val": "b.json"}}
        )
        assert (config.name, config.data.train, config.data.val) == ("pets", ["a.json"], ["mine.json"])
        assert config.data.val_fraction == 0.3
        assert config.model_copy(update={"name": "tiny", "data": tiny().data}) == tiny()
        assert (tree["name"], tree["data"]["train"]) == ("tiny", ["old.json"])

    def test_the_dataset_is_named_where_it_has_a_part(self, tiny: Callable[..., RunConfig]) -> None:
        tree = tiny().model_dump(mode="json")
        with pytest.raises(ConfigError) as caught:
            complete(tree, "run", ["train.lr=0"])
        assert str(caught.value) == "run: train.lr: Input should be greater than 0, got 0"
        with pytest.raises(ConfigError) as caught:
            complete(tree, "run", [], {"data": {"trian": "a.json"}})
        assert str(caught.value).startswith(
            "run with the fields of the dataset: unknown key 'data.trian'; known here"
        )

    def test_of_a_recipe(self) -> None:
        config = load_recipe("demo", ["train.epochs=2"], {"name": "pets", "data": {"video_features": "videos"}})
        assert (config.name, config.data.video_features, config.train.epochs) == ("pets", "videos", 2)
        assert config.model == load_recipe("demo").model


def test_without_paths(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(
        data={
            "train": ["/home/ann/a.json", "/home/ann/b.json"],
            "val": "/home/ann/val.json",
            "test": "/home/ann/test.json",
            "val_fraction": 0.2,
            "video_features": "/home/ann/videos",
            "query_kinds": ["text", "speech"],
            "text_features": "/home/ann/text.h5",
            "speech_features": "/home/ann/sounds",
            "video_backbone": "hf:/home/ann/clip",
            "text_backbone": "glove:/home/ann/glove.txt",
            "speech_backbone": "hf:facebook/wav2vec2-base",
        },
        train={"seed": 5},
    )
    kept = config.without_paths()
    assert kept.data.model_dump() == {
        "train": [],
        "val": [],
        "test": [],
        "val_fraction": 0.2,
        "video_features": None,
        "query_kinds": ["text", "speech"],
        "text_features": None,
        "speech_features": None,
        "video_backbone": "hf:clip",
        "text_backbone": "glove:glove.txt",
        "speech_backbone": "hf:facebook/wav2vec2-base",
    }
    assert kept.model_copy(update={"data": config.data}) == config


class TestModelSpec:
    @pytest.fixture
    def tree(self, tiny: Callable[..., RunConfig]) -> dict[str, Any]:
        video = Provenance(backbone="c3d", dim=6, details={"crop": "112"})
        spec = ModelSpec(
            name="tiny",
            model=tiny().model,
            decode=DecodeConfig(nms_threshold=0.4),
            query_widths={"text": 2, "speech": 3},
            provenances={"video": video},
        )
        assert spec.query_kinds == ["text", "speech"]
        tree: dict[str, Any] = json.loads(json.dumps(spec.model_dump(mode="json")))
        assert parse_spec(tree, source="saved") == spec
        return tree

    def refusal(self, tree: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            parse_spec(tree, source="mrnet.json")
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    def test_widths_add_up_to_that_of_the_model(self, tree: dict[str, Any]) -> None:
        tree["query_widths"]["speech"] = 4
        assert self.refusal(tree) == "mrnet.json: query_widths add up to 6, but model.query_dim is 5"

    @pytest.mark.parametrize(
        ("widths", "message"),
        [
            ({}, "query_widths: Dictionary should have at least 1 item after validation, not 0"),
            ({"typed": 5}, "query_widths.typed.[key]: Input should be 'text' or 'speech', got 'typed'"),
            ({"text": 5, "speech": 0}, "query_widths.speech: Input should be greater than or equal to 1, got 0"),
        ],
    )
    def test_widths_that_are_none(self, tree: dict[str, Any], widths: dict[str, int], message: str) -> None:
        assert self.refusal(tree | {"query_widths": widths}) == f"mrnet.json: {message}"

    def test_unknown_keys(self, tree: dict[str, Any]) -> None:
        assert self.refusal(tree | {"data": {}}) == (
            "mrnet.json: unknown key 'data'; known here: name, model, decode, query_widths, provenances, "
            "calibration, trained_lengths"
        )
        tree["provenances"]["video"]["colour"] = "red"
        assert self.refusal(tree) == (
            "mrnet.json: unknown key 'provenances.video.colour'; known here: " + ", ".join(Provenance.model_fields)
        )

    def test_not_a_mapping(self) -> None:
        assert self.refusal(None) == (
            "mrnet.json: the configuration is None, not a mapping of keys: restore the file"
        )


class TestFieldsTogether:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"dim": 9, "heads": 3}, "dim 9 must be even and a multiple of heads (3)"),
            ({"dim": 8, "heads": 3}, "dim 8 must be even and a multiple of heads (3)"),
            ({"num_clips": 32}, "num_clips 32 exceeds num_pre_clips 16"),
            (
                {"pool_kernel": 4},
                "pooling num_pre_clips 16 with pool_kernel 4 and stride 2 gives 7 clips, but num_clips is 8",
            ),
            (
                {"num_clips": 7},
                "pooling num_pre_clips 16 with pool_kernel 2 and stride 2 gives 8 clips, but num_clips is 7",
            ),
            (
                {"head_kernel": 4, "head_layers": 3},
                "(head_kernel - 1) x head_layers must be even to keep the map's size, got 4 and 3",
            ),
            ({"attention": "off"}, "attention off takes mask none"),
            (
                {"zero_linear_retention": True},
                "zero_linear_retention needs softmax false and projections modality",
            ),
            (
                {"zero_linear_retention": True, "softmax": False, "projections": "shared"},
                "zero_linear_retention needs softmax false and projections modality",
            ),
            ({"tied_initialisation": True}, "tied_initialisation needs projections shared"),
            (
                {"doubled_diagonal": False, "bidirectional": False},
                "doubled_diagonal false needs bidirectional true and mask decay or both",
            ),
            (
                {"doubled_diagonal": False, "mask": "sparse"},
                "doubled_diagonal false needs bidirectional true and mask decay or both",
            ),
            (
                {"boundary_replaces_conv": True},
                "boundary_replaces_conv needs proposals conv and boundary add",
            ),
            (
                {"boundary_replaces_conv": True, "proposals": "conv", "boundary": "concat"},
                "boundary_replaces_conv needs proposals conv and boundary add",
            ),
            (
                {"boundary_replaces_conv": True, "proposals": "pool", "boundary": "add"},
                "boundary_replaces_conv needs proposals conv and boundary add",
            ),
            ({"pooling_counts": [1, 0, 1]}, "pooling_counts [1, 0, 1]: only the first may be 0"),
            ({"pooling_counts": [1, 0]}, "pooling_counts [1, 0]: only the first may be 0"),
            (
                {"pooling_counts": [4, 2]},  # 4 x 1 + 2 x 2 = 8: one more than the last of 8 clips
                "pooling_counts [4, 2] reach 8 clips past the start clip, but num_clips is 8: lower "
                "the counts or raise num_clips",
            ),
        ],
    )
    def test_refused(self, tiny_model: Callable[..., ModelConfig], changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            tiny_model(**changes)
        assert str(caught.value) == f"tiny: model: {message}"

    @pytest.mark.parametrize(
        "changes",
        [
            {"attention": "off", "mask": "none"},
            {"head_kernel": 4, "head_layers": 2},
            {"zero_linear_retention": True, "softmax": False},
            {"tied_initialisation": True, "projections": "shared"},
            {"doubled_diagonal": False, "mask": "decay"},
            {"boundary_replaces_conv": True, "proposals": "conv", "boundary": "add"},
            {"pooling_counts": [0, 3]},
            {"pooling_counts": [7]},
            {"num_pre_clips": 8, "pool_kernel": 1},
        ],
    )
    def test_accepted(self, tiny_model: Callable[..., ModelConfig], changes: dict[str, Any]) -> None:
        model = tiny_model(**changes)
        assert {key: getattr(model, key) for key in changes} == changes

    def test_iou_bounds_in_order(self, tiny: Callable[..., RunConfig]) -> None:
        with pytest.raises(ConfigError) as caught:
            tiny(loss={"min_iou": 0.7, "max_iou": 0.7})
        assert str(caught.value) == "tiny: loss: min_iou 0.7 must be below max_iou 0.7"

    def test_select_by_is_a_reported_metric(self, tiny: Callable[..., RunConfig]) -> None:
        with pytest.raises(ConfigError) as caught:
            tiny(evaluation={"tious": [0.1, 0.5], "ranks": [1], "select_by": "R@1,IoU=0.7"})
        assert str(caught.value) == (
            "tiny: evaluation: select_by 'R@1,IoU=0.7' is none of the metrics R@1,IoU=0.1, R@1,IoU=0.5, mIoU"
        )
        chosen = tiny(evaluation={"tious": [0.1], "ranks": [1], "select_by": "mIoU"})
        assert chosen.evaluation.select_by == "mIoU"

    def test_select_by_of_qvhighlights(self, tiny: Callable[..., RunConfig]) -> None:
        with pytest.raises(ConfigError) as caught:
            tiny(evaluation={"metrics": "qvhighlights"})
        assert str(caught.value) == (
            "tiny: evaluation: select_by 'R@1,IoU=0.5' is none of the metrics MR-full-mAP, MR-full-mAP@0.5, "
            "MR-full-mAP@0.75, MR-full-R1@0.5, MR-full-R1@0.7"
        )

    @pytest.mark.parametrize(
        ("changes", "stride", "sparse", "depends"),
        [
            ({}, 2, True, True),
            ({"mask": "decay"}, 2, False, True),
            ({"attention": "video"}, 2, True, False),
            ({"attention": "plain", "mask": "none"}, 2, False, True),
            ({"transformer": False}, 2, False, False),
            ({"num_pre_clips": 32, "pool_kernel": 4}, 4, True, True),
        ],
    )
    def test_derived(
        self,
        tiny_model: Callable[..., ModelConfig],
        changes: dict[str, Any],
        stride: int,
        sparse: bool,
        depends: bool,
    ) -> None:
        model = tiny_model(**changes)
        assert (model.pool_stride, model.uses_sparse_mask, model.video_depends_on_query) == (
            stride,
            sparse,
            depends,
        )


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_its_network(name: str) -> None:
    # Tensors without values: which cells are valid is not known, nor needed to count weights.
    with torch.device("meta"), torch.fx.experimental._config.patch(meta_nonzero_assume_all_nonzero=True):
        model = make_network(load_recipe(name).model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    heads = [member.proposal_head for member in members_of(model)]
    head = sum(parameter.numel() for each in heads for parameter in each.parameters())
    if name in ("activitynet", "charades", "tacos"):  # as the released models: nearly all in the head
        assert head / parameters > 0.85


def test_yaml_has_no_dates() -> None:
    config = load_recipe("demo", ["data.train=2024-99-99", "name=2024-01-01"])
    assert (config.data.train, config.name) == (["2024-99-99"], "2024-01-01")


def test_ranks_beyond_the_moments_kept_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"evaluation\.ranks\.1: Input should be less than or equal to 10, got 20"
    ):
        load_recipe("demo", ["evaluation.ranks=[1,20]"])


class TestBounds:
    """No file of a few letters asks for more than a machine has: refused before anything is built."""

    @pytest.mark.parametrize(
        ("field", "value", "most"),
        [
            ("model.layers", 10**6, 64),
            ("model.head_layers", 10**6, 64),
            ("model.head_kernel", 10**6 + 1, 255),
            ("model.video_dim", 10**12, 65_536),
            ("model.query_dim", 10**12, 65_536),
            ("model.dim", 10**8, 65_536),
            ("model.ffn_dim", 10**9, 65_536),
            ("model.clip_hidden", 10**9, 65_536),
            ("model.head_hidden", 10**7, 65_536),
            ("model.num_clips", 50_000, 1024),
            ("model.num_pre_clips", 100_000, 16_384),
            ("train.workers", 10**6, 256),
            ("train.batch_size", 10**9, 10**6),
        ],
    )
    def test_counts(self, field: str, value: int, most: int) -> None:
        with pytest.raises(ConfigError, match=rf"{field}: .* less than or equal to {most}, got {value}"):
            load_recipe("demo", [f"{field}={value}"])

    def test_diagonals_are_counted_before_they_are_listed(self) -> None:
        with pytest.raises(ConfigError, match="reach 1000000 clips past the start clip"):
            load_recipe("demo", ["model.pooling_counts=[1000000]"])
        with pytest.raises(ConfigError, match="pooling_counts: List should have at most 10 items"):
            load_recipe("demo", [f"model.pooling_counts={[1] * 5000}"])

    def test_weights_in_all(self) -> None:
        with pytest.raises(ConfigError, match=r"a network of about 9\.4e\+12 weights; 2\.1e\+09 are the most"):
            load_recipe("demo", ["model.head_hidden=65536", "model.head_kernel=33", "model.head_layers=2"])

    @pytest.mark.parametrize("name", recipe_names())
    def test_what_is_counted_is_what_a_network_has(self, name: str) -> None:
        model = load_recipe(name).model
        with torch.device("meta"), torch.fx.experimental._config.patch(meta_nonzero_assume_all_nonzero=True):
            count = sum(weight.numel() for weight in make_network(model).parameters())
        assert 0.9 < model.about_weights / count < 1.4

    @pytest.mark.parametrize("key", ["train", "video_features", "text_backbone"])
    @pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
    def test_names_of_files(self, key: str, name: str) -> None:
        with pytest.raises(ConfigError, match="no file can have this name"):
            load_recipe("demo", overlay={"data": {key: name}})
        assert load_recipe("demo", overlay={"data": {key: "a\udcff"}})  # a byte that is no letter
