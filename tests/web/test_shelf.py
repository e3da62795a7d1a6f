"""A library on the page and in the API: searched as `mrnet search` does, its files named by nobody."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from starlette.testclient import TestClient

from mrnet.errors import LibraryError
from mrnet.library.library import Library
from mrnet.predictor import Predictor
from mrnet.web.app import make_app
from mrnet.web.shelf import Shelf, folders, id_of
from serving import serving
from tests.web.conftest import ask, finished
from tests.web.test_page import browser as browser
from tests.web.test_page import no_browser


@pytest.fixture
def client(tmp_path: Path, colours: Predictor, library: Library) -> Iterator[TestClient]:
    app = make_app(colours, tmp_path / "data", library=library)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_search_answers_as_the_library_does(client: TestClient, library: Library) -> None:
    response = client.post("/api/library/search", json={"query": "something yellow", "k": 3})
    assert response.json() == library.search("something yellow", 3).to_dict()
    best = response.json()["hits"][0]
    assert Path(best["video"]).name == "b.mp4"
    assert (best["start_s"], best["end_s"]) == pytest.approx((4.0, 8.0), abs=0.5)


def test_filters(client: TestClient, tmp_path: Path) -> None:
    def searched(**filters: Any) -> list[str]:
        found = client.post("/api/library/search", json={"query": "red", **filters}).json()
        return sorted({Path(hit["video"]).name for hit in found["hits"]})

    assert searched() == ["a.mp4", "b.mp4"]
    assert searched(folder=str(tmp_path / "videos" / "trip")) == ["b.mp4"]
    assert searched(name="A*") == ["a.mp4"]
    assert searched(until="2001-01-01") == []
    assert searched(since=date.today().isoformat()) == ["a.mp4", "b.mp4"]
    for folder in ("/etc", str(tmp_path / "data"), "../..", "\0"):
        response = client.post("/api/library/search", json={"query": "red", "folder": folder})
        assert response.json() == {"detail": f"no video of the library lies below {folder!r}"}
    assert client.post("/api/library/search", json={"query": "red", "since": "soon"}).status_code == 422


def test_a_hit_is_opened_where_it_lies(client: TestClient, tmp_path: Path) -> None:
    first = client.get("/api/library/videos").json()[0]
    assert (first["name"], first["id"], first["duration_s"]) == ("a.mp4", id_of(first["path"]), 12.0)
    url = f"/api/library/videos/{first['id']}"
    assert client.get(f"{url}/still", params={"at_s": 5}).headers["content-type"] == "image/jpeg"
    video = client.post(f"{url}/open").json()
    assert client.get("/api/videos").json() == [video]
    assert client.get(f"/api/videos/{video['id']}/file").content == Path(first["path"]).read_bytes()
    answer = finished(client, ask(client, video, "something green", k=1))["answer"]
    [moment] = answer["moments"]
    assert (moment["start_s"], moment["end_s"]) == pytest.approx((4.0, 8.0), abs=0.5)
    assert list((tmp_path / "data" / "videos").iterdir()) == []
    assert client.delete(f"/api/videos/{video['id']}").status_code == 204
    assert Path(first["path"]).is_file()
    Path(first["path"]).unlink()
    assert client.post(f"{url}/open").status_code == 404
    assert client.post(f"/api/library/videos/{'0' * 64}/open").status_code == 404


def test_a_file_that_was_replaced_is_another_video(client: TestClient) -> None:
    first, second = client.get("/api/library/videos").json()[:2]
    video = client.post(f"/api/library/videos/{first['id']}/open").json()
    job = ask(client, video, "something green")
    assert finished(client, job)["state"] == "done"
    assert client.get(f"/api/videos/{video['id']}").json() == video
    Path(first["path"]).write_bytes(Path(second["path"]).read_bytes())
    for url in (f"/api/videos/{video['id']}/file", f"/api/videos/{video['id']}", f"/api/jobs/{job['id']}/clips/1"):
        assert client.get(url).status_code == 404
    other = client.post(f"/api/library/videos/{first['id']}/open").json()
    assert other["id"] != video["id"]
    assert client.get(f"/api/videos/{other['id']}").json() == other
    assert client.delete(f"/api/videos/{video['id']}").status_code == 204  # what is of no use can go
    assert client.get("/api/videos").json() == [other]
    Path(first["path"]).unlink()
    assert client.get(f"/api/videos/{other['id']}").status_code == 404
    assert client.delete(f"/api/videos/{other['id']}").status_code == 204
    assert client.get("/api/videos").json() == []


def test_a_library_that_is_not_there_is_refused(tmp_path: Path, colours: Predictor) -> None:
    with pytest.raises(LibraryError, match="there is no library yet"):
        Shelf(Library.open(tmp_path / "none", colours))


def test_folders(library: Library, tmp_path: Path) -> None:
    found = folders(library.videos())
    assert {str(tmp_path), str(tmp_path / "videos"), str(tmp_path / "videos" / "trip")} <= found
    assert str(tmp_path / "library") not in found


@pytest.mark.browser
@no_browser
def test_the_page_searches_and_opens(browser: Any, tmp_path: Path, colours: Predictor, library: Library) -> None:
    with serving(make_app(colours, tmp_path / "data", library=library)) as url:
        page = browser.new_page()
        page.set_default_timeout(300_000)
        page.goto(url)
        page.get_by_role("link", name="Library").click()
        expect(page.get_by_text("2 videos, less than a minute")).to_be_visible()
        page.get_by_role("textbox", name="What are you looking for?").fill("something yellow")
        page.keyboard.press("Enter")
        hit = page.locator("#hits .video").first
        expect(hit.locator(".times")).to_have_text("0:04 – 0:08")
        hit.get_by_role("button", name="b.mp4").click()
        expect(page.get_by_role("heading", name="b.mp4")).to_be_visible()
        expect(page.locator(".answer h2")).to_contain_text("something yellow")
        expect(page.locator(".answer .times").first).to_have_text(re.compile(r"0:0[34]\.\d – 0:0[78]\.\d"))
        assert page.evaluate("player.currentTime") == pytest.approx(4.0, abs=0.5)
        page.get_by_role("link", name="API").click()
        page.get_by_role("link", name="Library").click()
        expect(page.get_by_text("2 videos, less than a minute")).to_be_visible()
        page.get_by_role("textbox", name="What are you looking for?").fill("red")
        page.get_by_text("Filters").click()
        page.locator("#library-name").fill("no such name")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Not in 0 of 2 videos, as far as can be told.")).to_be_visible()
        page.close()
