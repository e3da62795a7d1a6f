"""What is said of a tree that is no configuration."""

from typing import Any

import pytest

from mrnet.config.model import ModelConfig
from mrnet.config.parse import parse_config
from mrnet.errors import ConfigError
from tests.config.conftest import refusal


def test_source_and_key_come_first() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"name": "x", "model": {}, "train": {}}, source="run/mrnet.json")
    assert str(caught.value) == "run/mrnet.json: model.video_dim: Field required (and 9 more)"


def test_unknown_key_names_every_known_one() -> None:
    assert refusal("model.laers=4") == (
        "recipe activitynet: unknown key 'model.laers'; known here: " + ", ".join(ModelConfig.model_fields)
    )


def test_several_problems_are_counted() -> None:
    assert refusal("model.layers=0", "train.lr=0", "data.train=3") == (
        "recipe activitynet: model.layers: Input should be greater than or equal to 1, got 0 (and 2 more)"
    )


@pytest.mark.parametrize("tree", [None, [], 3, "text"])
def test_not_a_mapping(tree: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(tree, source="mrnet.json")
    assert str(caught.value) == (
        f"mrnet.json: the configuration is {tree!r}, not a mapping of keys: restore the file"
    )
