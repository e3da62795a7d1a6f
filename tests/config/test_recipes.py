"""Recipes, overrides and the words of their refusals."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mrnet.config.parse import parse_config
from mrnet.config.recipes import apply_overrides, complete, load_recipe, recipe_names
from mrnet.config.run import RunConfig
from mrnet.errors import ConfigError
from mrnet.features.registry import make_backbone
from tests.config.conftest import refusal

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
                "recipe activitynet: unknown key 'decode.nms'; known here: nms_threshold, score_power, rank_by, "
                "sharpness",
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

    @pytest.mark.parametrize("key", ["train.lr", "loss.margin", "loss.sparsity_weight", "decode.score_power"])
    def test_infinity_is_out_of_range(self, key: str) -> None:
        assert refusal(f"{key}=.inf") == f"recipe activitynet: {key}: Input should be a finite number, got inf"


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


def test_yaml_has_no_dates() -> None:
    config = load_recipe("demo", ["data.train=2024-99-99", "name=2024-01-01"])
    assert (config.data.train, config.name) == (["2024-99-99"], "2024-01-01")
