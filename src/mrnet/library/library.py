"""Many videos, indexed once and searched together."""

import fnmatch
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, time
from itertools import chain, zip_longest
from math import inf
from pathlib import Path
from typing import Literal, Self

import platformdirs
import torch
from torch import Tensor

from mrnet.answer import Answer
from mrnet.answering import score_name
from mrnet.engines import UntrainedEngine
from mrnet.errors import ConfigError, DataError, LibraryError
from mrnet.features.backbone import check_sentence
from mrnet.features.cache import FeatureCache
from mrnet.library.answer import Hit, SearchAnswer
from mrnet.library.folder import is_below, list_videos
from mrnet.library.mend import mend
from mrnet.library.store import Store, Video
from mrnet.library.update import Encode, Update, UpdateReport
from mrnet.library.vectors import Vectors
from mrnet.predictor import Predictor, ReadyVideo
from mrnet.retrieval.aligned import PACKAGED_VIDEO
from mrnet.retrieval.said import LEAST_COSINE, Subtitles, interleave, is_quoted, literal_words

# So many videos, those with the best rows, are asked as `find` does; and no more once they have so many rows.
_ASKED, _MOST_ROWS = 32, 50_000
# A video is as good as so many of its best rows: fewer are taken in by one odd picture.
_BEST_ROWS = 4
# Vectors are searched at half precision.
_ROUNDING = 0.01


def default_uri() -> str:
    """Where a library lies that nobody gave a place: the folder that this system has for a person's data."""
    return str(platformdirs.user_data_path("mrnet") / "library")


class Library:
    """A library of videos.

        library = Library.open("family.library")
        library.update("holidays")  # encodes what is new
        for hit in library.search("a dog jumps into the water"):
            print(hit.video, hit.moment.start_s, hit.moment.end_s, hit.moment.source)

    Several threads may search one library, while one updates it.

    Args:
        store: its tables.
        predictor: what answers; ``None`` for that which the library was made with, made when first needed.
    """

    def __init__(self, store: Store, predictor: Predictor | None = None) -> None:
        self._store = store
        self._predictor = predictor
        self._rows, self._passages = Vectors(store, "rows", averaged=_BEST_ROWS), Vectors(store, "passages")
        self._lock = threading.RLock()

    @classmethod
    def open(cls, uri: str | Path | None = None, predictor: Predictor | None = None) -> Self:
        """Open a library, or one that is yet to be made by :meth:`update`.

        Args:
            uri: a folder, or what LanceDB knows as a URI (``s3://bucket/library``); :func:`default_uri` if left out.
            predictor: what answers, of aligned encoders; if left out, that which the library was made with, or else
                the packaged one.

        Raises:
            ConfigError: LanceDB is not installed, or the predictor is of a trained model.
        """
        if predictor is not None:
            _engine(predictor)
        return cls(Store(default_uri() if uri is None else uri), predictor)

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self._store.uri

    @property
    def predictor(self) -> Predictor:
        """What answers.

        Raises:
            ConfigError: it cannot be made.
            LibraryError: the library was made with other encoders, or cannot be read.
        """
        with self._lock:
            made_with = self._store.provenance()
            if self._predictor is None:
                backbone = PACKAGED_VIDEO if made_with is None else made_with.backbone
                self._predictor = Predictor.auto(backbone, cache=FeatureCache())
            ours = _engine(self._predictor).untrained.video.provenance()
            if made_with is not None and not (
                ours.same_encoder(made_with) and ours.rows_per_s == made_with.rows_per_s
            ):
                raise LibraryError(
                    f"library {self.uri}: is of {made_with.label} rows, which {ours.label} does not make: give that "
                    "encoder, or name another library"
                )
            return self._predictor

    def videos(self) -> list[Video]:
        """What is in it, in order of path.

        Raises:
            LibraryError: there is no such library, or it cannot be read.
        """
        if self._store.provenance() is None:
            raise LibraryError(f"{self.uri}: there is no library yet; make one: mrnet index DIR --library URI")
        return self._store.videos()

    def update(
        self,
        folder: str | Path,
        on_progress: Callable[[int, int], None] | None = None,
        *,
        engine: Literal["local", "ray"] = "local",
    ) -> UpdateReport:
        """Take a folder in, or bring the library up to date with it: what is new is encoded, what is gone goes.

        What is finished stays, whatever ends the update; the same call goes on from there.

        Args:
            folder: of videos, at any depth.
            on_progress: told how many files are encoded, and of how many; what it raises ends the update.
            engine: encode on this machine, or on the Ray cluster of ``RAY_ADDRESS``.

        Raises:
            DataError: there is no such folder, or it holds no videos.
            LibraryError, OutputError: the library cannot be written, or another process is writing it.
            ConfigError: there is no Ray cluster.
        """
        folder = _resolved(folder)
        listing = list_videos(folder)
        if not listing.files and not listing.failed:
            known = [] if self._store.provenance() is None else self._store.videos()
            below = [video for video in known if is_below(video.path, folder)]
            raise DataError(
                f"{folder}: holds no videos, of the {len(below)} that the library has from there; if it is empty "
                "for good, index the folder above it"
                if below
                else f"{folder}: holds no videos; give a folder of videos"
            )
        predictor = self.predictor
        untrained = _engine(predictor).untrained
        alignment = untrained.scorer.alignment

        def project(rows: Tensor) -> Tensor:
            return alignment.project(rows)[0]

        with self._store.updating():
            empty = project(torch.zeros(1, alignment.video_dim))
            text_dim = (predictor.subtitles or Subtitles()).dim
            self._store.create(untrained.video.provenance(), empty.shape[1], text_dim)
            encode = _encoder(predictor, engine)
            watch = on_progress or (lambda _done, _total: None)
            mend(self._store)
            try:
                return Update(self._store, predictor, folder, listing, encode, project, watch).run()
            except LibraryError:
                with suppress(LibraryError):
                    mend(self._store)
                raise

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        folder: str | Path | None = None,
        name: str | None = None,
        since: str | date | None = None,
        until: str | date | None = None,
    ) -> SearchAnswer:
        """The k best moments of all videos, for a sentence.

        The videos whose rows fit best, and those in which it is said, are asked as by
        :meth:`mrnet.predictor.Predictor.find`.

        Args:
            query: a sentence; in quotes, it asks for these very words, and for nothing seen.
            k: how many moments.
            folder: search what lies below it alone.
            name: search files of this name alone; ``*`` and ``?`` stand for any letters and any letter.
            since: search files last modified on this day (``2026-11-26``) or time, or later, alone.
            until: or earlier.

        Raises:
            DataError: the query is empty, k not positive, a date or a folder none.
            LibraryError: there is no such library, or it cannot be read.
        """
        if k < 1:
            raise DataError(f"k is {k}: ask for at least 1 moment")
        text = check_sentence(query)
        videos = self.videos()
        wanted = list(_passing(videos, folder, name, since, until))
        predictor = self.predictor
        chosen, exact = self._choose(predictor, wanted, text, max(_ASKED, k))
        answers = list(predictor.find_in_each(self._ready(predictor, chosen, query), query, k))
        calibration = predictor.engine.calibration
        hits, best_guess = _hits(answers)
        notes = [predictor.engine.query_note("text", query), _note(wanted, query)]
        shown = {hit.video for hit in hits[:k]}
        notes += [f"{video.path}: {video.note}" for video in chosen if video.note and video.path in shown]
        by = ", and what is said by subtitles" if any(video.said is not None for video in wanted) else ""
        return SearchAnswer(
            query=query,
            hits=tuple(hits[:k]),
            best_guess=None if hits else best_guess,
            score_name=score_name(predictor.engine),
            library=self.uri,
            num_videos=len(videos),
            num_searched=len(wanted),
            exact=exact,
            answered_by=predictor.engine.name + by,
            note="; ".join(filter(None, notes)),
            calibrated_on="" if calibration is None else calibration.footage,
        )

    def _choose(
        self, predictor: Predictor, wanted: Sequence[Video], query: str, count: int
    ) -> tuple[list[Video], bool]:
        """The videos to ask, one of each content, the most promising first; and whether every row was looked at."""
        by_content = {video.content: video for video in reversed(wanted)}
        by_said = {video.said: video for video in reversed(wanted) if video.said is not None}
        if predictor.subtitles is None:
            by_said = {}
        words = literal_words(query)
        heard = [by_said[key] for key in sorted(self._store.saying(words) & by_said.keys())] if words else []
        if is_quoted(query):
            return heard[:count], True
        direction = _engine(predictor).untrained.scorer.alignment.directions(predictor.encode_query(query))[0]
        best, exact = self._rows.best(direction, by_content.keys(), count)
        if predictor.subtitles is not None and by_said:
            said, exact_said = self._passages.best(
                predictor.subtitles.encode_queries([query])[0], by_said.keys(), count
            )
            heard += [by_said[key] for key, cosine in said.items() if cosine >= LEAST_COSINE - _ROUNDING]
            exact = exact and exact_said
        seen = [by_content[key] for key in best]
        chosen: dict[int, Video] = {}
        num_rows = 0
        for video in chain.from_iterable(zip_longest(heard[:count], seen)):
            if video is None or video.content in chosen:
                continue
            num_rows += video.num_rows
            if chosen and num_rows > _MOST_ROWS:
                break
            chosen[video.content] = video
        return sorted(chosen.values(), key=lambda video: (-best.get(video.content, -inf), video.path)), exact

    def _ready(self, predictor: Predictor, chosen: Iterable[Video], query: str) -> Iterator[ReadyVideo]:
        for video in chosen:
            said = None if predictor.subtitles is None else self._store.said_of(video)
            path = Path(video.path)
            if is_quoted(query):
                if said is not None:
                    yield ReadyVideo(None, video.duration_s, path, said, video.note)
                continue
            rows = self._store.rows_of(video)
            if rows is not None:
                yield replace(
                    predictor.encode_video(rows, video.duration_s), path=path, said=said, note=video.note
                )


def _engine(predictor: Predictor) -> UntrainedEngine:
    """The engine of a predictor, whose rows can be searched as vectors.

    Raises:
        ConfigError: they cannot.
    """
    if not isinstance(predictor.engine, UntrainedEngine):
        raise ConfigError(
            "a library is searched by encoders that see pictures and read sentences alike, not by a trained model: use "
            "the packaged ones, or --backbone hf:MODEL"
        )
    return predictor.engine


def _encoder(predictor: Predictor, engine: Literal["local", "ray"]) -> Encode:
    if engine == "local":
        return lambda files: predictor.videos.encode_here(files, os.cpu_count() or 1)
    from mrnet.features.extraction.ray import BackboneSpec, encode_with_ray

    spec = BackboneSpec("video", _engine(predictor).backbone)
    return lambda files: encode_with_ray(files, spec, take_cut_off=True)


def _hits(answers: Iterable[Answer]) -> tuple[list[Hit], Hit | None]:
    """Hits of several videos in one order, and the best guess.

    The best moments of all videos come first, in the order of the videos, then their second, and so on: how far a
    moment stands out from its own video says little beside other videos, and nothing in one of a single shot. What is
    said is in order of its score.
    """
    seen: list[list[Hit]] = []
    said: list[Hit] = []
    guesses: list[Hit] = []
    for answer in answers:
        hits = [Hit(str(answer.video), answer.duration_s, moment) for moment in answer.moments]
        seen.append([hit for hit in hits if hit.moment.source == "seen"])
        said += [hit for hit in hits if hit.moment.source == "said"]
        if answer.best_guess is not None:
            guesses.append(Hit(str(answer.video), answer.duration_s, answer.best_guess))
    in_turn = [hit for hit in chain.from_iterable(zip_longest(*seen)) if hit is not None]
    said.sort(key=lambda hit: -hit.score)
    return interleave(in_turn, said), guesses[0] if guesses else None


def _note(wanted: Sequence[Video], query: str) -> str:
    if not wanted:
        return "no video of the library passes the filters"
    if is_quoted(query) and all(video.said is None for video in wanted):
        return "no video here has subtitles, in which the words in quotes could be found"
    return ""


def _passing(
    videos: Iterable[Video],
    folder: str | Path | None,
    name: str | None,
    since: str | date | None,
    until: str | date | None,
) -> Iterator[Video]:
    """Videos that pass the filters of :meth:`Library.search`."""
    below = None if folder is None else _resolved(folder)
    first = -inf if since is None else _time_s(since)
    last = inf if until is None else _time_s(until, end=True)
    for video in videos:
        if below is not None and not is_below(video.path, below):
            continue
        if name is not None and not fnmatch.fnmatchcase(Path(video.path).name.casefold(), name.casefold()):
            continue
        if first <= video.modified_s <= last:
            yield video


def _resolved(folder: str | Path) -> Path:
    """An absolute path.

    Raises:
        DataError: no folder can have this name.
    """
    try:
        return Path(folder).expanduser().resolve()
    except (ValueError, RuntimeError, OSError):  # half a character, a NUL, no one's home, a circle of links
        raise DataError(f"{str(folder)!r} is the name of no folder; give another") from None


def _time_s(when: str | date, *, end: bool = False) -> float:
    """Seconds since 1970 of a local time; of a day, its first or last.

    Raises:
        DataError: it is none.
    """
    try:
        if isinstance(when, str):
            when = date.fromisoformat(when) if len(when) <= len("2026-11-26") else datetime.fromisoformat(when)
        if not isinstance(when, datetime):
            when = datetime.combine(when, time.max if end else time.min)
        return when.timestamp()
    except (ValueError, OverflowError, OSError):
        raise DataError(f"{when!r} is no date: write one as 2026-11-26, or 2026-11-26T14:30") from None
