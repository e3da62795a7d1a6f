"""Pictures of the page for docs/serve.md, at three widths, light and dark.

Of the SYNTHETIC footage of the demo alone, asked of the demo's own model: `mrnet demo` makes both. The library is of
its test videos, and searched without training.
Run: python tools/screenshots.py mrnet-demo docs/serve
"""

import argparse
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, Playwright, sync_playwright

from mrnet.library.library import Library
from mrnet.predictor import Predictor
from mrnet.web.app import make_app
from serving import serving

SCREENS = {"phone": (390, 780), "tablet": (820, 1000), "desktop": (1280, 800)}
"""Widths and heights, in pixels."""

_SEARCHED = "a red ball"
_COLORS = 256
_SETTLED_MS = 700
_LOADING = """[...document.images].some((image) =>
    image.checkVisibility() && !image.complete && image.getBoundingClientRect().top < innerHeight)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write them; returns the exit status."""
    parser = argparse.ArgumentParser(description="Pictures of the page, of the demo's synthetic footage.")
    parser.add_argument("demo", type=Path, help="folder that `mrnet demo` has made")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    name, queries = _asked(arguments.demo / "benchmark")
    film = arguments.demo / "benchmark" / "videos" / f"{name}.mp4"
    predictor = Predictor.load(arguments.demo / "run")
    with tempfile.TemporaryDirectory(prefix="mrnet-") as folder, sync_playwright() as playwright:
        library = _index(arguments.demo / "benchmark" / "videos", Path(folder))
        with serving(make_app(predictor, Path(folder) / "server", library=library)) as url:
            _picture_all(playwright, url, film, queries, arguments.out)
    return 0


def _index(videos: Path, folder: Path) -> Library:
    """A library of the test videos, copied into a folder."""
    copies = folder / "videos"
    copies.mkdir()
    for film in videos.glob("test_*.mp4"):
        shutil.copy(film, copies)
    library = Library.open(folder / "library")
    library.update(copies)
    return library


def _picture_all(playwright: Playwright, url: str, film: Path, queries: Sequence[str], out: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    _ask(browser.new_page(), url, film, queries)
    for scheme in ("light", "dark"):
        for screen, (width, height) in SCREENS.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            for part in ("start", "watch", "library"):
                _open(page, url, part)
                _keep(page, out / f"{part}-{screen}-{scheme}.png")
            page.close()
    browser.close()


def _asked(benchmark: Path) -> tuple[str, list[str]]:
    """A test video and sentences about it: the one that has most."""
    videos = json.loads((benchmark / "test.json").read_text(encoding="utf-8"))
    name = max(videos, key=lambda video: len(videos[video]["sentences"]))
    return name, [videos[name]["sentences"][0], videos[name]["sentences"][-1]]


def _ask(page: Page, url: str, film: Path, queries: Sequence[str]) -> None:
    page.goto(url)
    page.set_input_files("#pick", film)
    page.wait_for_selector("#watch:not([hidden])", timeout=120_000)
    for number, query in enumerate(queries, start=1):
        page.fill("#query", query)
        page.keyboard.press("Enter")
        page.locator(".answer > .moments").nth(number - 1).wait_for(timeout=120_000)
    page.close()


def _open(page: Page, url: str, part: str) -> None:
    page.goto(url)
    page.wait_for_selector("#start:not([hidden])")
    if part == "library":
        page.get_by_role("link", name="Library").click()
        page.fill("#library-query", _SEARCHED)
        page.keyboard.press("Enter")
        page.locator("#hits .video").first.wait_for()
    if part == "watch":
        page.locator(".video .cover").first.click()
        page.wait_for_selector(".answer .moments")
        page.locator(".answer .thumb").first.click()
    page.wait_for_timeout(_SETTLED_MS)
    while page.evaluate(_LOADING):
        page.wait_for_timeout(_SETTLED_MS)
    if part == "watch":
        page.evaluate("player.pause()")
        page.evaluate("document.activeElement.blur()")
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(_SETTLED_MS)


def _keep(page: Page, path: Path) -> None:
    """As a picture of few colours, which is a third of the size; chosen so that small things keep theirs."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    few = picture.quantize(_COLORS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    raise SystemExit(main())
