"""A server in the test's process, with a tiny model that answers whatever it is asked."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from httpx import Client
from starlette.testclient import TestClient

from mrnet.config.run import RunConfig
from mrnet.features.cache import FeatureCache
from mrnet.features.registry import make_backbone
from mrnet.library.library import Library
from mrnet.media.video import write_video
from mrnet.predictor import Predictor
from mrnet.web.app import make_app
from tests.conftest import save_untrained, spec_of
from tests.library.conftest import Colours, answering, paint

JobOf = Callable[..., dict[str, Any]]


def made_video(path: Path, seconds: int = 8, seed: int = 0) -> Path:
    """A film of four colours, two seconds each."""
    colors = np.random.default_rng(seed).integers(0, 255, (seconds // 2 + 1, 3), np.uint8)
    frames = (np.broadcast_to(colors[index // 10], (48, 64, 3)) for index in range(5 * seconds))
    write_video(path, (np.ascontiguousarray(frame) for frame in frames), fps=5)
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Eight seconds."""
    return made_video(tmp_path / "film.mp4")


@pytest.fixture
def predictor(tmp_path: Path, tiny: Callable[..., RunConfig]) -> Predictor:
    """An untrained model of raw videos and text queries, which always finds something."""
    video = make_backbone("video", "color-hog-motion").provenance()
    text = make_backbone("text", "hashed-words").provenance()
    config = tiny(model={"video_dim": video.dim, "query_dim": text.dim})
    folder = save_untrained(tmp_path / "model", config, spec_of(config, video=video, text=text))
    return Predictor.load(folder, "cpu", cache=FeatureCache(tmp_path / "cache"))


@pytest.fixture
def hearing(tmp_path: Path, predictor: Predictor) -> Predictor:
    """The same with a recogniser that always hears one sentence."""
    return Predictor(predictor.engine, FeatureCache(tmp_path / "cache"), lambda _: "a red square")


@pytest.fixture
def colours() -> Predictor:
    """Aligned encoders, which a library can be searched by."""
    return answering(Colours("video"))


@pytest.fixture
def library(tmp_path: Path, colours: Predictor) -> Library:
    """Two videos, one in a folder of its own."""
    paint(tmp_path / "videos" / "a.mp4", "red", "green", "blue")
    paint(tmp_path / "videos" / "trip" / "b.mp4", "white", "yellow")
    library = Library.open(tmp_path / "library", colours)
    library.update(tmp_path / "videos")
    return library


@pytest.fixture
def client(tmp_path: Path, predictor: Predictor) -> Iterator[TestClient]:
    """Asks the server."""
    app = make_app(predictor, tmp_path / "data")
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


def upload(client: Client, path: Path, name: str = "film.mp4") -> dict[str, Any]:
    """The video, as the server describes it."""
    response = client.post("/api/videos", params={"name": name}, content=path.read_bytes())
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def ask(client: Client, video: dict[str, Any], query: str, **more: Any) -> dict[str, Any]:
    """A question, just asked."""
    response = client.post("/api/jobs", json={"video": video["id"], "query": query, **more})
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.json()
    return found


def finished(client: Client, job: dict[str, Any], tries: int = 600) -> dict[str, Any]:
    """A question, once it has ended."""
    for _ in range(tries):
        found: dict[str, Any] = client.get(f"/api/jobs/{job['id']}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"still {found['state']}")
