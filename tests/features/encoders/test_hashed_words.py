"""Hashed sentence vectors: pinned values, stability, and sentences without words."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from mrnet.errors import DataError
from mrnet.features.backbone import encode_sources
from mrnet.features.encoders.hashed_words import HashedWords


def encode(*sentences: str) -> np.ndarray:
    return np.concatenate(encode_sources(HashedWords(), sentences))


def test_one_letter_by_hand() -> None:
    # Tokens: the word (weight 1) and its one letter triple "^a$" (weight 0.3).
    expected = np.zeros(512)
    for token, weight in ((b"w:a", 1.0), (b"c:^a$", 0.3)):
        code = zlib.crc32(token)
        expected[code % 512] += weight if code >= 2**31 else -weight
    np.testing.assert_allclose(encode("a")[0], expected / np.sqrt(1.09), rtol=1e-6)
    # The check value of CRC-32, so that the above cannot drift along with the code.
    assert zlib.crc32(b"123456789") == 0xCBF43926


def test_pinned() -> None:
    vector = encode("a red circle rises")[0]
    pinned = {112: 0.38292, 294: 0.38292, 347: -0.38292, 410: -0.38292, 0: -0.268044, 295: -0.268044}
    np.testing.assert_allclose(vector[list(pinned)], list(pinned.values()), rtol=1e-5)


def test_unit_length_and_type() -> None:
    vectors = encode("a red circle rises", "the blue square falls down", "go")
    assert vectors.shape == (3, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_case_and_punctuation_do_not_matter() -> None:
    plain, shouted = encode("when does it stop", "When does it  STOP?!")
    np.testing.assert_array_equal(plain, shouted)


def test_word_order_matters() -> None:
    one, other = encode("left to right", "right to left")
    assert 0.5 < one @ other < 0.99


def test_inflections_are_nearer_than_other_words() -> None:
    rises, rising, falls = encode("it rises", "it rising", "it falls")
    assert rises @ rising > rises @ falls + 0.05


def test_same_in_another_process() -> None:
    program = (
        "import sys; from mrnet.features.encoders.hashed_words import HashedWords; words = HashedWords(); "
        "sys.stdout.buffer.write(words.encode(list(words.prepare('Ein grüner Kreis')))[0].tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=300)
    assert done.stdout == encode("Ein grüner Kreis").tobytes()


def test_no_sentences() -> None:
    assert encode_sources(HashedWords(), []) == []


@pytest.mark.parametrize("sentence", ["", "   ", "?!", "_"])
def test_no_words(sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        encode("fine", sentence)
    assert str(caught.value) == (
        f"the query is empty or holds no words (got {sentence!r}); describe the moment to find"
    )


def test_provenance() -> None:
    provenance = HashedWords().provenance()
    assert (provenance.backbone, provenance.dim, provenance.rows_per_s) == ("hashed-words", 512, None)
