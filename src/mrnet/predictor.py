"""Ask a video when something happens."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrnet.answer import Answer
from mrnet.answering import answer_by_words, answer_queries
from mrnet.engines import Engine, Runtime, TrainedEngine, UntrainedEngine
from mrnet.errors import DataError
from mrnet.features.backbone import Backbone
from mrnet.features.cache import FeatureCache
from mrnet.features.registry import make_recogniser
from mrnet.provenance import Provenance
from mrnet.ready import ReadyVideo, VideoEncoder
from mrnet.retrieval.aligned import PACKAGED_TEXT, PACKAGED_VIDEO
from mrnet.retrieval.said import Subtitles, is_quoted
from mrnet.types import Moment, QueryKind, Watch

# Each has a score for every candidate, of which a video of hours may have hundreds of thousands.
_QUERIES_AT_ONCE = 16


class Predictor:
    """Finds moments in videos.

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
        videos: what makes videos ready to be asked, many of them too.
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
        self._lock = threading.RLock()  # encoders and scorers work for one at a time
        self.videos = VideoEncoder(engine, self.subtitles, cache, self._lock)
        self._recognise = recognise

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
        watch: Watch | None = None,
    ) -> ReadyVideo:
        """Encode a video once, to ask it many queries.

        A file that ends before its time is taken as far as it goes, and its answers say so.

        Args:
            video: a video file, or its features ``(r, c)`` from the backbone that the scorer was made for.
            duration_s: length in seconds; needed with features whose rate is not known.
            provenance: of the features, where their store says: those of another encoder are refused.
            watch: is told now and then how many seconds of a file are encoded, and of how many, and at the end that all
                are; what it raises ends the encoding.

        Raises:
            VideoError: the file does not decode.
            FeatureShapeError: the features are of another encoder, width or shape than the scorer's.
            FeatureError: the scorer was made for features that no registered backbone makes.
            DataError: the length is needed and not given, or not positive.
        """
        return self.videos.encode(video, duration_s, provenance=provenance, watch=watch)

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
    def find(  # type: ignore[overload-overlap]
        self, video: ReadyVideo | str | Path, query: str, k: int | None = 5, *, watch: Watch | None = None
    ) -> Answer: ...
    @overload
    def find(
        self,
        video: ReadyVideo | str | Path,
        query: Sequence[str],
        k: int | None = 5,
        *,
        watch: Watch | None = None,
    ) -> list[Answer]: ...
    @overload
    def find(
        self,
        video: ReadyVideo | str | Path,
        *,
        k: int | None = 5,
        speech: str | Path,
        watch: Watch | None = None,
    ) -> Answer: ...
    def find(
        self,
        video: ReadyVideo | str | Path,
        query: str | Sequence[str] | None = None,
        k: int | None = 5,
        *,
        speech: str | Path | None = None,
        watch: Watch | None = None,
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
            watch: of a video file, as of :meth:`encode_video`.

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
        answers = list(self._find_each(video, sources, kind, k, note, watch))
        return answers if several else answers[0]

    def find_each(
        self,
        video: ReadyVideo | str | Path,
        queries: Sequence[str],
        k: int | None = 5,
        *,
        watch: Watch | None = None,
    ) -> Iterator[Answer]:
        """:meth:`find` for very many sentences: answers come one by one, and take no memory if they are not kept."""
        _check_count(k)
        return self._find_each(video, queries, "text", k, watch=watch)

    def _find_each(
        self,
        video: ReadyVideo | str | Path,
        sources: Sequence[str | Path],
        kind: QueryKind,
        k: int | None,
        note: str = "",
        watch: Watch | None = None,
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
                ready = ready or self.encode_video(video, watch=watch)  # type: ignore[arg-type]
                queries = [str(source) for source in some]
                answers = answer_queries(
                    self.engine, self.subtitles, ready, features, queries, kind=kind, k=k, note=note
                )
            yield from answers

    def find_in_each(self, videos: Iterable[ReadyVideo], query: str, k: int | None = 5) -> Iterator[Answer]:
        """:meth:`find` for one sentence and many videos, whose answers come one by one."""
        _check_count(k)
        self._check_known(k)
        features = self.encode_query(query)
        for video in videos:
            with self._lock:
                answers = self._by_words_alone(video, [query], k) or answer_queries(
                    self.engine, self.subtitles, video, features, [query], kind="text", k=k
                )
            yield from answers

    def find_features(self, video: ReadyVideo, query: Tensor, k: int | None = 5) -> Answer:
        """:meth:`find` with ``(1, q)`` query features in place of a sentence; what is said is not searched."""
        _check_count(k)
        self._check_known(k)
        with self._lock:
            silent = replace(video, said=None)
            [answer] = answer_queries(
                self.engine, None, silent, query, ["(features)"], kind=self.engine.kinds[0], k=k
            )
        return answer

    def _by_words_alone(
        self, video: ReadyVideo | str | Path, sources: Sequence[str | Path], k: int | None
    ) -> list[Answer] | None:
        """Answers to queries that are all in quotes, for which no frame need be looked at; ``None`` to others."""
        queries = [str(source) for source in sources]
        if self.subtitles is None or not all(is_quoted(query) for query in queries):
            return None
        with self._lock:
            return answer_by_words(self.engine, self.subtitles, video, queries, k)

    def _check_known(self, k: int | None) -> None:
        if k is None and self.engine.calibration is None:
            raise DataError(
                f"which moments are likely enough is not known of {self.engine.name}, whose scores are no "
                "probabilities: ask for a number of moments"
            )


def _check_count(k: int | None) -> None:
    if k is not None and k < 1:
        raise DataError(f"k is {k}: ask for at least 1 moment")


def _packaged_text(engine: Engine) -> Backbone | None:
    """The encoder of sentences that subtitles are searched with, where the engine has it."""
    text = engine.untrained.text if isinstance(engine, UntrainedEngine) else None
    return text if text is not None and text.name == PACKAGED_TEXT else None


__all__ = ["Answer", "Moment", "Predictor", "ReadyVideo"]
