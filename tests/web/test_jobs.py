"""Questions wait, are answered in turn, are cancelled, and outlive the server."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from mrnet.answer import Answer
from mrnet.predictor import Predictor
from mrnet.types import Watch
from mrnet.web import jobs as jobs_module
from mrnet.web.app import make_app
from mrnet.web.jobs import Jobs, points
from mrnet.web.records import Records
from mrnet.web.uploads import Limits, Uploads
from tests.web.conftest import ask, finished, made_video, upload


@contextmanager
def server(predictor: Predictor, data: Path, **options: Any) -> Iterator[TestClient]:
    with TestClient(make_app(predictor, data, **options), base_url="http://127.0.0.1") as client:
        yield client


class Gate:
    """Holds up every encoding after its first rows, until it is opened."""

    def __init__(self, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        encode = predictor.encode_video

        def held(video: Path, *, watch: Watch) -> Any:
            watch(1, 4)
            self.reached.set()
            while not self.opened.wait(0.01):
                watch(1, 4)
            return encode(video, watch=watch)

        monkeypatch.setattr(predictor, "encode_video", held)


@pytest.fixture
def gate(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(predictor, monkeypatch)


def test_progress_and_places_in_the_queue(gate: Gate, predictor: Predictor, film: Path, tmp_path: Path) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        jobs = [ask(client, video, f"query {number}") for number in range(3)]
        assert gate.reached.wait(300)
        shown = [client.get(f"/api/jobs/{job['id']}").json() for job in jobs]
        assert [(job["state"], job["ahead"], job["share"]) for job in shown] == [
            ("running", 0, 0.25),
            ("queued", 1, None),
            ("queued", 2, None),
        ]
        gate.opened.set()
        assert [finished(client, job)["answer"]["query"] for job in jobs] == ["query 0", "query 1", "query 2"]


def test_too_many_are_refused_and_told_when_to_come_again(
    gate: Gate, predictor: Predictor, film: Path, tmp_path: Path
) -> None:
    with server(predictor, tmp_path / "data", most_waiting=2) as client:
        video = upload(client, film)
        first = ask(client, video, "first")
        assert gate.reached.wait(300)
        others = [ask(client, video, "other") for _ in range(2)]
        response = client.post("/api/jobs", json={"video": video["id"], "query": "one too many"})
        assert (response.status_code, response.headers["retry-after"]) == (429, "5")
        assert response.json() == {"detail": "2 questions are waiting already; ask again soon"}
        gate.opened.set()
        assert [finished(client, job)["state"] for job in (first, *others)] == ["done"] * 3


def test_cancelling(gate: Gate, predictor: Predictor, film: Path, tmp_path: Path) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        running, waiting = (ask(client, video, query) for query in ("running", "waiting"))
        assert gate.reached.wait(300)
        for job in (waiting, running):
            assert client.post(f"/api/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
            assert client.get(f"/api/jobs/{job['id']}/moments.vtt").status_code == 409
        gate.opened.set()
        third = finished(client, ask(client, video, "third"))
        assert third["state"] == "done"
        assert client.post(f"/api/jobs/{third['id']}/cancel").json() == third
        assert client.get(f"/api/jobs/{running['id']}").json()["answer"] is None


def test_a_video_may_be_removed_while_it_is_asked(
    gate: Gate, predictor: Predictor, film: Path, tmp_path: Path
) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        job = ask(client, video, "running")
        assert gate.reached.wait(300)
        assert client.delete(f"/api/videos/{video['id']}").status_code == 204
        gate.opened.set()
        assert client.get(f"/api/jobs/{job['id']}").status_code == 404
        assert finished(client, ask(client, upload(client, film), "again"))["state"] == "done"


def test_what_is_unfinished_is_done_by_the_next_server(
    gate: Gate, predictor: Predictor, film: Path, tmp_path: Path
) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        jobs = [ask(client, video, f"query {number}") for number in range(2)]
        assert gate.reached.wait(300)
    gate.opened.set()
    with server(predictor, tmp_path / "data") as client:
        done = [finished(client, job) for job in jobs]
        assert [job["answer"]["query"] for job in done] == ["query 0", "query 1"]
        assert client.get("/api/videos").json() == [video]
    with server(predictor, tmp_path / "data") as client:
        assert [client.get(f"/api/jobs/{job['id']}").json() for job in jobs] == done


def test_after_a_kill_a_running_job_is_done_anew(predictor: Predictor, film: Path, tmp_path: Path) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
    records = Records(tmp_path / "data" / "records.sqlite")
    records.add_job("k" * 22, video["id"], "a red square", "text", 2)
    assert records.take_queued() is not None  # and then the process is killed
    records.close()
    with server(predictor, tmp_path / "data") as client:
        done = finished(client, {"id": "k" * 22})
    assert done["answer"] == predictor.find(film, "a red square", 2).to_dict() | {"video": "film.mp4"}


def test_a_question_that_ends_two_servers_is_left(predictor: Predictor, film: Path, tmp_path: Path) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
    records = Records(tmp_path / "data" / "records.sqlite")
    for job_id in ("k" * 22, "l" * 22):
        records.add_job(job_id, video["id"], "a red square", "text", 2)
    for _ in range(2):  # servers that are killed
        records.recover("")
        taken = records.take_queued()
        assert taken is not None
        assert taken.id == "k" * 22
    records.close()
    with server(predictor, tmp_path / "data") as client:
        assert finished(client, {"id": "l" * 22})["state"] == "done"
        left = client.get(f"/api/jobs/{'k' * 22}").json()
    assert left["state"] == "failed"
    assert left["error"].startswith("the server was ended twice while it worked on this question")


def test_servers_that_are_ended_by_will_do_not_count(
    gate: Gate, predictor: Predictor, film: Path, tmp_path: Path
) -> None:
    with server(predictor, tmp_path / "data") as client:
        job = ask(client, upload(client, film), "a red square")
        assert gate.reached.wait(300)
    for _ in range(3):
        gate.reached.clear()
        with server(predictor, tmp_path / "data"):
            assert gate.reached.wait(300)
    gate.opened.set()
    with server(predictor, tmp_path / "data") as client:
        assert finished(client, job)["state"] == "done"


def test_failures_name_no_path(predictor: Predictor, film: Path, tmp_path: Path) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        stored = tmp_path / "data" / "videos" / f"{video['id']}.mp4"
        stored.write_bytes(stored.read_bytes()[:200])
        failed = finished(client, ask(client, video, "a red square"))
        assert failed["state"] == "failed"
        assert failed["error"].startswith("film.mp4: ")
        assert str(tmp_path) not in failed["error"]
        stored.unlink()
        assert client.post("/api/jobs", json={"video": video["id"], "query": "a"}).status_code == 404


def test_what_is_our_fault_fails_one_job_alone(
    predictor: Predictor, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = predictor.find

    def broken(video: Any, query: str, k: int) -> Any:
        if query == "break":
            raise ZeroDivisionError
        return find(video, query, k)

    monkeypatch.setattr(predictor, "find", broken)
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        failed, done = (finished(client, ask(client, video, query)) for query in ("break", "a red square"))
    assert (failed["error"], done["state"]) == (
        "answering failed (ZeroDivisionError); the server's log says more",
        "done",
    )


def test_a_video_that_stands_still_fails(
    gate: Gate, predictor: Predictor, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_LONGEST_HALT_S", 0.1)
    with server(predictor, tmp_path / "data") as client:
        failed = finished(client, ask(client, upload(client, film), "a red square"))
    assert (failed["state"], failed["error"][:23]) == ("failed", "the video stands still:")
    assert gate.reached.is_set()


def test_a_full_disk_refuses_and_loses_nothing(
    predictor: Predictor, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        with monkeypatch.context() as full:
            full.setattr(Records, "add_job", _full)
            full.setattr(Path, "rename", _full)
            for response in (
                client.post("/api/jobs", json={"video": video["id"], "query": "a red square"}),
                client.post("/api/videos", content=film.read_bytes()),
            ):
                assert (response.status_code, response.headers["retry-after"]) == (503, "30")
                assert response.json() == {"detail": "the server cannot write now; its log says why"}
        assert len(list((tmp_path / "data" / "videos").iterdir())) == 1
        assert finished(client, ask(client, video, "a red square"))["state"] == "done"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_no_memory_refuses(
    predictor: Predictor, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def none_left(*_: Any) -> None:
        raise error

    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        with monkeypatch.context() as full:
            full.setattr(Records, "add_job", none_left)
            response = client.post("/api/jobs", json={"video": video["id"], "query": "a red square"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "30")
        assert response.json() == {"detail": "the server has not enough memory for this now; ask again later"}


@pytest.mark.parametrize("method", ["recover", "queue_again", "take_queued", "finish"])
def test_the_worker_outlives_records_that_cannot_be_written(
    predictor: Predictor,
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    """What it could not write down it does again, and a recording is kept for as long."""
    monkeypatch.setattr(jobs_module, "_PAUSE_S", 0.01)
    with monkeypatch.context() as full:
        full.setattr(Records, method, _full)
        with server(predictor, tmp_path / "data") as client:
            job = ask(client, upload(client, film), "a red square")
            recording = tmp_path / "data" / "recordings" / f"{job['id']}.wav"
            recording.write_bytes(b"said")
            while "trying again" not in caplog.text:
                time.sleep(0.01)
            assert client.get(f"/api/jobs/{job['id']}").json()["state"] in ("queued", "running")
            assert recording.exists()
            full.undo()
            assert finished(client, job)["state"] == "done"
    assert not recording.exists()
    assert "Traceback" not in caplog.text
    said = "questions cannot be worked on; trying again (OperationalError: database or disk is full)"
    assert {record.getMessage() for record in caplog.records if record.name == "mrnet.web.jobs"} == {said}


def test_recordings_that_a_killed_server_left_are_removed(
    predictor: Predictor, film: Path, tmp_path: Path
) -> None:
    with server(predictor, tmp_path / "data") as client:
        video = upload(client, film)
        done = finished(client, ask(client, video, "a red square"))
    records = Records(tmp_path / "data" / "records.sqlite")
    records.add_job("k" * 22, video["id"], "", "speech", 2)
    names = [f"{name}.wav" for name in (done["id"], "k" * 22, "u" * 22)]  # done, waiting, never queued
    for name in names:
        (tmp_path / "data" / "recordings" / name).write_bytes(b"said")
    uploads = Uploads(tmp_path / "data" / "videos", records, Limits())
    Jobs(tmp_path / "data" / "recordings", records, uploads, predictor)
    records.close()
    assert [path.name for path in (tmp_path / "data" / "recordings").iterdir()] == [names[1]]


def test_it_ends_at_once_while_records_cannot_be_written(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs_module, "_PAUSE_S", 1000.0)
    monkeypatch.setattr(Records, "take_queued", _full)
    with server(predictor, tmp_path / "data"):
        while "trying again" not in caplog.text:
            time.sleep(0.01)
    assert "mrnet-jobs" not in {thread.name for thread in threading.enumerate()}


def _full(*_: Any, **__: Any) -> Any:
    raise sqlite3.OperationalError("database or disk is full")


def test_clips_that_a_killed_server_left_are_removed(predictor: Predictor, tmp_path: Path) -> None:
    left = tmp_path / "data" / "clips" / "abc"
    left.mkdir(parents=True)
    (left / "film_01.mp4").write_bytes(b"x")
    with server(predictor, tmp_path / "data"):
        assert list(left.parent.iterdir()) == []


def test_one_server_a_folder(predictor: Predictor, tmp_path: Path) -> None:
    from mrnet.errors import OutputError

    with server(predictor, tmp_path / "data"), pytest.raises(OutputError, match="another process is writing here"):
        make_app(predictor, tmp_path / "data")


def test_few_videos_are_held_ready(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = predictor.encode_video

    def counted(video: Path, **more: Any) -> Any:
        encoded.append(video.stem)
        return encode(video, **more)

    monkeypatch.setattr(predictor, "encode_video", counted)
    with server(predictor, tmp_path / "data") as client:
        videos = [upload(client, made_video(tmp_path / f"{seed}.mp4", 4, seed)) for seed in range(5)]
        for video in (*videos, videos[4], videos[1], videos[0]):
            assert finished(client, ask(client, video, "a"))["state"] == "done"
    assert encoded == [video["id"] for video in (*videos, videos[0])]


def test_curves_in_a_few_points() -> None:
    values = np.zeros((2000, 2), np.float32)
    values[:, 0] = np.arange(2000) / 2
    values[777, 1] = 0.5
    answer = Answer("q", "text", 1000.0, (), None, "score", "nobody", curve=values)
    found = points(answer)
    assert len(found) == 500
    assert [point for point in found if point[1]] == [(388.5, 0.5)]
    assert points(Answer("q", "text", 1.0, (), None, "score", "nobody")) == []
