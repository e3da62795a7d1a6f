"""How a library grows: real encoders on MADE videos, and vectors of SIMULATED rows; and what a search misses.

MADE videos are a few seconds of drifting noise, each of its own colours and grain: they cost what real ones of their
size cost, and show nothing. SIMULATED rows are class probabilities drawn as those of real footage are spread: segments
of some ten rows, each near one to three classes and what is like them.
"""

import resource
import statistics
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from benchmarks.timing import Figures, seconds
from mrnet.data.annotations import read_annotations
from mrnet.features.cache import FeatureCache
from mrnet.library.answer import Hit
from mrnet.library.library import Library
from mrnet.library.store import Store
from mrnet.library.vectors import Vectors
from mrnet.media.video import write_video
from mrnet.predictor import Predictor
from mrnet.provenance import Provenance
from mrnet.retrieval.aligned import ClassBridge, packaged_bridge

_QUERIES = (
    "a dog runs on the beach", "a bowl of soup", "someone plays the guitar", "a red car", "waves on the sea",
    "a bird in a tree", "a man with a hat", "a bridge at night", "an apple on a table", "a train in the mountains",
)  # fmt: skip
_VIDEO_S, _FPS, _SIZE = 4, 8, 96
_ROWS_A_VIDEO, _ROWS_A_SEGMENT = 500, 10
_AT_ONCE = 50_000
_ASKED = (1, 4, 8, 16)


def bench_library(counts: Sequence[int]) -> list[Figures]:
    """Index and search with the packaged encoders, on growing numbers of MADE videos.

    How often the best hit is that of asking every video is given too.
    """
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        videos, uri = Path(folder) / "videos", Path(folder) / "library"
        videos.mkdir()
        predictor = Predictor.auto()
        for before, count in zip((0, *counts), counts, strict=False):
            for number in range(before, count):
                _make_video(videos / f"{number:05d}.mp4", number)
            library = Library.open(uri, predictor)
            index_s = seconds(lambda library=library: library.update(videos))  # type: ignore[misc]
            again_s = seconds(lambda library=library: library.update(videos))  # type: ignore[misc]
            first_s = seconds(lambda library=library: library.search(_QUERIES[0]))  # type: ignore[misc]
            times, same = [], 0
            for query in _QUERIES:
                times.append(seconds(lambda library=library, query=query: library.search(query)))  # type: ignore[misc]
                same += _best(library, query, 10) == _best(library, query, count)
            rows.append(
                {
                    "videos": f"{count} MADE, {_VIDEO_S} s",
                    "index_seconds_a_video": index_s / (count - before),
                    "update_unchanged_seconds": again_s,
                    "first_search_seconds": first_s,
                    "search_seconds": statistics.median(times),
                    "same_best_as_all": same / len(_QUERIES),
                    "disk_mb": sum(path.stat().st_size for path in uri.rglob("*") if path.is_file()) / 2**20,
                    "peak_memory_mb": _peak_mb(),
                }
            )
    return rows


def bench_recall(videos: Path, annotations: Sequence[Path]) -> list[Figures]:
    """What a search finds of what asking every video finds: on real footage, as made videos show nothing.

    Asking every video as ``mrnet find`` does, the best moment is that of the highest probability, likely enough or not.

    Args:
        videos: a folder, whose videos are encoded unless they are in the cache.
        annotations: whose queries are asked; which moments they mean is not looked at.
    """
    queries = [query.text for path in annotations for record in read_annotations(path) for query in record.queries]
    predictor = Predictor.auto(cache=FeatureCache())
    with tempfile.TemporaryDirectory() as folder:
        library = Library.open(Path(folder) / "library", predictor)
        library.update(videos)
        files = {video.content: video for video in library.videos()}
        ready = [predictor.encode_video(video.path) for video in files.values()]
        rows = Vectors(Store(library.uri), "rows", averaged=4)
        bridge = packaged_bridge()
        ranks: dict[str, list[int]] = {"search": [], "every": [], "rows": []}
        for query in queries:
            every = [
                Hit(str(answer.video), answer.duration_s, answer.best)
                for answer in predictor.find_in_each(ready, query, 1)
                if answer.best is not None
            ]
            every.sort(key=lambda hit: -hit.score)
            answer = library.search(query, len(files))
            found = list(dict.fromkeys(hit.video for hit in answer or [answer.best_guess] if hit is not None))
            direction = bridge.directions(predictor.encode_query(query))[0]
            by_rows = [files[key].path for key in rows.best(direction, files.keys(), len(files))[0]]
            ranks["search"].append(_rank(found, every[0].video))
            ranks["every"].append(_rank([hit.video for hit in every], found[0]))
            ranks["rows"].append(_rank(by_rows, every[0].video))
    return [
        {
            "videos": len(files),
            "queries": len(queries),
            "best_of_every_is_first": _within(ranks["search"], 1),
            "best_of_every_among_5": _within(ranks["search"], 5),
            "first_is_among_5_of_every": _within(ranks["every"], 5),
            **{f"kept_where_{count}_are_asked": _within(ranks["rows"], count) for count in _ASKED},
        }
    ]


def _rank(ordered: Sequence[str], wanted: str) -> int:
    """From 1; of what is not there, one more than all."""
    return ordered.index(wanted) + 1 if wanted in ordered else len(ordered) + 1000


def _within(ranks: Sequence[int], count: int) -> float:
    return sum(rank <= count for rank in ranks) / len(ranks)


def bench_vectors(counts: Sequence[int], queries: int = 200, asked: int = 32) -> list[Figures]:
    """The rows of a library searched one by one and, beyond the largest exact search, by its index.

    Args:
        counts: rows, SIMULATED.
        queries: asked.
        asked: videos wanted of each query.
    """
    texts = F.normalize(
        load((resources.files("mrnet") / "retrieval" / "class_texts.safetensors").read_bytes())[
            "class_texts"
        ].float(),
        dim=1,
    )
    bridge = ClassBridge(torch.eye(len(texts)), torch.zeros(len(texts)), texts)
    generator = torch.Generator().manual_seed(1)
    picked = torch.randint(len(texts), (2, queries), generator=generator)
    noise = 0.03 * torch.randn(queries, texts.shape[1], generator=generator)
    directions = bridge.directions(texts[picked[0]] + 0.5 * texts[picked[1]] + noise)
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "library")
        store.create(Provenance(backbone="simulated", dim=1), len(texts), 1)
        for before, count in zip((0, *counts), counts, strict=False):
            for start in range(before, count, _AT_ONCE):
                _add_simulated(store, bridge, texts, start, min(_AT_ONCE, count - start))
            exact = Vectors(store, "rows", averaged=4)
            figures: Figures = {"rows": f"{count} SIMULATED"}
            keys = range(-(-count // _ROWS_A_VIDEO))
            figures["load_seconds"] = seconds(lambda v=exact, k=keys: v.best(directions[0], k, asked))  # type: ignore[misc]
            expected, figures["exact_ms"] = _ask(exact, directions, keys, asked)
            figures |= {"peak_memory_mb": _peak_mb(), "index_seconds": None, "index_ms": None}
            rows.append(figures | {"same_best": None, "same_videos": None})
            del exact
        rows[-1]["index_seconds"] = seconds(lambda: store.index("rows", 0))
        found, rows[-1]["index_ms"] = _ask(Vectors(store, "rows", averaged=4), directions, keys, asked)
        pairs = list(zip(found, expected, strict=True))
        rows[-1]["same_best"] = sum(a[:1] == b[:1] for a, b in pairs) / queries
        rows[-1]["same_videos"] = sum(len(set(a) & set(b)) / len(b) for a, b in pairs) / queries
    return rows


def _ask(vectors: Vectors, directions: Tensor, keys: range, asked: int) -> tuple[list[list[int]], float]:
    """The best keys for each direction, and the median time in milliseconds."""
    vectors.best(directions[0], keys, asked)
    found: list[list[int]] = []
    times = [
        seconds(lambda d=direction: found.append(list(vectors.best(d, keys, asked)[0])))  # type: ignore[misc]
        for direction in directions
    ]
    return found, 1000 * statistics.median(times)


def _add_simulated(store: Store, bridge: ClassBridge, texts: Tensor, start: int, count: int) -> None:
    """Add rows of whole videos, numbered on."""
    generator = torch.Generator().manual_seed(start)
    num = -(-count // _ROWS_A_SEGMENT)
    usual = 0.6 * torch.randn(len(texts), generator=torch.Generator().manual_seed(0))
    centred = texts - texts.mean(dim=0)
    shown = torch.randint(len(texts), (num, 3), generator=generator)
    weights = torch.rand(num, 3, 1, generator=generator) ** 3 + 0.02
    meant = F.normalize((centred[shown] * weights).sum(dim=1), dim=1) @ centred.T
    clear = 2 + 10 * torch.rand(num, 1, generator=generator)
    segments = usual + clear * meant + 0.7 * torch.randn(num, len(texts), generator=generator)
    logits = segments.repeat_interleave(_ROWS_A_SEGMENT, dim=0)[:count]
    vectors = bridge.project(logits + 0.5 * torch.randn(count, len(texts), generator=generator))[0]
    parts = torch.split(vectors, _ROWS_A_VIDEO)
    first = start // _ROWS_A_VIDEO
    store.add_rows([(first + i, np.zeros((len(part), 1), np.float32), part) for i, part in enumerate(parts)])


def _make_video(path: Path, number: int) -> None:
    """Two pictures of drifting noise."""
    rng = np.random.default_rng(number)
    frames = []
    for _ in range(2):
        grain = int(rng.integers(2, 24))
        small = rng.integers(0, 256, (-(-_SIZE // grain), -(-_SIZE // grain), 3), np.uint8)
        tint = rng.uniform(0.3, 1, 3)
        picture = (small.repeat(grain, axis=0).repeat(grain, axis=1)[:_SIZE, :_SIZE] * tint).astype(np.uint8)
        frames += [np.roll(picture, shift, axis=1) for shift in range(_VIDEO_S * _FPS // 2)]
    write_video(path, frames, fps=_FPS)


def _best(library: Library, query: str, k: int) -> Hit | None:
    """The best hit, likely enough or not, where at least so many videos are asked."""
    answer = library.search(query, k)
    return answer[0] if answer else answer.best_guess


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
