"""What is remembered."""

import sqlite3
from pathlib import Path

import pytest

from mrnet.errors import OutputError
from mrnet.web import records as module
from mrnet.web.records import Records, Video

VIDEO = Video("f" * 64, "a.mp4", ".mp4", 8.0, 64, 48, 1000, 1.0)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "records.sqlite")


def test_videos(records: Records) -> None:
    records.add_video(VIDEO)
    assert (records.video(VIDEO.id), records.videos(), records.stored_bytes()) == (VIDEO, [VIDEO], 1000)
    records.remove_video(VIDEO.id)
    assert (records.video(VIDEO.id), records.videos(), records.stored_bytes()) == (None, [], 0)


def test_jobs_are_taken_in_order_and_end_once(records: Records) -> None:
    for name in ("first", "second"):
        records.add_job(name, VIDEO.id, name, "text", None)
    assert (records.num_queued(), records.num_queued(before=2)) == (2, 1)
    taken = records.take_queued()
    assert taken is not None
    assert (taken.id, taken.state, taken.k) == ("first", "running", None)
    records.finish("first", "cancelled")
    records.finish("first", "done", curve=[(0.5, 1.0)])
    job = records.job("first")
    assert job is not None
    assert (job.state, list(job.curve)) == ("cancelled", [])
    assert [job.id for job in records.jobs_of(VIDEO.id)] == ["second", "first"]


def test_the_oldest_that_have_ended_go(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_JOBS", 2)
    records.add_job("queued", VIDEO.id, "q", "text", 1)
    for name in ("a", "b", "c"):
        records.add_job(name, VIDEO.id, "q", "text", 1)
        records.finish(name, "done")
    records.add_job("d", VIDEO.id, "q", "text", 1)
    assert [job.id for job in records.jobs_of(VIDEO.id)] == ["d", "c", "queued"]


def test_records_of_the_version_before_are_taken(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old", isolation_level=None)
    added = ", interrupted INTEGER NOT NULL DEFAULT 0"
    assert added in module._SCHEMA
    old.executescript(module._SCHEMA.replace(added, "") + "PRAGMA user_version = 1;")
    old.execute(
        "INSERT INTO jobs (id, video, query, kind, state, asked_s) VALUES ('a', 'v', 'q', 'text', 'running', 1.5)"
    )
    old.close()
    for _ in range(2):
        records = Records(tmp_path / "old")
        assert [(job.id, job.state, job.asked_s) for job in records.jobs_of("v")] == [("a", "running", 1.5)]
        records.close()


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but a text that is long enough to be looked at" * 100)
    with pytest.raises(OutputError, match=r"text: cannot be opened \(file is not a database\)"):
        Records(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(OutputError, match="another version of mrnet"):
        Records(tmp_path / "other")
