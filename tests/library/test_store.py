import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lancedb.db import LanceDBConnection

from mrnet.errors import LibraryError, OutputError
from mrnet.library.store import Store, Video
from mrnet.media.subtitles import Cue
from mrnet.provenance import Provenance
from mrnet.retrieval.said import Said

PROVENANCE = Provenance(backbone="x", dim=2, rows_per_s=2.0, revision="7")


def video(path: str, content: int = 5, said: int | None = None, num_rows: int = 3) -> Video:
    return Video(path, content, said, "a.srt", 1.5, num_rows, "a note", "stamp", 10.0, 20.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "library")
    store.create(PROVENANCE, 4, 3)
    return store


def test_it_says_how_its_rows_are_made(store: Store, tmp_path: Path) -> None:
    assert Store(tmp_path / "library").provenance() == PROVENANCE
    store.create(Provenance(backbone="y", dim=2), 4, 3)
    assert store.provenance() == PROVENANCE
    assert Store(tmp_path / "nowhere").provenance() is None


@pytest.mark.parametrize("lost", [".", "_versions"])
def test_a_library_that_was_being_made_is_none_yet(tmp_path: Path, lost: str) -> None:
    store = Store(tmp_path / "library")
    store.create(PROVENANCE, 4, 3)
    shutil.rmtree(tmp_path / "library" / "about.lance" / lost)
    assert store.provenance() is None
    store.create(PROVENANCE, 4, 3)
    assert store.provenance() == PROVENANCE


@pytest.mark.parametrize("made", range(5))
def test_it_is_there_once_its_last_table_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: int) -> None:
    create, left = LanceDBConnection.create_table, iter(range(made))

    def full(*arguments: Any, **named: Any) -> Any:
        if next(left, None) is None:
            raise OSError("No space left on device")
        return create(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(LanceDBConnection, "create_table", full)
        with pytest.raises(LibraryError, match=r"cannot be read or written \(No space left on device\)"):
            Store(tmp_path / "library").create(PROVENANCE, 4, 3)
    assert Store(tmp_path / "library").provenance() is None
    Store(tmp_path / "library").create(PROVENANCE, 4, 3)
    assert Store(tmp_path / "library").provenance() == PROVENANCE


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            'Invalid input, IO { source: Generic { store: "S3", body: Some("<?xml version=\\"1.0\\"?>\\n<Error>'
            '<Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>") } }',
            "The specified bucket does not exist",
        ),
        (
            'IO { store: "S3", inner: ConnectError("tcp connect error", 127.0.0.1:5999, Os { code: 111, kind: '
            'ConnectionRefused, message: "Connection refused" }) }',
            "Connection refused",
        ),
        ("a line\nand another", "a line"),
        (f'Os {{ message: "{"so long " * 100}\nand another" }}', ("so long " * 100)[:200]),
        ("", "ValueError"),
    ],
)
def test_what_the_place_says_is_what_is_told(error: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError(error)

    monkeypatch.setattr("lancedb.connect", fail)
    with pytest.raises(LibraryError) as caught:
        Store("s3://bucket/library").provenance()
    assert str(caught.value) == (
        f"library s3://bucket/library: cannot be read or written ({reason}); free or mend its place and index "
        "again, or make another"
    )


def test_another_version_is_refused(store: Store) -> None:
    store.table("about").update(values={"about": json.dumps({"format": 99})})
    with pytest.raises(LibraryError, match="was made by another version of mrnet; make it anew: mrnet index"):
        store.provenance()


def test_damage_is_told_in_one_line(store: Store, tmp_path: Path) -> None:
    for path in (tmp_path / "library" / "videos.lance").rglob("*.manifest"):
        path.write_bytes(b"damaged")
    with pytest.raises(
        LibraryError, match=r"library .*: cannot be read or written \(.*\); free or mend"
    ) as caught:
        store.videos()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "about", ["[]", "[" * 3000, "{}", '{"format": 1}', '{"format": 1, "provenance": {"dim": 0}}']
)
def test_what_it_says_of_itself_may_be_damaged(store: Store, about: str) -> None:
    store.table("about").update(values={"about": about})
    with pytest.raises(LibraryError, match=r"library .*: cannot be read or written \(.*\); free or mend"):
        store.provenance()


def test_where_lancedb_panics_that_is_one_line(tmp_path: Path) -> None:
    Store(tmp_path / "library").create(PROVENANCE, 4, 3)
    for path in (tmp_path / "library" / "videos.lance" / "_versions").iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:-16] + (10**6).to_bytes(8, "little") + content[-8:])
    with pytest.raises(LibraryError, match="cannot be read or written"):
        Store(tmp_path / "library").videos()


def test_where_it_panics_before_it_is_connected_that_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(*_: Any, **__: Any) -> None:
        raise type("PanicException", (BaseException,), {})("OS can't spawn worker thread")

    monkeypatch.setattr("lancedb.connect", panic)
    with pytest.raises(LibraryError, match="cannot be read or written \\(OS can't spawn worker thread\\)"):
        Store(tmp_path).provenance()


def test_a_table_in_the_place_of_another(store: Store, tmp_path: Path) -> None:
    store.put_videos([video("/a.mp4")])
    shutil.rmtree(tmp_path / "library" / "videos.lance")
    store.add_said([(9, Said.of("a.srt", [Cue(0, 1, "Hello")], torch.empty(0, 3)))])
    shutil.copytree(tmp_path / "library" / "said.lance", tmp_path / "library" / "videos.lance")
    with pytest.raises(LibraryError, match="cannot be read or written"):
        Store(tmp_path / "library").videos()
    shutil.rmtree(tmp_path / "library" / "passages.lance")
    shutil.copytree(tmp_path / "library" / "rows.lance", tmp_path / "library" / "passages.lance")
    with pytest.raises(LibraryError, match=r"cannot be read or written \(passages is another table\)"):
        Store(tmp_path / "library").said_of(video("/a.mp4", said=9))


def test_what_cannot_be_is_left_out(store: Store) -> None:
    said = Said.of("a.srt", [Cue(0.5, 1, "It's here.")], torch.tensor([[0.1, 0.2, 0.3]]))
    store.put_videos([replace(video("/b.mp4"), duration_s=math.nan), video("/c.mp4", num_rows=0), video("/a.mp4")])
    assert store.videos() == [video("/a.mp4")]
    rows = np.array([[1, np.inf], [1, 2]], np.float32)
    store.add_rows([(5, rows, torch.ones(2, 4))])
    assert store.rows_of(video("/a.mp4", num_rows=2)) is None
    store.add_said([(9, said), (10, replace(said, vectors=torch.ones(2, 3)))])
    assert store.said_of(video("/a.mp4", said=9)) is not None
    assert store.said_of(video("/a.mp4", said=10)) is None  # a passage, and two vectors
    for cues in ('[["", null]]', '[[1, 1, "x"]]', '[[1, 1e999, "x"]]'):
        store.table("said").update(values={"cues": cues})
        assert store.said_of(video("/a.mp4", said=9)) is None


def test_videos_are_put_replaced_and_removed(store: Store) -> None:
    store.put_videos([video("/b's.mp4"), video("/a.mp4", said=9)])
    assert store.videos() == [video("/a.mp4", said=9), video("/b's.mp4")]
    store.put_videos([video("/b's.mp4", content=6)])
    assert store.videos() == [video("/a.mp4", said=9), video("/b's.mp4", content=6)]
    store.remove_videos(["/b's.mp4"])
    assert store.videos() == [video("/a.mp4", said=9)]


def test_rows_and_subtitles_come_back_as_they_were(store: Store) -> None:
    rows = np.array([[1.5, -2], [0.1, 4], [5, 6e5]], np.float32)
    said = Said.of("a.srt", [Cue(0.5, 1, "It's here.")], torch.tensor([[0.1, 0.2, 0.3]]))
    store.add_rows([(4, rows[:1], torch.ones(1, 4)), (5, rows, torch.ones(3, 4))])
    store.add_said([(9, said), (10, Said.of("b.srt", [Cue(0, 1, "Ça va")], torch.empty(0, 3)))])
    found = store.rows_of(video("/a.mp4"))
    assert found is not None
    assert found.tolist() == rows.tolist()
    assert store.rows_of(video("/a.mp4", num_rows=4)) is None
    back = store.said_of(video("/a.mp4", said=9))
    assert back is not None
    assert (back.name, back.cues, back.passages, back.words) == (said.name, said.cues, said.passages, said.words)
    assert torch.equal(back.vectors, said.vectors)
    assert store.said_of(video("/a.mp4")) is None
    assert store.saying(" it's ") == {9}
    assert store.saying(" ça va ") == {10}
    assert store.saying(" va ça ") == set()


def test_what_no_file_refers_to_goes(store: Store) -> None:
    rows, said = np.zeros((3, 2), np.float32), Said.of("a.srt", [Cue(0, 1, "a")], torch.ones(1, 3))
    store.add_rows([(key, rows, torch.zeros(3, 4)) for key in (5, 6)])
    store.add_said([(8, said), (9, said)])
    store.put_videos([video("/a.mp4", said=9)])
    store.remove_unused()
    assert (store.counts("rows"), store.counts("said"), store.counts("passages")) == ({5: 3}, {9: 1}, {9: 1})


def test_many_small_writes_are_put_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrnet.library.store._MOST_FRAGMENTS", 4)

    def fragments() -> int:
        return int(store.table("rows").stats()["fragment_stats"]["num_fragments"])

    for key in range(4):
        store.add_rows([(key, np.zeros((3, 2), np.float32), torch.zeros(3, 4))])
    store.compact()
    assert fragments() == 4
    store.add_rows([(4, np.zeros((3, 2), np.float32), torch.zeros(3, 4))])
    store.compact()
    assert fragments() == 1
    assert store.counts("rows") == dict.fromkeys(range(5), 3)


def test_one_process_at_a_time(store: Store, tmp_path: Path) -> None:
    with (
        store.updating(),
        pytest.raises(OutputError, match="another process is writing here"),
        Store(tmp_path / "library").updating(),
    ):
        pass
    with store.updating():
        pass
