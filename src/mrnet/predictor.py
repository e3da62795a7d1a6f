"""Ask a video when something happens."""

import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrnet.answer import Answer
from mrnet.config.spec import Calibration
from mrnet.data.sources import check_provenance
from mrnet.engines import Engine, Runtime, TrainedEngine, UntrainedEngine
from mrnet.errors import DataError, FeatureError, FeatureShapeError, VideoError
from mrnet.features.backbone import Backbone, Rows
from mrnet.features.cache import FeatureCache
from mrnet.features.extraction.pipeline import Outcomes, encode_all
from mrnet.features.registry import make_recogniser
from mrnet.media.video import falls_short, probe
from mrnet.provenance import Provenance
from mrnet.retrieval.aligned import PACKAGED_TEXT, PACKAGED_VIDEO, AlignedVideo
from mrnet.retrieval.calibration import calibrated
from mrnet.retrieval.rank import rank
from mrnet.retrieval.said import Said, Subtitles, interleave, is_quoted
from mrnet.retrieval.scorer import Candidates
from mrnet.types import Moment, QueryKind

# Each has a score for every candidate, of which a video of hours may have hundreds of thousands.
_QUERIES_AT_ONCE = 16


@dataclass(frozen=True)
class ReadyVideo:
    """A video ready to be asked, made by :meth:`Predictor.encode_video`.

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


class Predictor:
    """Finds moments in videos.

    ::

        predictor = Predictor.auto()                           # no training, no checkpoint
        predictor = Predictor.load("mrnet-demo/run")           # or with a trained model
        video = predictor.encode_video("holiday.mp4")          # once
        for moment in predictor.find(video, "a dog jumps", k=5):  # many times
            print(moment.start_s, moment.end_s, moment.score)  # nothing, where it is not in the video

    Every query is answered alone, whatever protocol a model was trained with. Several threads may ask one predictor.

    Args:
        engine: encoders and scorer.
        cache: of encoded videos; ``None`` keeps nothing.
        recognise: turns a recording into a sentence, for an engine that does not hear.
        subtitles: whether what is said is searched too, in subtitles beside a video or inside it.

    Attributes:
        engine: as given.
        subtitles: what searches what is said; ``None`` where nothing does.
    """

    def __init__(
        self,
        engine: Engine,
        cache: FeatureCache | None = None,
        recognise: Callable[[str | Path], str] | None = None,
        *,
        subtitles: bool = True,
    ) -> None:
        self.engine = engine
        self.subtitles = Subtitles(_packaged_text(engine), cache) if subtitles else None
        self._cache = cache
        self._recognise = recognise
        self._lock = threading.RLock()  # encoders and scorers work for one at a time

    @classmethod
    def auto(
        cls,
        backbone: str = PACKAGED_VIDEO,
        device: str | None = None,
        *,
        cache: FeatureCache | None = None,
        recogniser: str | None = None,
        subtitles: bool = True,
    ) -> Self:
        """Answer without training.

        Args:
            backbone: ``efficientnet-lite0``, whose weights come with a package, or ``hf:MODEL`` with a CLIP, SigLIP or
                X-CLIP model, by folder or hub id.
            device: where it runs; the best one there is if left out.
            cache: of encoded videos; ``None`` keeps nothing.
            recogniser: of speech, see :func:`mrnet.features.registry.make_recogniser`; without one, queries are
                written.
            subtitles: whether what is said is searched too, in subtitles beside a video or inside it.

        Raises:
            ConfigError: the backbone or the recogniser cannot be made; says what to install or to give.
        """
        recognise = None if recogniser is None else make_recogniser(recogniser, device)
        return cls(UntrainedEngine.make(backbone, device), cache, recognise, subtitles=subtitles)

    @classmethod
    def load(
        cls,
        directory: str | Path,
        device: str | torch.device | None = None,
        *,
        runtime: Runtime = "torch",
        trusted: Collection[str] = (),
        memory_budget: int | None = None,
        cache: FeatureCache | None = None,
        recogniser: str | None = None,
        subtitles: bool = True,
    ) -> Self:
        """Load a checkpoint folder, or the best epoch of a training run.

        Args:
            directory: made by ``mrnet train``, ``demo`` or ``convert``; for runtime onnx by ``mrnet export``.
            device: where to run; the best one there is if left out.
            runtime: what computes the model: ``torch``, or ``onnx``, which is onnxruntime on the processor.
            trusted: encoders that the checkpoint may have loaded beside the registered and well-known ones, such as
                ``"hf:/models/clip"``, which is where the ``hf:clip`` of a checkpoint lies here.
            memory_budget: bytes that speed may cost, see :class:`mrnet.model.head.ProposalHead`; of runtime torch.
            cache: of encoded videos; ``None`` keeps nothing.
            recogniser: of speech, for a model that does not hear, as of :meth:`auto`.
            subtitles: as of :meth:`auto`.

        Raises:
            CheckpointError: nothing there, or damaged.
            ConfigError: the recogniser cannot be made, or the runtime is not installed.
        """
        where = None if device is None else str(device)
        recognise = None if recogniser is None else make_recogniser(recogniser, where)
        engine = TrainedEngine.load(
            Path(directory), where, runtime=runtime, trusted=trusted, memory_budget=memory_budget
        )
        return cls(engine, cache, recognise, subtitles=subtitles)

    @classmethod
    def from_pretrained(cls, repo: str | Path, *, revision: str | None = None, **options: Any) -> Self:
        """:meth:`load` a checkpoint of the Hugging Face hub, which is downloaded unless it was before.

        Nothing of it runs or is unpickled. An encoder that it names is loaded as of :meth:`load`: if it is registered,
        of a well-known publisher, or named in ``trusted``.

        Args:
            repo: ``OWNER/NAME``; or a folder, which is loaded as it is.
            revision: branch, tag or commit; the main branch if left out. A commit stays what it is.
            options: those of :meth:`load`.

        Raises:
            CheckpointError: there is no such model, it cannot be fetched, or is damaged.
            ConfigError: as :meth:`load`, or huggingface_hub is not installed.
        """
        from mrnet.weights.hub import fetch_checkpoint

        return cls.load(fetch_checkpoint(str(repo), revision), **options)

    def encode_video(
        self,
        video: str | Path | npt.NDArray[np.float32] | Tensor,
        duration_s: float | None = None,
        *,
        provenance: Provenance | None = None,
        watch: Callable[[float], None] | None = None,
    ) -> ReadyVideo:
        """Encode a video once, to ask it many queries.

        A file that ends before its time is taken as far as it goes, and its answers say so.

        Args:
            video: a video file, or its features ``(r, c)`` from the backbone that the scorer was made for.
            duration_s: length in seconds; needed with features whose rate is not known.
            provenance: of the features, where their store says: those of another encoder are refused.
            watch: is told now and then what share of a file is encoded, from 0 to 1; what it raises ends the encoding.

        Raises:
            VideoError: the file does not decode.
            FeatureShapeError: the features are of another encoder, width or shape than the scorer's.
            FeatureError: the scorer was made for features that no registered backbone makes.
            DataError: the length is needed and not given, or not positive.
        """
        made_for, path, said, note = self.engine.provenance, None, None, ""
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
        array = self.engine.take_rows(array, where)
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
            return ReadyVideo(self.engine.scorer.encode_video(rows, duration_s), duration_s, path, said, note)

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
        provenance = self.engine.video_backbone().provenance()
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
        backbone = _OneAtATime(self.engine.video_backbone(), self._lock)
        return encode_all(files, backbone, workers, take_cut_off=True, watch=watch)

    def measure(self, path: Path, rows: Rows) -> tuple[float, str]:
        """How far the rows of a video file reach, in seconds; and what to know about it, empty where nothing.

        Raises:
            VideoError: the file does not open.
        """
        stated_s = probe(path).duration_s
        rate = self.engine.video_backbone().rate
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
            return None if self.subtitles is None else self.subtitles.read(path)

    def encode_query(self, query: str) -> Tensor:
        """``(1, q)`` features of a sentence.

        Raises:
            DataError: it cannot be encoded.
            FeatureError: the scorer takes no sentences.
        """
        self.engine.check_kind("text")
        with self._lock:
            return self.engine.encode_queries("text", [query])

    def check_hears(self) -> None:
        """Refuse, where nothing takes spoken queries.

        Raises:
            FeatureError: neither scorer nor recogniser do; says what does.
        """
        if self._recognise is None:
            self.engine.check_kind("speech")

    @overload
    def find(self, video: ReadyVideo | str | Path, query: str, k: int | None = 5) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def find(self, video: ReadyVideo | str | Path, query: Sequence[str], k: int | None = 5) -> list[Answer]: ...
    @overload
    def find(self, video: ReadyVideo | str | Path, *, k: int | None = 5, speech: str | Path) -> Answer: ...
    def find(
        self,
        video: ReadyVideo | str | Path,
        query: str | Sequence[str] | None = None,
        k: int | None = 5,
        *,
        speech: str | Path | None = None,
    ) -> Answer | list[Answer]:
        """The k best moments for a query, written or spoken, best first.

        Where scores are probabilities and even the best moment is unlikely, there is none:
        the query counts as not in this video, and what would have been answered is ``best_guess``.

        What is said in the video is searched too, where it has subtitles: such moments have ``source`` ``"said"`` and
        come in turn with those that were seen. A query in quotes asks for these very words, and for nothing seen.

        Args:
            video: from :meth:`encode_video`, or a video file to encode for this one call.
            query: a sentence; or several, each answered by itself.
            k: how many moments; fewer come back where the video holds no more. ``None`` asks for every moment that is
                likely enough to be meant.
            speech: in place of a sentence, a sound file of someone saying it.

        Raises:
            DataError: neither or both are given, a query is empty, k is not positive, or it is ``None`` and no
                probabilities are known.
            AudioError: the sound file does not decode, or is silent.
            FeatureError: neither scorer nor recogniser take queries of this kind, or the scorer was made for features
                that no registered backbone makes.
            VideoError: as :meth:`encode_video`.
        """
        if (query is None) == (speech is None):
            raise DataError("give either a sentence or a sound file, and not both")
        kind: QueryKind = "text" if speech is None else "speech"
        note = ""
        if speech is not None and self._recognise is not None and kind not in self.engine.kinds:
            with self._lock:
                query = self._recognise(speech)
            kind, note, speech = "text", f"heard: {query}", None
        several = query is not None and not isinstance(query, str)
        sources: Sequence[str | Path] = query if several else [query if speech is None else Path(speech)]  # type: ignore[assignment, list-item]
        _check_count(k)
        answers = list(self._find_each(video, sources, kind, k, note))
        return answers if several else answers[0]

    def find_each(
        self, video: ReadyVideo | str | Path, queries: Sequence[str], k: int | None = 5
    ) -> Iterator[Answer]:
        """:meth:`find` for very many sentences: answers come one by one, and take no memory if they are not kept."""
        _check_count(k)
        return self._find_each(video, queries, "text", k)

    def _find_each(
        self,
        video: ReadyVideo | str | Path,
        sources: Sequence[str | Path],
        kind: QueryKind,
        k: int | None,
        note: str = "",
    ) -> Iterator[Answer]:
        by_words = self._by_words_alone(video, sources, k) if kind == "text" else None
        if by_words is not None:
            yield from by_words
            return
        self.engine.check_kind(kind)
        self._check_known(k)
        ready = video if isinstance(video, ReadyVideo) else None
        for start in range(0, len(sources), _QUERIES_AT_ONCE):
            some = sources[start : start + _QUERIES_AT_ONCE]
            with self._lock:
                # First, as what is wrong with a query is soon known.
                features = self.engine.encode_queries(kind, some)
                ready = ready or self.encode_video(video)  # type: ignore[arg-type]
                answers = self._answers(ready, features, [str(source) for source in some], kind, k, note)
            yield from answers

    def find_in_each(self, videos: Iterable[ReadyVideo], query: str, k: int | None = 5) -> Iterator[Answer]:
        """:meth:`find` for one sentence and many videos, whose answers come one by one."""
        _check_count(k)
        self._check_known(k)
        features = self.encode_query(query)
        for video in videos:
            with self._lock:
                by_words = self._by_words_alone(video, [query], k)
                yield from by_words or self._answers(video, features, [query], "text", k)

    def find_features(self, video: ReadyVideo, query: Tensor, k: int | None = 5) -> Answer:
        """:meth:`find` with ``(1, q)`` query features in place of a sentence; what is said is not searched."""
        _check_count(k)
        self._check_known(k)
        with self._lock:
            silent = replace(video, said=None)
            [answer] = self._answers(silent, query, ["(features)"], self.engine.kinds[0], k)
        return answer

    def _answers(
        self,
        video: ReadyVideo,
        features: Tensor,
        queries: Sequence[str],
        kind: QueryKind,
        k: int | None,
        note: str = "",
    ) -> list[Answer]:
        candidates: Candidates = self.engine.scorer.candidates(video.encoded, features)
        calibration = self.engine.calibration
        if calibration is not None:
            candidates = calibrated(candidates, calibration)
        ranked = rank(candidates, k or len(candidates.spans_s), self.engine.nms_threshold)
        said, by = video.said, self.engine.name
        heard: list[list[Moment]] = [[] for _ in queries]
        if said is not None and kind == "text" and self.subtitles is not None:
            heard = self.subtitles.find(said, queries, video.duration_s)
            by += f", and what is said by {said.name}"
        answers = []
        for query, seen, spoken, curve in zip(queries, ranked, heard, _curves(video, candidates), strict=True):
            if said is not None and is_quoted(query):
                answers.append(_quoted(query, spoken[:k], said, video.duration_s, video.path))
                continue
            notes = (note, video.note, _note(video, query))
            moments = interleave(_shown(seen, calibration, every=k is None), spoken)[:k]
            answers.append(
                Answer(
                    query=query,
                    kind=kind,
                    duration_s=video.duration_s,
                    moments=tuple(moments),
                    best_guess=None if moments or not seen else seen[0],
                    score_name="score" if calibration is None else "probability",
                    answered_by=by,
                    video=video.path,
                    note="; ".join(filter(None, (*notes, self.engine.query_note(kind, query)))),
                    calibrated_on="" if calibration is None else calibration.footage,
                    curve=curve,
                )
            )
        return answers

    def _by_words_alone(
        self, video: ReadyVideo | str | Path, queries: Sequence[str | Path], k: int | None
    ) -> list[Answer] | None:
        """Answers to queries that are all in quotes, for which no frame need be looked at; ``None`` to others."""
        if self.subtitles is None or not all(is_quoted(str(query)) for query in queries):
            return None
        with self._lock:
            if isinstance(video, ReadyVideo):
                said, duration_s, path = video.said, video.duration_s, video.path
            else:
                path = Path(video)
                said, duration_s = self.subtitles.read(path), probe(path).duration_s
            if said is None:
                return None
            found = self.subtitles.find(said, [str(query) for query in queries], duration_s)
        return [
            _quoted(str(query), moments[:k], said, duration_s, path)
            for query, moments in zip(queries, found, strict=True)
        ]

    def _check_known(self, k: int | None) -> None:
        if k is None and self.engine.calibration is None:
            raise DataError(
                f"which moments are likely enough is not known of {self.engine.name}, whose scores are no "
                "probabilities: ask for a number of moments"
            )

    def _rows(self, path: Path, watch: Callable[[float], None] | None) -> Rows:
        """``(r, c)`` of a video file."""
        num_rows = probe(path).duration_s * (self.engine.video_backbone().rate or 0.0)
        shares = None if watch is None or not num_rows else _shares(watch, num_rows)
        [(_, outcome)] = self.encode_rows({path.name: path}, lambda files: self.encode_here(files, 1, shares))
        if isinstance(outcome, str):
            raise VideoError(outcome)
        return outcome


def _shares(watch: Callable[[float], None], num_rows: float) -> Callable[[str, int], None]:
    """Counts of rows, told as shares of all that there will be."""
    return lambda _, count: watch(min(count / max(num_rows, 1.0), 1.0))


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


def _check_count(k: int | None) -> None:
    if k is not None and k < 1:
        raise DataError(f"k is {k}: ask for at least 1 moment")


def _shown(moments: Sequence[Moment], calibration: Calibration | None, *, every: bool) -> tuple[Moment, ...]:
    """Of ranked moments: all of them if the best one is likely enough; of ``every`` moment, those that are."""
    if calibration is None:
        return tuple(moments)
    if every:
        return tuple(moment for moment in moments if moment.score >= calibration.threshold)
    return tuple(moments) if moments and moments[0].score >= calibration.threshold else ()


def _quoted(query: str, moments: Sequence[Moment], said: Said, duration_s: float, path: Path | None) -> Answer:
    """To a query in quotes."""
    return Answer(query, "text", duration_s, tuple(moments), None, "score", f"the words of {said.name}", path)


def _curves(video: ReadyVideo, candidates: Candidates) -> list[npt.NDArray[np.float32]]:
    """``(r, 2)`` times and values of each query, where the scorer has a curve."""
    if candidates.curves is None:
        return [np.empty((0, 2), np.float32)] * len(candidates.scores)
    times = (torch.arange(candidates.curves.shape[1]) + 0.5) / video.encoded.rows_per_s
    return [torch.stack([times, curve], dim=1).numpy() for curve in candidates.curves]


def _note(video: ReadyVideo, query: str) -> str:
    notes = []
    if is_quoted(query) and video.said is None:
        notes.append(
            "no subtitles say what is said in this video, so the words in quotes were looked for by sight"
        )
    if video.said is not None and not video.said.passages:
        notes.append(f"{video.said.name} is not in English: only the very words of a query are looked for in it")
    if isinstance(video.encoded, AlignedVideo) and video.encoded.is_one_segment:
        notes.append("nothing in this video changes enough for this encoder to tell its moments apart")
    return "; ".join(notes)


def _packaged_text(engine: Engine) -> Backbone | None:
    """The encoder of sentences that subtitles are searched with, where the engine has it."""
    text = engine.untrained.text if isinstance(engine, UntrainedEngine) else None
    return text if text is not None and text.name == PACKAGED_TEXT else None


__all__ = ["Answer", "Moment", "Predictor", "ReadyVideo"]
