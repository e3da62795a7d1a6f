"""What encoders have in common: sources in batches, and what they refuse."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mrnet.errors import ConfigError, DataError
from mrnet.features.backbone import Modality, Rows, check_rate, check_sentence, encode_sources, join_rows
from mrnet.provenance import Provenance


class Letters:
    """A row a letter: its number in the alphabet, and how many were encoded with it."""

    kind: Modality = "video"
    name = "letters"
    dim = 2
    rate: float | None = 1.0
    revision = "1"
    batch_size = 4

    def prepare(self, source: str | Path) -> Iterator[str]:
        yield from str(source)

    def encode(self, inputs: Sequence[str]) -> list[Rows]:
        return [np.array([[ord(letter) - ord("a"), len(inputs)]], np.float32) for letter in inputs]

    def provenance(self) -> Provenance:
        return Provenance(backbone=self.name, dim=self.dim)


def test_batches_are_filled_across_sources() -> None:
    one, two, three = encode_sources(Letters(), ["abc", "d", "ef"])
    assert one.tolist() == [[0, 4], [1, 4], [2, 4]]
    assert two.tolist() == [[3, 4]]
    assert three.tolist() == [[4, 2], [5, 2]]
    assert encode_sources(Letters(), []) == []


def test_rows_of_a_video_follow_each_other_and_those_of_a_query_are_averaged() -> None:
    parts = [np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[5.0, 9.0]], np.float32)]
    assert join_rows("video", parts).tolist() == [[1, 2], [3, 4], [5, 9]]
    assert join_rows("text", parts).tolist() == [[3, 5]]
    assert join_rows("speech", parts).tolist() == [[3, 5]]


def test_sentences_are_kept_as_they_are() -> None:
    assert check_sentence(" a man ") == " a man "
    assert check_sentence("a", words=["a"]) == "a"


def test_half_a_character_is_a_question_mark() -> None:
    assert check_sentence("a \udcff dög") == "a ? dög"


def test_empty_sentences() -> None:
    for empty in ("", " \t\n", '""', "“ ”"):
        with pytest.raises(DataError) as caught:
            check_sentence(empty)
        assert str(caught.value) == f"the query is empty (got {empty!r}); describe the moment to find"
    with pytest.raises(DataError) as caught:
        check_sentence("?!", words=[])
    assert str(caught.value) == "the query is empty or holds no words (got '?!'); describe the moment to find"


def test_rates() -> None:
    check_rate(0.5)
    for rate in (0, -1, float("nan"), float("inf"), 1001):
        with pytest.raises(ConfigError) as caught:
            check_rate(rate)
        assert (
            str(caught.value)
            == f"a rate of {rate:g} rows a second is impossible; give one above 0, and 1000 at most"
        )
