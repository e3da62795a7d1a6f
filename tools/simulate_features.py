"""Make SIMULATED clip features of real annotations: what the sentences say, seen through noise; no video is in them.

Usage:

    python tools/simulate_features.py --train train.json --val val.json --test test.json --videos 1000 300 300 --out DIR
    mrnet experiment run FILE --data DIR --out RUNS

A row is a random linear projection of

    the mean of what happens at its time + background x a vector of the video + noise x a vector of the row,

all vectors in the space of the packaged sentence encoder and of about unit length. What happens are the sentences whose
moments cover the time, and distractors: sentences of other videos of the split, each over the stretch of a moment of
theirs. Each of them looks a little different from what it says, by gap x a vector of its own, for as long as it lasts.

The videos are drawn from the published splits; of ActivityNet Captions, whose val and test hold the same videos with
sentences of different people, no video is drawn for both. The same seed gives the same files.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from mrnet.data.annotations import read_annotations
from mrnet.data.own import SETTINGS
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone
from mrnet.features.store.writer import write_store
from mrnet.files import new_directory, write_text
from mrnet.provenance import Provenance
from mrnet.retrieval.aligned import PACKAGED_TEXT
from mrnet.types import Span, VideoRecord

Rows = npt.NDArray[np.float32]
Embeddings = Mapping[str, Rows]
"""Sentence -> ``(e,)`` of unit length."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Simulation:
    """How clips are made.

    Attributes:
        seed: of everything that is drawn.
        dim: width of the features.
        rows_per_s: rows a second of video.
        distractors: things that happen in a video and that no sentence of it is about.
        gap: between what a thing looks like and what its sentence says.
        background: how strongly a video looks like itself throughout.
        noise: of every row.
    """

    seed: int = 0
    dim: int = 256
    rows_per_s: float = 1.0
    distractors: int = 3
    gap: float = 1.0
    background: float = 0.5
    noise: float = 1.0


def choose(
    records: Mapping[str, Sequence[VideoRecord]], counts: Mapping[str, int], seed: int
) -> dict[str, list[VideoRecord]]:
    """So many videos of each split, none of them in two."""
    rng = np.random.default_rng((seed, 1))
    chosen: dict[str, list[VideoRecord]] = {}
    taken: set[str] = set()
    for split, of_split in records.items():
        free = [record for record in of_split if record.queries and record.video_id not in taken]
        picked = np.sort(rng.permutation(len(free))[: counts[split]])
        chosen[split] = [free[index] for index in picked]
        taken |= {record.video_id for record in chosen[split]}
    return chosen


def ask(chosen: Mapping[str, Sequence[VideoRecord]], most: int | None, seed: int) -> dict[str, list[VideoRecord]]:
    """The same with at most so many queries a video; the others still happen in it."""
    rng = np.random.default_rng((seed, 3))
    asked: dict[str, list[VideoRecord]] = {}
    for split, of_split in chosen.items():
        asked[split] = []
        for record in of_split:
            kept = np.sort(rng.permutation(len(record.queries))[:most])
            asked[split].append(replace(record, queries=tuple(record.queries[index] for index in kept)))
    return asked


def simulate(
    record: VideoRecord,
    others: Sequence[VideoRecord],
    embeddings: Embeddings,
    projection: Rows,
    settings: Simulation,
    rng: np.random.Generator,
) -> Rows:
    """Rows of one video, ``(r, dim)``.

    Args:
        record: the video, with all that its sentences say.
        others: videos that distractors are taken from.
        embeddings: of all sentences.
        projection: ``(e, dim)``.
        settings: strengths.
        rng: of what is drawn.
    """
    width = len(projection)
    num_rows = max(round(record.duration_s * settings.rows_per_s), 1)
    middle_s = (np.arange(num_rows) + 0.5) * record.duration_s / num_rows
    happening = [(query.text, span) for query in record.queries for span in query.moments]
    happening += [_distractor(record, others, rng) for _ in range(settings.distractors)]
    content, count = np.zeros((num_rows, width)), np.zeros((num_rows, 1))
    for text, (start_s, end_s) in happening:
        looks = embeddings[text] + settings.gap * vectors(rng, 1, width)[0]
        covered = (middle_s >= start_s) & (middle_s <= end_s)
        content[covered] += looks
        count[covered] += 1
    rows = content / count.clip(min=1)
    rows += settings.background * vectors(rng, 1, width) + settings.noise * vectors(rng, num_rows, width)
    projected: Rows = (rows @ projection).astype(np.float32)
    return projected


def _distractor(record: VideoRecord, others: Sequence[VideoRecord], rng: np.random.Generator) -> tuple[str, Span]:
    """A sentence of another video, at random, for as long a part of the video as its moment is of its own."""
    strangers = [other for other in others if other.video_id != record.video_id]
    other = strangers[int(rng.integers(len(strangers)))]
    query = other.queries[int(rng.integers(len(other.queries)))]
    start_s, end_s = query.moments[0]
    length_s = (end_s - start_s) / other.duration_s * record.duration_s
    begin_s = rng.uniform(0, max(record.duration_s - length_s, 0))
    return query.text, Span(begin_s, begin_s + length_s)


def vectors(rng: np.random.Generator, count: int, width: int) -> npt.NDArray[np.float64]:
    """``(count, width)`` random vectors of about unit length."""
    vectors: npt.NDArray[np.float64] = rng.standard_normal((count, width)) / np.sqrt(width)
    return vectors


def write_simulated(
    folder: Path,
    chosen: Mapping[str, Sequence[VideoRecord]],
    asked: Mapping[str, Sequence[VideoRecord]],
    embeddings: Embeddings,
    text_provenance: Provenance,
    settings: Simulation,
) -> None:
    """Make the videos and write the dataset of :func:`write_dataset`.

    Args:
        folder: a new one.
        chosen: split -> its videos, with all that happens in them.
        asked: the same with the queries that are asked.
        embeddings: of all sentences.
        text_provenance: of these.
        settings: of the simulation.

    Raises:
        OutputError: the folder is there already, or cannot be written.
    """
    width = text_provenance.dim
    rng = np.random.default_rng((settings.seed, 2))
    projection = vectors(rng, width, settings.dim).astype(np.float32)
    videos = {
        record.video_id: simulate(record, of_split, embeddings, projection, settings, rng)
        for of_split in chosen.values()
        for record in of_split
    }
    details = {key: str(value) for key, value in asdict(settings).items()}
    made = Provenance(
        backbone="simulated",
        dim=settings.dim,
        rows_per_s=settings.rows_per_s,
        details=details | {"of": PACKAGED_TEXT},
    )
    write_dataset(folder, videos, made, asked, embeddings, text_provenance)


def write_dataset(
    folder: Path,
    videos: Mapping[str, Rows],
    made: Provenance,
    asked: Mapping[str, Sequence[VideoRecord]],
    embeddings: Embeddings,
    text_provenance: Provenance,
) -> None:
    """Write ``videos.h5``, ``text.h5``, an annotation file a split, and the ``dataset.yaml`` that names them.

    Args:
        folder: a new one.
        videos: SIMULATED rows by the id of their video.
        made: how they were made.
        asked: split -> its videos, with the queries that are asked.
        embeddings: of their sentences.
        text_provenance: of these.

    Raises:
        OutputError: the folder is there already, or cannot be written.
    """
    with new_directory(folder) as temporary:
        write_store(temporary / "videos.h5", videos.items(), made)
        texts = {
            f"{record.video_id}#{index}": embeddings[query.text][None]
            for of_split in asked.values()
            for record in of_split
            for index, query in enumerate(record.queries)
        }
        write_store(temporary / "text.h5", texts.items(), text_provenance)
        for split, of_split in asked.items():
            write_text(temporary / f"{split}.json", _annotations(of_split))
        tree = {
            "name": f"simulated-{folder.name}",
            "model": {"video_dim": made.dim, "query_dim": text_provenance.dim},
            "data": {split: f"{split}.json" for split in asked}
            | {"video_features": "videos.h5", "text_features": "text.h5", "text_backbone": PACKAGED_TEXT},
        }
        write_text(temporary / SETTINGS, f"# SIMULATED features\n{yaml.safe_dump(tree)}")


def _annotations(records: Sequence[VideoRecord]) -> str:
    """In the format of ActivityNet Captions, whose qids are the video's id and the number of the query."""
    tree = {
        record.video_id: {
            "duration": record.duration_s,
            "timestamps": [list(query.moments[0]) for query in record.queries],
            "sentences": [query.text for query in record.queries],
        }
        for record in records
    }
    return json.dumps(tree) + "\n"


def embed(sentences: Sequence[str]) -> tuple[Embeddings, Provenance]:
    """Embeddings of sentences, and how they were made."""
    backbone = make_backbone("text", PACKAGED_TEXT, device="cpu")
    texts = sorted(set(sentences), key=lambda text: (len(text.split()), text))  # those of one length go together
    return dict(
        zip(texts, (rows[0] for rows in encode_sources(backbone, texts)), strict=True)
    ), backbone.provenance()


def add_settings(parser: argparse.ArgumentParser, defaults: Mapping[str, int | float]) -> None:
    """An option for each setting of a simulation."""
    for name, default in defaults.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"({default})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for split in SPLITS:
        parser.add_argument(f"--{split}", type=Path, required=True, help="annotations of that published split")
    parser.add_argument("--videos", type=int, nargs=3, required=True, metavar="N", help="of train, val and test")
    parser.add_argument("--queries", type=int, help="asked of a video, at most (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    add_settings(parser, asdict(Simulation()))
    arguments = parser.parse_args()
    settings = Simulation(**{name: getattr(arguments, name) for name in asdict(Simulation())})
    records = {split: read_annotations(getattr(arguments, split)) for split in SPLITS}
    counts = dict(zip(SPLITS, arguments.videos, strict=True))
    chosen = choose(records, counts, settings.seed)
    asked = ask(chosen, arguments.queries, settings.seed)
    texts = [query.text for of_split in chosen.values() for record in of_split for query in record.queries]
    embeddings, provenance = embed(texts)
    write_simulated(arguments.out, chosen, asked, embeddings, provenance, settings)
    for split, of_split in asked.items():
        print(
            f"{split}: {len(of_split)} videos, {sum(len(record.queries) for record in of_split)} queries, SIMULATED"
        )


if __name__ == "__main__":
    main()
