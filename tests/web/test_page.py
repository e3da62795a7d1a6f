"""The page, in Chromium: what a person does, by mouse, by keyboard and by voice."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from mrnet.media.audio import write_audio
from mrnet.media.video import probe
from mrnet.predictor import Predictor
from mrnet.types import Watch
from mrnet.web.app import make_app
from serving import serving
from tests.web.conftest import made_video

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

no_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; on Debian: apt install chromium")
pytestmark = [pytest.mark.browser, no_browser]


@pytest.fixture(scope="module")  # while it runs, asyncio.run cannot be called
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
        )
        yield browser
        browser.close()


@pytest.fixture
def url(hearing: Predictor, tmp_path: Path) -> Iterator[str]:
    """Of a server that hears."""
    with serving(make_app(hearing, tmp_path / "data")) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """On the first page; whatever the browser complains of fails the test."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write", "microphone"])
    page = context.new_page()
    page.set_default_timeout(300_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    refusals = re.compile("Failed to load resource: the server responded with a status of 4")
    page.goto(url)
    expect(page.get_by_role("heading", name="Find the moment.")).to_be_visible()
    yield page
    assert [complaint for complaint in complaints if not refusals.match(complaint)] == []
    context.close()


def open_film(page: Page, film: Path) -> None:
    page.set_input_files("#pick", film)
    expect(page.get_by_role("heading", name="film.mp4")).to_be_visible()


def find(page: Page, query: str) -> Any:
    """Type a query; its card, once it is answered."""
    page.get_by_role("textbox", name="What are you looking for?").fill(query)
    page.keyboard.press("Enter")
    card = page.locator(".answer").filter(has=page.get_by_role("heading", name=query))
    expect(card.locator(".moment").first).to_be_visible()
    return card


def until(page: Page, condition: str) -> None:
    """Playwright's own way of waiting is one that the page's content security policy does not allow."""
    for _ in range(6000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}")


def test_upload_ask_play_and_cut(page: Page, film: Path, tmp_path: Path) -> None:
    open_film(page, film)
    card = find(page, "a red square")
    times = card.locator(".times").first.inner_text()
    start, end = (60 * int(m) + float(s) for m, s in re.findall(r"(\d+):([\d.]+)", times))
    assert 0 <= start < end <= 8.1

    card.get_by_role("button", name="Play").first.click()
    until(page, f"player.currentTime >= {start} && !player.paused")
    until(page, "player.paused")  # at the end of the moment, or of the video
    assert page.evaluate("player.currentTime") == pytest.approx(min(end, 8.0), abs=0.7)

    with page.expect_download() as download:
        card.get_by_role("link", name="Exact clip").first.click()
    download.value.save_as(tmp_path / "clip.mp4")
    assert re.fullmatch(r"film_01_0m\d\ds-0m\d\ds\.mp4", download.value.suggested_filename)
    assert probe(tmp_path / "clip.mp4").duration_s == pytest.approx(end - start, abs=0.25)
    card.get_by_text("Download", exact=True).click()
    with page.expect_download() as download:
        card.get_by_role("link", name="Subtitles, WebVTT").click()
    assert "a red square" in Path(download.value.path()).read_text(encoding="utf-8")


def test_several_questions_and_a_link_that_reopens_one(page: Page, film: Path) -> None:
    open_film(page, film)
    first, second = find(page, "a red square"), find(page, "a blue circle")
    expect(page.locator(".lane")).to_have_count(2)
    expect(page.locator(".answer")).to_have_count(2)
    assert second.bounding_box()["y"] < first.bounding_box()["y"]
    times = first.locator(".times").all_inner_texts()
    first.get_by_role("button", name="None of these").click()
    expect(first.get_by_text("You said: none of these.")).to_be_visible()
    first.get_by_role("button", name="Copy a link").click()
    expect(page.get_by_text("The link is copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")

    other = page.context.new_page()
    other.goto(link)
    expect(other.locator(".answer")).to_have_count(1)
    assert other.locator(".answer .times").all_inner_texts() == times
    expect(other.get_by_text("You said: none of these.")).to_be_visible()
    expect(other.get_by_role("button", name="None of these")).to_have_attribute("aria-pressed", "true")


def test_say_it(page: Page, film: Path, tmp_path: Path, samples: Any) -> None:
    open_film(page, film)
    write_audio(tmp_path / "q.wav", samples(1.0))
    page.set_input_files("#sound", tmp_path / "q.wav")
    expect(page.get_by_text("heard: a red square")).to_have_count(1)
    page.get_by_role("button", name="Say it").click()
    expect(page.get_by_text(re.compile("Listening"))).to_be_visible()
    page.wait_for_timeout(600)  # of the sound that the browser makes up
    page.get_by_role("button", name="Say it").click()
    expect(page.get_by_text("heard: a red square")).to_have_count(2)
    expect(page.get_by_role("button", name="Say it")).to_have_attribute("aria-pressed", "false")


def test_the_microphone_is_off_whatever_happens_while_the_browser_asks(page: Page, film: Path) -> None:
    open_film(page, film)
    page.evaluate(
        """() => {
            const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            window.heard = [];
            navigator.mediaDevices.getUserMedia = (wanted) => new Promise((resolve) => {
                window.allow = async () => { const stream = await real(wanted); heard.push(stream); resolve(stream); };
            });
        }"""
    )
    over = (
        "heard.length === {} && heard.every((stream) => stream.getTracks().every((t) => t.readyState === 'ended'))"
    )
    button = page.get_by_role("button", name="Say it")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()  # no, after all
    page.evaluate("allow()")
    until(page, over.format(1))
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    page.evaluate("location.hash = '#/'")
    expect(page.get_by_role("heading", name="Find the moment.")).to_be_visible()
    page.evaluate("allow()")
    until(page, over.format(2))
    page.go_back()
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".answer")).to_have_count(0)


def test_an_answer_that_comes_late_stays_with_its_video(page: Page, film: Path, tmp_path: Path) -> None:
    held: list[Route] = []
    open_film(page, film)
    page.route("**/api/jobs", lambda route: held.append(route))
    page.get_by_role("textbox", name="What are you looking for?").fill("a red square")
    page.keyboard.press("Enter")
    while not held:
        page.wait_for_timeout(20)
    page.evaluate("location.hash = '#/'")
    page.set_input_files("#pick", made_video(tmp_path / "other.mp4", seed=1))
    expect(page.get_by_role("heading", name="other.mp4")).to_be_visible()
    held[0].continue_()
    expect(page.locator("#ask")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator(".answer, .bar-moment")).to_have_count(0)


def test_the_last_page_that_is_wanted_is_shown(page: Page, film: Path) -> None:
    held: list[Route] = []
    open_film(page, film)
    link = page.evaluate("location.hash")
    page.evaluate("location.hash = '#/'")
    expect(page.get_by_role("heading", name="Your videos")).to_be_visible()
    page.route(re.compile("/api/videos/[0-9a-f]{64}$"), lambda route: held.append(route))
    page.evaluate(f"location.hash = '{link}'")
    while not held:
        page.wait_for_timeout(20)
    page.evaluate("location.hash = '#/nothing'")
    page.wait_for_timeout(300)
    held[0].continue_()
    page.wait_for_timeout(300)
    expect(page.get_by_role("heading", name="Your videos")).to_be_visible()
    expect(page.get_by_role("heading", name="film.mp4")).to_be_hidden()


def test_a_clip_plays_at_its_place_in_the_video(page: Page, film: Path) -> None:
    open_film(page, film)
    page.evaluate("player.dispatchEvent(new Event('error'))")  # as of a browser that knows no such files
    expect(page.get_by_text("This browser cannot play the video as it is stored.")).to_be_visible()
    find(page, "a red square")
    slider = page.get_by_role("slider", name="Position in the video")
    bars = page.locator(".bar-moment")
    starts = [
        float(re.sub(r".*moment \d, 0:0(\d) to.*", r"\1", bar.get_attribute("aria-label") or ""))
        for bar in bars.all()
    ]
    last = max(range(len(starts)), key=starts.__getitem__)
    assert starts[last] > 0
    bars.nth(last).press("Enter")
    until(page, "player.currentTime > 0 && player.src.includes('/clips/')")
    assert int(slider.get_attribute("aria-valuenow") or 0) >= starts[last]
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", str(round(starts[last])))  # the clip begins there


def test_progress_and_cancelling(
    page: Page, film: Path, hearing: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(_: Path, *, watch: Watch) -> None:
        while True:
            watch(4, 10)
            time.sleep(0.01)

    monkeypatch.setattr(hearing, "encode_video", endless)
    open_film(page, film)
    page.get_by_role("textbox", name="What are you looking for?").fill("a red square")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Watching the video, 40 %")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Progress of: a red square")).to_have_attribute("value", "0.4")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled.")).to_be_visible()
    page.get_by_role("button", name="Remove: a red square").click()
    expect(page.locator(".answer")).to_have_count(0)


def test_by_keyboard_alone(page: Page, film: Path) -> None:
    open_film(page, film)
    expect(page.get_by_role("textbox", name="What are you looking for?")).to_be_focused()
    find(page, "a red square")
    slider = page.get_by_role("slider", name="Position in the video")
    slider.focus()
    for key, at_s in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 8), ("Home", 0)):
        page.keyboard.press(key)
        expect(slider).to_have_attribute("aria-valuenow", str(at_s))
    page.keyboard.press("Tab")
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert re.fullmatch(r"A, moment \d, 0:\d\d to 0:\d\d: play", name)
    page.keyboard.press("Enter")
    until(page, "!player.paused")
    expect(page.get_by_role("textbox", name="What are you looking for?")).to_have_attribute("accesskey", "q")
    page.get_by_role("link", name="Skip to the content").press("Enter")
    assert page.evaluate("[document.activeElement.id, location.hash.startsWith('#/video/')]") == ["main", True]


def test_landmarks_and_names(page: Page, film: Path) -> None:
    open_film(page, film)
    find(page, "a red square")
    for role in ("banner", "main", "navigation", "contentinfo", "search"):
        expect(page.get_by_role(role)).to_have_count(1)  # type: ignore[arg-type]
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, a, input, summary, progress, meter')].filter((part) =>
        part.checkVisibility() && !(part.getAttribute('aria-label') || part.textContent.trim() || part.labels?.length)
        ).map((part) => part.outerHTML)"""
    )
    assert nameless == []
    expect(page.locator("#status")).to_have_text(re.compile(r"a red square: .*moment"))


@pytest.mark.parametrize("width", [320, 390, 820, 1360])
def test_nothing_is_wider_than_the_screen(page: Page, film: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    open_film(page, film)
    find(
        page, "a red square with a very long description that goes on and on until it has to be broken into lines"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Table, CSV")).to_be_hidden()
    page.goto(page.url.split("#")[0])
    expect(page.get_by_role("heading", name="Your videos")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_very_long_question_leaves_room_for_its_answer(page: Page, film: Path) -> None:
    open_film(page, film)
    card = find(page, "a red square " + "that goes on and on " * 40)
    heading = card.locator("h2 .grow")
    assert heading.evaluate("it => it.clientHeight <= 4.2 * parseFloat(getComputedStyle(it).lineHeight)")
    assert heading.get_attribute("title") == "a red square " + ("that goes on and on " * 40).strip()


def test_what_is_refused_is_said(page: Page, tmp_path: Path, film: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    page.set_input_files("#pick", tmp_path / "notes.mp4")
    expect(page.get_by_role("alert").first).to_contain_text("no video of a type that is taken")
    expect(page.get_by_text("Drop a video here")).to_be_visible()
    open_film(page, film)
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text("Describe what you are looking for.")).to_be_visible()
    page.goto(page.url.split("#")[0] + "#/video/" + "0" * 64)
    expect(page.get_by_role("heading", name="Not here")).to_be_visible()


def test_the_api_is_described(page: Page) -> None:
    page.get_by_role("navigation").get_by_role("link", name="API").click()
    expect(page.get_by_text("/api/jobs/{job_id}/clips/{rank}")).to_be_visible()
    expect(page.get_by_role("heading", name="AnswerJson")).to_be_visible()


def test_the_page_asks_for_the_token(browser: Browser, hearing: Predictor, tmp_path: Path) -> None:
    token = "a-token-of-some-length"
    with serving(make_app(hearing, tmp_path / "guarded", token=token)) as url:
        by_link, by_form = browser.new_context().new_page(), browser.new_context().new_page()
        by_link.goto(f"{url}/#token={token}")
        expect(by_link.get_by_text("Drop a video here")).to_be_visible()
        assert by_link.url == f"{url}/"
        by_form.goto(url)
        for given in ("no-such-token", token):
            by_form.get_by_role("textbox", name="Token").fill(given)
            by_form.get_by_role("button", name="Enter").click()
            if given != token:
                expect(by_form.get_by_text("this is not the token")).to_be_visible()
        expect(by_form.get_by_text("Drop a video here")).to_be_visible()
