"""Where data are: kinds of query, names of files, and what is passed on."""

from collections.abc import Callable

import pytest

from mrnet.config.recipes import load_recipe
from mrnet.config.run import RunConfig
from mrnet.errors import ConfigError
from tests.config.conftest import refusal


def test_a_kind_of_query_is_named_once() -> None:
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


@pytest.mark.parametrize("key", ["train", "video_features", "text_backbone"])
@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_names_of_files(key: str, name: str) -> None:
    with pytest.raises(ConfigError, match="no file can have this name"):
        load_recipe("demo", overlay={"data": {key: name}})
    assert load_recipe("demo", overlay={"data": {key: "a\udcff"}})  # a byte that is no letter


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
