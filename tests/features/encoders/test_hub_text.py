"""Text encoders of transformers: pooling by hand, limits, and text towers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.data.annotations import read_annotations
from mrnet.errors import DataError
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone

transformers = pytest.importorskip("transformers")

Folder = Callable[[str], Path]

SENTENCES = ["a red circle rises", "blue", "a blue square falls left"]


def encode(folder: Path, *sentences: str) -> np.ndarray:
    return np.concatenate(encode_sources(make_backbone("text", f"hf:{folder}", device="cpu"), sentences))


def mean_of_normed(hidden: np.ndarray) -> np.ndarray:
    """LayerNorm of each of (tokens, dim) without scale, and their mean."""
    centered = hidden - hidden.mean(axis=1, keepdims=True)
    return np.asarray((centered / np.sqrt(hidden.var(axis=1, keepdims=True) + 1e-5)).mean(axis=0))


@pytest.mark.parametrize("family", ["distilbert", "data2vec-text"])
def test_mean_over_all_tokens_of_the_normed_last_state(hub_model: Folder, family: str) -> None:
    folder = hub_model(family)
    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = encode(folder, *SENTENCES)
    assert rows.shape == (3, 16)
    assert rows.dtype == np.float32
    for sentence, row in zip(SENTENCES, rows, strict=True):
        tokens = tokenizer(sentence, return_tensors="pt")
        assert tokens["input_ids"].shape[1] == len(sentence.split()) + 2
        with torch.no_grad():
            hidden = model(**tokens).last_hidden_state[0].numpy()
        np.testing.assert_allclose(row, mean_of_normed(hidden), atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "xclip", "siglip"])
def test_text_towers_give_their_own_vector(hub_model: Folder, family: str) -> None:
    folder = hub_model(family)
    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = encode(folder, *SENTENCES)
    for sentence, row in zip(SENTENCES, rows, strict=True):
        # SigLIP is shown padding, unmasked.
        padding = {"padding": "max_length", "max_length": 9} if family == "siglip" else {}
        ids = tokenizer(sentence, return_tensors="pt", **padding)["input_ids"]
        with torch.no_grad():
            pooled = model.text_model(input_ids=ids).pooler_output[0]
            expected = pooled if family == "siglip" else model.text_projection.weight @ pooled
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)
    assert rows.shape == (3, 16 if family == "siglip" else 12)


def test_siglip_of_variable_resolution_has_a_text_tower_too(hub_model: Folder) -> None:
    rows = encode(hub_model("siglip2"), "a red circle")
    assert rows.shape == (1, 16)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("family", ["distilbert", "data2vec-text", "clip", "siglip"])
def test_rows_do_not_depend_on_the_batch(hub_model: Folder, family: str) -> None:
    folder = hub_model(family)
    sentences = [*SENTENCES, "red circle", "rises"]
    together = encode(folder, *sentences)
    alone = np.concatenate([encode(folder, sentence) for sentence in sentences])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "limit"), [("distilbert", 10), ("data2vec-text", 11), ("clip", 10), ("siglip", 9)]
)
def test_long_sentences_are_refused(hub_model: Folder, family: str, limit: int) -> None:
    folder = hub_model(family)
    backbone = make_backbone("text", f"hf:{folder}", device="cpu")
    longest = " ".join(["red"] * (limit - 2))
    assert np.isfinite(encode_sources(backbone, [longest])[0]).all()
    with pytest.raises(DataError) as caught:
        list(backbone.prepare(longest + " red"))
    assert str(caught.value) == (
        f"the query has {limit + 1} tokens, hf:{folder.name} takes at most {limit}: "
        f"shorten it (it begins {(longest + ' red')[:40]!r})"
    )


def test_ten_thousand_words(hub_model: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    backbone = make_backbone("text", f"hf:{hub_model('distilbert')}", device="cpu")
    capfd.readouterr()
    with pytest.raises(DataError, match=r"^the query has 10002 tokens, "):
        list(backbone.prepare("red " * 10_000))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sentence", ["", " \n"])
def test_empty_sentences(hub_model: Folder, sentence: str) -> None:
    backbone = make_backbone("text", f"hf:{hub_model('distilbert')}", device="cpu")
    with pytest.raises(DataError) as caught:
        list(backbone.prepare(sentence))
    assert str(caught.value) == f"the query is empty (got {sentence!r}); describe the moment to find"


def test_provenance(hub_model: Folder) -> None:
    folder = hub_model("distilbert")
    backbone = make_backbone("text", f"hf:{folder}", device="cpu")
    provenance = backbone.provenance()
    assert (provenance.backbone, provenance.dim, provenance.rows_per_s) == (f"hf:{folder.name}", 16, None)
    assert provenance.normalisation == "LayerNorm without scale, mean over all tokens"
    assert provenance.libraries["transformers"] == transformers.__version__
    tower = make_backbone("text", f"hf:{hub_model('clip')}", device="cpu").provenance()
    assert (tower.dim, tower.normalisation) == (12, "pooled by the text tower")


def test_blanks_at_the_ends_reach_encoders_to_which_they_matter(hub_model: Folder, tmp_path: Path) -> None:
    """As the published data2vec features were made: two in three sentences of ActivityNet begin with a blank."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path / "data2vec"
    shutil.copytree(hub_model("data2vec-text"), folder)
    words = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "a", "Ġa", "Ġ", "Ġr", "r"])}
    pairs = tokenizers.Tokenizer(tokenizers.models.BPE(words, [("Ġ", "a"), ("Ġ", "r")], unk_token="[UNK]"))
    pairs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=pairs, pad_token="[PAD]").save_pretrained(folder)
    (tmp_path / "a.json").write_text(
        '{"v": {"duration": 9, "timestamps": [[0, 1], [2, 3], [4, 5]], "sentences": [" a r", "a r", "a r "]}}'
    )
    (record,) = read_annotations(tmp_path / "a.json")
    assert [query.text for query in record.queries] == [" a r", "a r", "a r "]
    backbone = make_backbone("text", f"hf:{folder}", device="cpu")
    tokens = [next(backbone.prepare(query.text)).tolist() for query in record.queries]
    assert tokens == [[3, 5], [2, 5], [2, 5, 4]]
