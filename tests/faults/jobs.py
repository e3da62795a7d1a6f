"""The long work that faults happen to. To add a kind, write a class with these members and enter it in ``JOBS``."""

import json
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from mrnet.features.cache import FeatureCache
from mrnet.features.store.reader import feature_files, open_store
from mrnet.weights.native import load_checkpoint
from tests.fuzz.inputs import Inputs


class Job(ABC):
    """A command that writes into a folder, and how to tell that what is there is whole.

    Args:
        inputs: what it works on.
        folder: what it writes into; its working folder.
    """

    steps: int
    """How many times it changes something in its folder, once that is known."""

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        self.inputs = inputs
        self.folder = folder

    @property
    @abstractmethod
    def words(self) -> list[str]:
        """Of the command line; again after a fault, to go on or to begin anew."""

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


JOBS = {job.__name__: job for job in (Training, Extraction, ExtractionIntoFolder, Cache)}
