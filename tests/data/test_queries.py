"""Features of text and speech queries, and both in one space."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.data.queries import CombinedQueries, EncodedQueries, StoredQueries, fill_columns, with_kinds
from mrnet.errors import DataError
from mrnet.features.encoders.hashed_words import HashedWords
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import write_store
from mrnet.provenance import Provenance
from mrnet.types import Query, QueryKind, Span, VideoRecord


def test_stored_queries_go_by_the_sound_file_then_by_qid(tmp_path: Path) -> None:
    for stem, value in {"X_train_1": 1.0, "X#1": 2.0}.items():
        torch.save(torch.full((1, 3), value), tmp_path / f"{stem}.pt")
    features = StoredQueries(open_store(tmp_path))
    queries = [
        Query("speech", (Span(0, 1),), "X#0", audio="X_train_1.wav"),
        Query("text", (Span(0, 1),), "X#1"),
    ]
    assert features(queries).tolist() == [[1, 1, 1], [2, 2, 2]]


def test_encoded_queries_encode_each_sentence_once() -> None:
    class Counting(HashedWords):
        calls = 0

        def encode(self, sentences):  # type: ignore[no-untyped-def]
            self.calls += len(sentences)
            return super().encode(sentences)

    backbone = Counting()
    features = EncodedQueries(backbone)
    queries = [Query(text, (Span(0, 1),), text) for text in ("a dog", "a cat", "a dog")]
    first, again = features(queries), features(queries)
    assert backbone.calls == 2
    assert torch.equal(first[0], first[2])
    assert torch.equal(first, again)


def stored(path: Path, width: int = 2, **values: float) -> StoredQueries:
    """A store of features, each filled with a value."""
    provenance = Provenance(backbone="b", dim=width)
    write_store(path, [(key, np.full((1, width), value)) for key, value in values.items()], provenance)
    return StoredQueries(open_store(path))


def spoken_record() -> VideoRecord:
    queries = tuple(
        Query(text, (Span(0, 1),), f"v#{i}", audio=f"v_{i}.wav") for i, text in enumerate(["a dog", "a cat"])
    )
    return VideoRecord("v", 10.0, queries)


def test_either_kind_has_columns_of_its_own(tmp_path: Path) -> None:
    text = stored(tmp_path / "text.h5", v_0=1.0, v_1=2.0)
    speech = stored(tmp_path / "speech.h5", 3, v_0=3.0, v_1=4.0)
    features = CombinedQueries({"text": text, "speech": speech})
    (record,) = with_kinds([spoken_record()], ["text", "speech"])
    assert [(query.qid, query.kind) for query in record.queries] == [
        ("v#0 (text)", "text"),
        ("v#0 (speech)", "speech"),
        ("v#1 (text)", "text"),
        ("v#1 (speech)", "speech"),
    ]
    assert features.widths == {"text": 2, "speech": 3}
    assert features.dim == 5
    expected = [[1, 1, 0, 0, 0], [0, 0, 3, 3, 3], [2, 2, 0, 0, 0], [0, 0, 4, 4, 4]]
    assert features(record.queries).tolist() == expected
    assert features(record.queries[::-1]).tolist() == expected[::-1]
    assert features(record.queries[1:2]).tolist() == expected[1:2]  # of one kind alone
    assert features(record.queries).dtype == torch.float32


def test_one_kind_fills_all_columns(tmp_path: Path) -> None:
    features = CombinedQueries({"speech": stored(tmp_path / "speech.h5", 3, v_0=3.0, v_1=4.0)})
    (record,) = with_kinds([spoken_record()], ["speech"])
    assert features.dim == 3
    assert features(record.queries).tolist() == [[3, 3, 3], [4, 4, 4]]
    with pytest.raises(DataError) as caught:
        features(spoken_record().queries)
    assert str(caught.value) == "query 'v#0' is of text, of which there are no features here"


def test_columns_are_filled_in_the_order_of_the_widths() -> None:
    row = torch.tensor([[7.0], [8.0]])
    assert fill_columns(row, "text", {"text": 1, "speech": 3}).tolist() == [[7, 0, 0, 0], [8, 0, 0, 0]]
    assert fill_columns(row, "speech", {"text": 3, "speech": 1}).tolist() == [[0, 0, 0, 7], [0, 0, 0, 8]]
    assert fill_columns(row, "speech", {"speech": 1, "text": 2}).tolist() == [[7, 0, 0], [8, 0, 0]]
    assert fill_columns(row, "text", {"text": 1}).tolist() == [[7], [8]]


def test_a_query_of_one_kind_keeps_its_qid() -> None:
    (record,) = with_kinds([spoken_record()], ["speech"])
    assert [(query.qid, query.kind) for query in record.queries] == [("v#0", "speech"), ("v#1", "speech")]


def test_speech_queries_need_sound_files() -> None:
    silent = VideoRecord("v", 10.0, (Query("a dog", (Span(0, 1),), "v#0"),))
    assert with_kinds([silent], ["text"]) == [silent]
    several: list[list[QueryKind]] = [["speech"], ["text", "speech"]]
    for kinds in several:
        with pytest.raises(DataError) as caught:
            with_kinds([silent], kinds)
        assert str(caught.value) == (
            "query 'v#0' has no sound file: speech queries need annotations with `audios` (ActivityNet Speech and "
            "the other *_audio_new.json have them)"
        )
