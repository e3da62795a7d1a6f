"""What a checkpoint says of its model."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mrnet.config.parse import parse_spec
from mrnet.config.run import RunConfig
from mrnet.config.spec import DecodeConfig, ModelSpec
from mrnet.errors import ConfigError
from mrnet.provenance import Provenance


@pytest.fixture
def tree(tiny: Callable[..., RunConfig]) -> dict[str, Any]:
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


def refusal(tree: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_spec(tree, source="mrnet.json")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_widths_add_up_to_that_of_the_model(tree: dict[str, Any]) -> None:
    tree["query_widths"]["speech"] = 4
    assert refusal(tree) == "mrnet.json: query_widths add up to 6, but model.query_dim is 5"


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({}, "query_widths: Dictionary should have at least 1 item after validation, not 0"),
        ({"typed": 5}, "query_widths.typed.[key]: Input should be 'text' or 'speech', got 'typed'"),
        ({"text": 5, "speech": 0}, "query_widths.speech: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_widths_that_are_none(tree: dict[str, Any], widths: dict[str, int], message: str) -> None:
    assert refusal(tree | {"query_widths": widths}) == f"mrnet.json: {message}"


def test_unknown_keys(tree: dict[str, Any]) -> None:
    assert refusal(tree | {"data": {}}) == (
        "mrnet.json: unknown key 'data'; known here: name, model, decode, query_widths, provenances, "
        "calibration, trained_lengths"
    )
    tree["provenances"]["video"]["colour"] = "red"
    assert refusal(tree) == (
        "mrnet.json: unknown key 'provenances.video.colour'; known here: " + ", ".join(Provenance.model_fields)
    )


def test_not_a_mapping() -> None:
    assert refusal(None) == ("mrnet.json: the configuration is None, not a mapping of keys: restore the file")
