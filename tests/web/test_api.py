"""The API: what it answers is what the predictor answers."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from mrnet.media.audio import write_audio
from mrnet.media.video import probe
from mrnet.predictor import Predictor
from mrnet.web.app import make_app
from tests.web.conftest import ask, finished, upload

NOWHERE = "0" * 64
NOBODY = "a" * 22


def test_upload_is_known_by_its_content(client: TestClient, film: Path, tmp_path: Path) -> None:
    found = upload(client, film, "../../etc/holiday 1.mp4")
    digest = hashlib.sha256(film.read_bytes()).hexdigest()
    assert found == {
        "id": digest,
        "name": "holiday 1.mp4",
        "duration_s": 8.0,
        "width": 64,
        "height": 48,
        "num_bytes": film.stat().st_size,
    }
    assert upload(client, film, "again.mp4")["id"] == digest
    assert client.get("/api/videos").json() == [found | {"name": "again.mp4"}]
    assert [path.name for path in (tmp_path / "data" / "videos").iterdir()] == [f"{digest}.mp4"]


def test_answer_is_that_of_the_predictor(client: TestClient, film: Path, predictor: Predictor) -> None:
    video = upload(client, film)
    job = ask(client, video, "a red square", k=3)
    assert (job["state"], job["answer"], job["none_here"]) == (job["state"], None, False)
    done = finished(client, job)
    expected = predictor.find(film, "a red square", 3).to_dict()
    assert done["state"] == "done"
    assert done["answer"] == expected | {"video": "film.mp4"}
    assert len(done["answer"]["moments"]) == 3
    assert client.get(f"/api/videos/{video['id']}/jobs").json() == [done]


def test_every_failure_is_one_line(client: TestClient, film: Path) -> None:
    video = upload(client, film)
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (422, "video: String should match", {"video": "../x", "query": "a"}),
        (422, "query: String should have at least 1", {"video": video["id"], "query": ""}),
        (422, "k: Input should be greater", {"video": video["id"], "query": "a", "k": 0}),
        (422, "path: Extra inputs", {"video": video["id"], "query": "a", "path": "/etc/passwd"}),
        (404, "there is no such video", {"video": NOWHERE, "query": "a"}),
    ]
    for status, words, body in cases:
        response = client.post("/api/jobs", json=body)
        assert (response.status_code, response.json()["detail"][: len(words)]) == (status, words)
    endless = client.post("/api/jobs", json={"video": video["id"], "query": "a", "x" * 5000: 1}).json()["detail"]
    assert endless.startswith("xxx")
    assert endless.endswith("Extra inputs are not permitted")
    assert len(endless) < 1100
    for path in (
        f"/api/jobs/{NOBODY}",
        f"/api/videos/{NOWHERE}",
        f"/api/videos/{NOWHERE}/file",
        "/static/../app.py",
    ):
        assert client.get(path).status_code == 404, path
    failed = finished(client, ask(client, video, "a", k=None))
    assert failed["state"] == "failed"
    assert "ask for a number of moments" in failed["error"]


def test_ranges_of_a_file(client: TestClient, film: Path) -> None:
    video, content = upload(client, film), film.read_bytes()
    url = f"/api/videos/{video['id']}/file"
    assert client.get(url).content == content
    part = client.get(url, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    assert client.get(url, headers={"range": f"bytes={len(content)}-"}).status_code == 416


def test_pictures(client: TestClient, film: Path) -> None:
    video = upload(client, film)
    strip = Image.open(io.BytesIO(client.get(f"/api/videos/{video['id']}/strip").content))
    assert (strip.format, strip.size) == ("JPEG", (12 * 128, 72))
    colors = np.random.default_rng(0).integers(0, 255, (5, 3), np.uint8)
    for at_s, color in ((1.0, colors[0]), (5.0, colors[2]), (99.0, colors[3])):
        response = client.get(f"/api/videos/{video['id']}/still", params={"at_s": at_s})
        picture = np.asarray(Image.open(io.BytesIO(response.content)), np.int64)
        assert abs(picture.mean((0, 1)) - color).max() < 6
    assert client.get(f"/api/videos/{video['id']}/still", params={"at_s": "nan"}).status_code == 422


def test_what_one_takes_away(client: TestClient, film: Path, tmp_path: Path) -> None:
    job = finished(client, ask(client, upload(client, film, "my film.mp4"), "a red square", k=2))
    url, best = f"/api/jobs/{job['id']}", job["answer"]["moments"][0]
    exact = client.get(f"{url}/clips/1", params={"exact": True})
    assert exact.headers["content-type"] == "video/mp4"
    assert 'filename="my_film_01_0m' in exact.headers["content-disposition"]
    (tmp_path / "clip.mp4").write_bytes(exact.content)
    assert abs(probe(tmp_path / "clip.mp4").duration_s - (best["end_s"] - best["start_s"])) <= 0.21
    assert client.get(f"{url}/clips/2").status_code == 200
    assert list((tmp_path / "data" / "clips").iterdir()) == []
    assert client.get(f"{url}/clips/3").json() == {"detail": "this answer has 2 moments, none of rank 3"}
    assert client.get(f"{url}/moments.json").json() == job["answer"]
    vtt = client.get(f"{url}/moments.vtt")
    assert vtt.headers["content-disposition"] == "attachment; filename*=UTF-8''my%20film.vtt"
    assert vtt.text.startswith("WEBVTT")
    assert vtt.text.count("a red square") == 2
    assert "FROM CLIP NAME: my film.mp4" in client.get(f"{url}/moments.edl").text
    assert '"target_url": "my%20film.mp4"' in client.get(f"{url}/moments.otio").text
    assert client.get(f"{url}/moments.csv").text.splitlines()[0].startswith("rank,start_s,end_s")
    assert client.get(f"{url}/moments.exe").status_code == 422


def test_feedback_is_kept_with_the_question(client: TestClient, film: Path) -> None:
    job = finished(client, ask(client, upload(client, film), "a red square"))
    url = f"/api/jobs/{job['id']}"
    assert client.put(f"{url}/feedback", json={"none_here": True}).json() == job | {"none_here": True}
    assert client.get(url).json()["none_here"] is True
    assert client.put(f"{url}/feedback", json={"none_here": False}).json() == job


def test_what_is_removed_is_gone(client: TestClient, film: Path, tmp_path: Path) -> None:
    video = upload(client, film)
    first, second = (finished(client, ask(client, video, query)) for query in ("one", "two"))
    assert client.delete(f"/api/jobs/{first['id']}").status_code == 204
    assert client.get(f"/api/jobs/{first['id']}").status_code == 404
    assert client.delete(f"/api/videos/{video['id']}").status_code == 204
    assert client.get(f"/api/jobs/{second['id']}").status_code == 404
    assert client.get("/api/videos").json() == []
    assert list((tmp_path / "data" / "videos").iterdir()) == []


def test_spoken_queries(hearing: Predictor, film: Path, tmp_path: Path, samples: Any) -> None:
    write_audio(tmp_path / "q.wav", samples(1.0))
    recording = (tmp_path / "q.wav").read_bytes()
    with TestClient(make_app(hearing, tmp_path / "data"), base_url="http://localhost") as client:
        assert client.get("/api/about").json()["hears"] is True
        url = f"/api/videos/{upload(client, film)['id']}/speech"
        done = finished(client, client.post(url, content=recording).json())
        assert (done["answer"]["query"], done["answer"]["note"]) == ("a red square", "heard: a red square")
        assert client.post(url, content=b"ID3 no such thing").status_code == 415
        assert client.post(url, content=b"RIFF" + bytes(5 * 2**20)).status_code == 413
    assert list((tmp_path / "data" / "recordings").iterdir()) == []


def test_where_nothing_hears_it_says_what_would(client: TestClient, film: Path) -> None:
    about = client.get("/api/about").json()
    assert (about["hears"], "give a recogniser of speech" in about["hears_not"]) == (False, True)
    url = f"/api/videos/{upload(client, film)['id']}/speech"
    response = client.post(url, content=b"RIFF\0\0\0\0WAVE")
    assert (response.status_code, response.json()["detail"]) == (422, about["hears_not"])
