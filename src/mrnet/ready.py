"""Videos, made ready to be asked."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrnet.data.sources import check_provenance
from mrnet.engines import Engine
from mrnet.errors import DataError, FeatureError, FeatureShapeError, VideoError
from mrnet.features.backbone import Backbone, Rows
from mrnet.features.cache import FeatureCache
from mrnet.features.extraction.pipeline import Outcomes, encode_all
from mrnet.media.video import falls_short, probe
from mrnet.provenance import Provenance
from mrnet.retrieval.said import Said, Subtitles
from mrnet.types import Watch


@dataclass(frozen=True)
class ReadyVideo:
    """A video ready to be asked, made by :meth:`mrnet.predictor.Predictor.encode_video`.

    Attributes:
        encoded: what the scorer keeps of it.
        duration_s: its length in seconds.
        path: the file, where it was one.
        said: in it, by its subtitles, where there are any.
        note: what to know about every answer out of it; empty where nothing.
    """

    encoded: Any
    duration_s: float
    path: Path | None = None
    said: Said | None = None
    note: str = ""


class VideoEncoder:
    """Makes videos ready for what answers.

    Args:
        engine: its encoder of videos and its scorer.
        subtitles: what reads what is said; ``None`` where that is not searched.
        cache: of encoded videos; ``None`` keeps nothing.
        lock: held while an encoder or the scorer works, which is for one at a time.
    """

    def __init__(
        self,
        engine: Engine,
        subtitles: Subtitles | None,
        cache: FeatureCache | None,
        lock: AbstractContextManager[Any],
    ) -> None:
        self._engine, self._subtitles, self._cache, self._lock = engine, subtitles, cache, lock

    def encode(
        self,
        video: str | Path | npt.NDArray[np.float32] | Tensor,
        duration_s: float | None = None,
        *,
        provenance: Provenance | None = None,
        watch: Watch | None = None,
    ) -> ReadyVideo:
        """As of :meth:`mrnet.predictor.Predictor.encode_video`."""
        made_for, path, said, note = self._engine.provenance, None, None, ""
        if isinstance(video, str | Path):
            path = Path(video)
            array, where = self._rows(path, watch), str(path)
            said = self.read_said(path)
            reached_s, note = self.measure(path, array)
            duration_s = duration_s or reached_s
        else:
            check_provenance(provenance, made_for, "video")
            array, where = np.asarray(video, dtype=np.float32), "the given array"
            if array.ndim != 2 or not len(array):
                raise FeatureShapeError(f"{where} has shape {list(array.shape)}: give (r, c), r at least 1")
        array = self._engine.take_rows(array, where)
        if not np.isfinite(array).all():
            raise FeatureError(f"{where} holds NaN or infinity: extract them again")
        if duration_s is None:
            rate = made_for.rows_per_s if made_for else None
            if rate is None:
                raise DataError("features do not say how long the video is: give duration_s")
            duration_s = len(array) / rate
        if not 0 < duration_s < math.inf:
            raise DataError(f"duration_s is {duration_s}: give the video's length in seconds")
        with self._lock:
            rows = torch.from_numpy(np.ascontiguousarray(array))
            return ReadyVideo(self._engine.scorer.encode_video(rows, duration_s), duration_s, path, said, note)

    def encode_rows(
        self, files: Mapping[str, Path], encode: Callable[[Mapping[str, Path]], Outcomes] | None = None
    ) -> Outcomes:
        """The rows of several video files, out of the cache where they were encoded before.

        Questions are answered meanwhile. A file that ends before its time is taken as far as it goes.

        Args:
            files: by id.
            encode: gives the rows of those that are not in the cache; here, if left out, one file after the other.

        Yields:
            id, and ``(r, c)`` rows or why there are none, as they come to be known.

        Raises:
            FeatureError: the scorer was made for features that no registered backbone makes.
        """
        provenance = self._engine.video_backbone().provenance()
        todo = {}
        for name, path in files.items():
            kept = None if self._cache is None else self._cache.get(path, provenance)
            if kept is None:
                todo[name] = path
            else:
                yield name, kept
        if not todo:
            return
        with closing(self.encode_here(todo, workers=1) if encode is None else encode(todo)) as outcomes:
            for name, outcome in outcomes:
                if self._cache is not None and not isinstance(outcome, str):
                    self._cache.put(todo[name], provenance, outcome)
                yield name, outcome

    def encode_here(
        self, files: Mapping[str, Path], workers: int, watch: Callable[[str, int], None] | None = None
    ) -> Outcomes:
        """As :meth:`encode_rows`, without the cache; so many files are decoded at a time.

        ``watch`` is that of :func:`mrnet.features.extraction.pipeline.encode_all`.
        """
        backbone = _OneAtATime(self._engine.video_backbone(), self._lock)
        return encode_all(files, backbone, workers, take_cut_off=True, watch=watch)

    def measure(self, path: Path, rows: Rows) -> tuple[float, str]:
        """How far the rows of a video file reach, in seconds; and what to know about it, empty where nothing.

        Raises:
            VideoError: the file does not open.
        """
        stated_s = probe(path).duration_s
        rate = self._engine.video_backbone().rate
        reached_s = stated_s if rate is None else min(stated_s, len(rows) / rate)  # nothing beyond is promised
        if falls_short(reached_s, stated_s):
            return reached_s, f"the video ends at {reached_s:.1f} s of {stated_s:.1f} s: the file is incomplete"
        return reached_s, ""

    def read_said(self, path: Path) -> Said | None:
        """What is said in a video file; ``None`` where no subtitles say, or they are not searched.

        Raises:
            VideoError: the file does not open.
        """
        with self._lock:
            return None if self._subtitles is None else self._subtitles.read(path)

    def _rows(self, path: Path, watch: Watch | None) -> Rows:
        """``(r, c)`` of a video file."""
        duration_s, rate = probe(path).duration_s, self._engine.video_backbone().rate
        in_seconds = None if watch is None or not rate else _in_seconds(watch, rate, duration_s)
        [(_, outcome)] = self.encode_rows({path.name: path}, lambda files: self.encode_here(files, 1, in_seconds))
        if isinstance(outcome, str):
            raise VideoError(outcome)
        if watch is not None:
            watch(duration_s, duration_s)
        return outcome


def _in_seconds(watch: Watch, rate: float, duration_s: float) -> Callable[[str, int], None]:
    """Counts of rows, told as seconds of all that there are."""
    return lambda _, count: watch(min(count / rate, duration_s), duration_s)


class _OneAtATime:
    """A backbone that waits for its turn with every batch."""

    def __init__(self, backbone: Backbone, lock: AbstractContextManager[Any]) -> None:
        self.kind, self.name, self.dim, self.rate = backbone.kind, backbone.name, backbone.dim, backbone.rate
        self.revision, self.batch_size = backbone.revision, backbone.batch_size
        self.prepare, self.provenance = backbone.prepare, backbone.provenance
        self._encode, self._lock = backbone.encode, lock

    def encode(self, inputs: Sequence[Any]) -> list[Rows]:
        with self._lock:
            return self._encode(inputs)
