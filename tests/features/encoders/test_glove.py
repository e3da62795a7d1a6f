"""Averaged GloVe vectors."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from mrnet.errors import ConfigError, DataError
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone

LINES = "the 1 2 3\nman -1 0.5 2e-1\n's 3 3 3\nApple 7 7 7\napple 9 0 9\n. . . 4 4 4\ncafé 5 6 7"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "glove.3d.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


def malformed(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        encode_sources(make_backbone("text", f"glove:{path}"), ["man"])
    return str(caught.value).removeprefix(f"{path}: ")


def test_mean_of_the_words_that_are_known(file: Path) -> None:
    backbone = make_backbone("text", f"glove:{file}")
    assert backbone.dim == 3
    man, mans, apples, case, accent = encode_sources(
        backbone, ["The zzz MAN.", "the man's", "Apple, apple", "APPLE", "CAFÉ"]
    )
    assert man.dtype == np.float32
    np.testing.assert_allclose(man, [[0, 1.25, 1.6]], rtol=1e-6)
    np.testing.assert_allclose(mans, [[1, 5.5 / 3, 6.2 / 3]], rtol=1e-6)
    np.testing.assert_allclose(apples, [[8, 3.5, 8]])
    np.testing.assert_allclose(case, [[9, 0, 9]])
    np.testing.assert_allclose(accent, [[5, 6, 7]])  # the last line, without an end


def test_provenance(file: Path, tmp_path: Path) -> None:
    backbone = make_backbone("text", f"glove:{file}")
    assert backbone.name == f"glove:{file.name}"
    assert str(tmp_path) not in backbone.provenance().model_dump_json()
    assert backbone.revision == f"sha256:{hashlib.sha256(LINES.encode()).hexdigest()[:16]}"
    moved = file.rename(tmp_path / "moved.txt")
    assert backbone.provenance().same_encoder(make_backbone("text", f"glove:{moved}").provenance())


@pytest.mark.parametrize(
    ("sentence", "says"),
    [
        ("", "the query is empty or holds no words (got ''); describe the moment to find"),
        ("zzz yyy", "glove.3d.txt has no word of the query 'zzz yyy'; put it in other words"),
    ],
)
def test_sentences_without_a_vector(file: Path, sentence: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        encode_sources(make_backbone("text", f"glove:{file}"), [sentence])
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1 is not a word and its numbers"),
        ("400000 300\nthe 1 2 3\n", "line 1 is not a word and its numbers"),
        ("the 1 2 3\nman 1 2\n", "line 2 holds 2 numbers, line 1 3"),
        ("the 1 2 3\nman 1 two 3\n", "the vector of 'man' is not 3 numbers"),
        ("the 1 2 3\nman 1 nan 3\n", "the vector of 'man' is not 3 numbers"),
        ("the 1 2 3\nman 1  3\n", "the vector of 'man' is not 3 numbers"),
    ],
)
def test_files_of_another_format(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    assert malformed(path) == f"no file of GloVe vectors: {says}; name or download another"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert malformed(tmp_path / "no.txt") == (
        "cannot be read (No such file or directory); name a file of GloVe vectors"
    )
    assert malformed(tmp_path) == "cannot be read (Is a directory); name a file of GloVe vectors"
