"""The long work that faults happen to. To add a kind, write a class with these members and enter it in ``JOBS``."""

import hashlib
import json
import logging
import shutil
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from mrnet.cli import main
from mrnet.errors import MRNetError
from mrnet.features.cache import FeatureCache
from mrnet.features.store.reader import feature_files, open_store
from mrnet.library import update
from mrnet.library.store import Store
from mrnet.web.records import FINAL, Records
from mrnet.weights.native import load_checkpoint
from tests.fuzz.inputs import Inputs


class Job(ABC):
    """A command that writes into a folder, and how to tell that what is there is whole.

    Args:
        inputs: what it works on.
        folder: what it writes into, made; its working folder.
    """

    least_memory = 2**22
    """Bytes beside what its process has when it begins; with less, libraries that it uses end in ways of their own."""

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        folder.mkdir()
        self.inputs = inputs
        self.folder = folder

    @property
    @abstractmethod
    def words(self) -> list[str]:
        """Of the command line; again after a fault, to go on or to begin anew."""

    def run(self, words: list[str]) -> int:
        """The command, in a process of its own; its exit status."""
        return main(words)

    @abstractmethod
    def result(self) -> Any:
        """What it has made so far, after looking whether that is whole; after a run without faults always the same.

        Raises:
            Exception: something is there and not whole.
        """


class Training(Job):
    @property
    def words(self) -> list[str]:
        words = ["train", "--config", str(self.inputs.folder / "config.yaml"), "--cpu", "--out", "run"]
        more = ["--resume"] if (self.folder / "run" / "run.json").exists() else []
        return [*words, "--set", "train.epochs=2", *more]

    def result(self) -> Any:
        run = self.folder / "run"
        if not (run / "run.json").exists():
            return None
        state = json.loads((run / "run.json").read_text())
        if state["last"] is None:
            return 0
        weights = load_checkpoint(run / "checkpoints" / state["last"]).weights
        load_checkpoint(run)
        return len(state["history"]), {name: weight.tolist() for name, weight in weights.items()}


class Extraction(Job):
    name = "rows.h5"

    @property
    def words(self) -> list[str]:
        videos = self.folder / "videos"
        if not videos.exists():
            videos.mkdir()
            for number in range(3):
                shutil.copy(self.inputs.folder / "v.mp4", videos / f"v{number}.mp4")
        return [
            "features",
            "video",
            "videos",
            "--backbone",
            "color-hog-motion",
            "--out",
            self.name,
            "--workers",
            "1",
        ]

    def result(self) -> Any:
        path = self.folder / self.name
        if not path.exists() or (path.is_dir() and not feature_files(path)):
            return None
        store = open_store(path)
        return {video_id: store.read(video_id).tolist() for video_id in store.ids()}


class ExtractionIntoFolder(Extraction):
    name = "rows"


class Cache(Job):
    @property
    def words(self) -> list[str]:
        checkpoint = str(self.inputs.folder / "model")
        return ["find", str(self.inputs.folder / "v.mp4"), "a dog", "--checkpoint", checkpoint, "--no-subtitles"]

    def result(self) -> Any:
        cache = FeatureCache(self.folder / "cache")
        provenance = load_checkpoint(self.inputs.folder / "model").spec.provenances["video"]
        for entry in cache.entries():
            assert entry.backbone == "color-hog-motion"
        rows = cache.get(self.inputs.folder / "v.mp4", provenance)
        return None if rows is None else np.asarray(rows).tolist()


class Index(Job):
    """Of a new library, written bit by bit."""

    least_memory = 2**25

    @property
    def words(self) -> list[str]:
        return ["index", str(self.inputs.folder / "videos"), "--library", "library"]

    def run(self, words: list[str]) -> int:
        with patch.object(update, "_ROWS_AT_ONCE", 1):
            return main(words)

    def result(self) -> Any:
        store = Store(self.folder / "library")
        if store.provenance() is None:
            return None
        videos = {}
        for video in store.videos():
            rows, said = store.rows_of(video), store.said_of(video)
            assert rows is not None
            assert (said is None) == (video.said is None)
            words = None if said is None else (said.words, said.vectors.tolist())
            videos[video.path] = (video.duration_s, rows.tolist(), words)
        return videos, [store.counts(name) for name in ("rows", "said", "passages")]


class IndexAgain(Index):
    """Of a library whose folder has changed: a video has gone, one has moved, one has other subtitles, one is new."""

    @property
    def words(self) -> list[str]:
        before, videos = self.inputs.folder / "before.library", self.inputs.folder / "changed"
        if not before.exists():
            shutil.copytree(self.inputs.folder / "videos", videos)
            shutil.copy(self.inputs.folder / "v.avi", videos / "gone.avi")
            assert main(["index", str(videos), "--library", str(before)]) == 0
            (videos / "gone.avi").unlink()
            (videos / "trip" / "w.mkv").rename(videos / "moved.mkv")
            (videos / "v.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nwe have the boat with this\n")
            shutil.copy(self.inputs.folder / "v.mpg", videos / "new.mpg")
            (videos / "new.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nwhat are you here for\n")
        if not (self.folder / "library").exists():
            shutil.copytree(before, self.folder / "library")
        return ["index", str(videos), "--library", "library"]


class Server(Job):
    """Of one client, which is there in place of the network, sends a video and waits for the answer to a question."""

    @property
    def words(self) -> list[str]:
        checkpoint = str(self.inputs.folder / "model")
        return ["serve", "--data", "data", "--port", "0", "--checkpoint", checkpoint, "--no-cache"]

    def run(self, words: list[str]) -> int:
        with patch("uvicorn.Server.run", lambda server, **_: self._ask(server.config.app)):
            return main(words)

    def _ask(self, app: Any) -> None:
        """Ask what has not been answered yet.

        Raises:
            MRNetError: a request was refused, or a question cannot be answered now.
        """
        from starlette.testclient import TestClient

        in_trouble = threading.Event()  # what it logs then is that it tries again, for ever perhaps
        logging.getLogger("mrnet.web.jobs").addFilter(lambda _: in_trouble.set() is None)
        with TestClient(app, base_url="http://127.0.0.1") as client:

            def said(method: str, path: str, **more: Any) -> Any:
                response = client.request(method, f"/api/{path}", **more)
                if not response.is_success:
                    raise MRNetError(response.json()["detail"])
                return response.json()

            content = (self.inputs.folder / "v.mp4").read_bytes()
            video = said("POST", "videos", params={"name": "v.mp4"}, content=content)["id"]
            jobs = [job for job in said("GET", f"videos/{video}/jobs") if job["state"] != "failed"]
            job = jobs[0] if jobs else said("POST", "jobs", json={"video": video, "query": "a dog"})
            while job["state"] not in FINAL:
                if in_trouble.wait(0.02):
                    raise MRNetError("a question cannot be answered now")
                job = said("GET", f"jobs/{job['id']}")
            if job["state"] == "failed":
                raise MRNetError(job["error"])

    def result(self) -> Any:
        data = self.folder / "data"
        if not (data / "records.sqlite").exists():
            return None
        records = Records(data / "records.sqlite")
        answers = {}
        for video in records.videos():
            content = (data / "videos" / f"{video.id}{video.suffix}").read_bytes()
            assert hashlib.sha256(content).hexdigest() == video.id
            jobs = records.jobs_of(video.id)
            for job in jobs:
                assert (job.answer is not None, bool(job.error)) == (job.state == "done", job.state == "failed")
            answers[video.id] = [(job.answer, job.curve) for job in jobs if job.state == "done"]
        records.close()
        return answers


JOBS = {
    job.__name__: job for job in (Training, Extraction, ExtractionIntoFolder, Cache, Index, IndexAgain, Server)
}
