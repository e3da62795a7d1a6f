"""From what a scorer says of queries, and what is said in the video, to answers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrnet.answer import Answer
from mrnet.config.spec import Calibration
from mrnet.engines import Engine
from mrnet.export.words import ScoreName
from mrnet.media.video import probe
from mrnet.ready import ReadyVideo
from mrnet.retrieval.aligned import AlignedVideo
from mrnet.retrieval.calibration import calibrated
from mrnet.retrieval.rank import rank
from mrnet.retrieval.said import Said, Subtitles, interleave, is_quoted
from mrnet.retrieval.scorer import Candidates
from mrnet.types import Moment, QueryKind


def answer_queries(
    engine: Engine,
    subtitles: Subtitles | None,
    video: ReadyVideo,
    features: Tensor,
    queries: Sequence[str],
    *,
    kind: QueryKind,
    k: int | None,
    note: str = "",
) -> list[Answer]:
    """An answer to each query about one video.

    Args:
        engine: whose scorer is asked.
        subtitles: what searches what is said; ``None`` leaves it out.
        video: ready for that scorer.
        features: ``(n, q)`` of the queries.
        queries: sentences, or names of sound files.
        kind: which of the two.
        k: how many moments; ``None`` for every one that is likely enough.
        note: what to know about all of the answers.
    """
    candidates: Candidates = engine.scorer.candidates(video.encoded, features)
    calibration = engine.calibration
    if calibration is not None:
        candidates = calibrated(candidates, calibration)
    ranked = rank(candidates, k or len(candidates.spans_s), engine.nms_threshold)
    said, by = video.said, engine.name
    heard: list[list[Moment]] = [[] for _ in queries]
    if said is not None and kind == "text" and subtitles is not None:
        heard = subtitles.find(said, queries, video.duration_s)
        by += f", and what is said by {said.name}"
    answers = []
    for query, seen, spoken, curve in zip(queries, ranked, heard, _curves(video, candidates), strict=True):
        if said is not None and is_quoted(query):
            answers.append(_quoted(engine, query, spoken[:k], said, video.duration_s, video.path))
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
                score_name=score_name(engine),
                answered_by=by,
                video=video.path,
                note="; ".join(filter(None, (*notes, engine.query_note(kind, query)))),
                calibrated_on="" if calibration is None else calibration.footage,
                curve=curve,
            )
        )
    return answers


def answer_by_words(
    engine: Engine, subtitles: Subtitles, video: ReadyVideo | str | Path, queries: Sequence[str], k: int | None
) -> list[Answer] | None:
    """Answers to queries in quotes, for which no frame is looked at; ``None`` where no subtitles say what is said.

    Args:
        engine: which is not asked.
        subtitles: what searches what is said.
        video: ready, or a file.
        queries: all of them in quotes.
        k: how many moments; ``None`` for every one.

    Raises:
        VideoError: the file does not open.
    """
    if isinstance(video, ReadyVideo):
        said, duration_s, path = video.said, video.duration_s, video.path
    else:
        path = Path(video)
        said, duration_s = subtitles.read(path), probe(path).duration_s
    if said is None:
        return None
    found = subtitles.find(said, queries, duration_s)
    return [
        _quoted(engine, query, moments[:k], said, duration_s, path)
        for query, moments in zip(queries, found, strict=True)
    ]


def _shown(moments: Sequence[Moment], calibration: Calibration | None, *, every: bool) -> tuple[Moment, ...]:
    """Of ranked moments: all of them if the best one is likely enough; of ``every`` moment, those that are."""
    if calibration is None:
        return tuple(moments)
    if every:
        return tuple(moment for moment in moments if moment.score >= calibration.threshold)
    return tuple(moments) if moments and moments[0].score >= calibration.threshold else ()


def _quoted(
    engine: Engine, query: str, moments: Sequence[Moment], said: Said, duration_s: float, path: Path | None
) -> Answer:
    """To a query in quotes."""
    by = f"the words of {said.name}"
    return Answer(query, "text", duration_s, tuple(moments), None, score_name(engine), by, path)


def score_name(engine: Engine) -> ScoreName:
    """What the scores of an engine's moments are."""
    return "score" if engine.calibration is None else "probability"


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
