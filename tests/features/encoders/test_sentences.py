"""Sentence encoders of sentence-transformers: tables of word vectors, and refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.errors import ConfigError, DataError
from mrnet.features.backbone import Backbone, encode_sources
from mrnet.features.registry import make_backbone

sentence_transformers = pytest.importorskip("sentence_transformers")

Folder = Callable[[str], Path]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A model of averaged word vectors, as the released code's GloVe is one."""
    modules: Any = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    tokenizers: Any = pytest.importorskip("sentence_transformers.sentence_transformer.modules.tokenizer")
    vectors = np.array([[0, 0, 0], [1, 2, 3], [3, 2, 1]], np.float32)
    words = modules.WordEmbeddings(tokenizers.WhitespaceTokenizer(["PAD", "red", "circle"]), vectors)
    folder = tmp_path / "table"
    sentence_transformers.SentenceTransformer(modules=[words, modules.Pooling(3)]).save(str(folder))
    return folder


def fails(backbone: Backbone, sentence: str) -> str:
    with pytest.raises(DataError) as caught:
        list(backbone.prepare(sentence))
    return str(caught.value)


def test_tables_of_word_vectors(table: Path) -> None:
    backbone = make_backbone("text", f"st:{table}", device="cpu")
    assert backbone.dim == 3
    assert encode_sources(backbone, ["Red circle!"])[0].tolist() == [[2, 2, 2]]
    assert encode_sources(backbone, ["red sky"])[0].tolist() == [[1, 2, 3]]
    assert fails(backbone, "blue") == "st:table knows no word of the query 'blue'; put it in other words"


def test_a_name_without_publisher_is_of_sentence_transformers(
    table: Path, cached: Callable[[Path, str, str], None], no_network: list[Any]
) -> None:
    cached(table, "sentence-transformers/average_words", "0" * 40)
    backbone = make_backbone("text", "st:average_words", device="cpu")
    assert backbone.name == "st:sentence-transformers/average_words"
    assert no_network == []


def test_folders_of_other_libraries(hub_model: Folder, tmp_path: Path) -> None:
    folder = hub_model("distilbert")
    with pytest.raises(ConfigError) as caught:
        make_backbone("text", f"st:{folder}")
    assert str(caught.value) == (
        f"{folder}: is no model of sentence-transformers, it has no modules.json; "
        "for an encoder of transformers say hf: instead of st:"
    )
    (tmp_path / "modules.json").write_text("[{}]")
    with pytest.raises(ConfigError) as caught:
        make_backbone("text", f"st:{tmp_path}")
    assert str(caught.value) == f"{tmp_path}/modules.json: lists no modules; get the model again"


@pytest.fixture
def ran(table: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once the code in the folder has run, which could be imported from anywhere."""
    path = table.parent / "ran"
    code = f"from pathlib import Path\nPath({str(path)!r}).touch()\n"
    (table / "evil.py").write_text(f"{code}class Encoder:\n    pass\n")
    monkeypatch.syspath_prepend(str(table))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "evil.Encoder",
        "sentence_transformers.util.misc.import_from_string",
        "sentence_transformers.models.Router",
        "sentence_transformers.models.a.b.Pooling",
        "sentence_transformers_models.Pooling",
        "Pooling",
    ],
)
def test_modules_of_a_model_are_those_of_the_library(table: Path, ran: Path, name: str) -> None:
    path = table / "modules.json"
    modules = json.loads(path.read_text())
    modules[1]["type"] = name
    path.write_text(json.dumps(modules))
    with pytest.raises(ConfigError) as caught:
        make_backbone("text", f"st:{table}")
    assert str(caught.value) == (
        f"{path}: names {name!r}, which is none of the modules of sentence-transformers that are known here: the "
        "code of a model is not run; name another model"
    )
    assert not ran.exists()


def test_settings_of_a_module_run_no_code(table: Path, ran: Path) -> None:
    (path,) = table.rglob("wordembedding_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "evil.Encoder"}))
    with pytest.raises(ConfigError, match=r"table: cannot be used as a text encoder \("):
        make_backbone("text", f"st:{table}")
    assert not ran.exists()


def test_old_names_of_modules_are_known(table: Path) -> None:
    path = table / "modules.json"
    modules = json.loads(path.read_text())
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    path.write_text(json.dumps(modules))
    assert make_backbone("text", f"st:{table}", device="cpu").dim == 3
