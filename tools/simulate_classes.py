"""Make SIMULATED rows of sentences alone, as an image classifier might see what they tell of; no video is in them.

Usage:

    python tools/simulate_classes.py simulate --annotations train.json --videos 1200 60 --out DIR
    python tools/simulate_classes.py start --data DIR --set model.members=1 --out start
    mrnet train --from start --data DIR --out runs/text
    mrnet features video VIDEOS --backbone efficientnet-lite0 --out videos.h5
    python tools/simulate_classes.py rows --features videos.h5 --out rows.h5
    mrnet evaluate --checkpoint runs/text --set data.test=TABLE --set data.video_features=rows.h5 \\
        --set data.text_features=null

The logits of a picture are the cosines of its sentence's vector with those of the packaged classifier's classes, by a
temperature. The vector is bent by one of the picture (``gap``) and one of the scene; things that the sentence does not
name, a bias of every class, and noise of the picture and of the row are added to the logits. A row is the probabilities
that follow. What a network sees of a row, SIMULATED or real, is ``--space``: ``names``, the mean of the classes'
sentence vectors, weighed by the roots of the probabilities as :class:`mrnet.retrieval.aligned.ClassBridge` weighs
them; or ``logs``, the logarithms of the probabilities.

A video is either joined of 4 to 12 parts of different sentences, by cuts or crossfades, or has the moments of an
annotated video, of at most 140 s. Of the sentences some are of the annotations, some made of the names of classes; all
are without ``--annotations``. The same seed gives the same files.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from mrnet.config.recipes import load_recipe
from mrnet.config.spec import ModelSpec
from mrnet.data.annotations import read_annotations
from mrnet.data.own import load_dataset_overlay
from mrnet.data.sources import open_source
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import write_store
from mrnet.model.ensemble import make_network
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.retrieval.aligned import packaged_bridge
from mrnet.types import Query, Span, VideoRecord
from mrnet.weights.native import save_checkpoint
from simulate_features import Embeddings, Rows, add_settings, ask, embed, vectors, write_dataset

Array = npt.NDArray[np.float64]
Item = TypeVar("Item")

SPACES = ("names", "logs")
SPLITS = ("train", "val")
RECIPE = "mrnet-plus"
ROWS_PER_S = 2.0
_CAPTIONS = (
    "{}", "a photo of {}", "someone with {}", "{} on a table", "{} in a field", "close-up of {}", "a man holds {}",
    "a woman and {}", "{} in a room", "{} outdoors", "two children and {}", "{} on the street",
)  # fmt: skip
_LEAST = 1e-4
_LONGEST_S = 140.0
_QUERIES = 4


@dataclass(frozen=True)
class Simulation:
    """How rows are made.

    Attributes:
        seed: of everything that is drawn.
        temperature: cosines are divided by it, give or take a quarter.
        gap: between what a picture shows and what its sentence says.
        scene: how much pictures of one part, or of one annotated video, have in common beside the sentence.
        objects: things in a picture that its sentence does not name, on average.
        picture_noise: of the logits, for as long as a picture lasts.
        row_noise: of the logits, from row to row.
        timed: part of the videos that have the moments of an annotated one.
        named: part of the sentences that are made of names of classes.
    """

    seed: int = 0
    temperature: float = 0.065
    gap: float = 1.4
    scene: float = 0.5
    objects: float = 0.75
    picture_noise: float = 1.5
    row_noise: float = 1.2
    timed: float = 0.3
    named: float = 0.4


class Camera:
    """Shows sentences as the classifier might see them.

    Args:
        class_texts: ``(classes, e)`` of unit length.
        settings: strengths.
        rng: of what is drawn.
    """

    def __init__(self, class_texts: Array, settings: Simulation, rng: np.random.Generator) -> None:
        self._class_texts, self._settings, self._rng = class_texts, settings, rng
        self._bias = rng.standard_normal(len(class_texts))

    def scene(self) -> Array:
        """``(e,)`` what pictures of one scene have in common."""
        scene: Array = self._settings.scene * vectors(self._rng, 1, self._class_texts.shape[1])[0]
        return scene

    def film(self, sentence: Array, scene: Array, num_rows: int) -> Array:
        """``(num_rows, classes)`` logits of pictures of a sentence, of about 7 s each.

        Two in five pictures that follow another show the same.
        """
        rng, shown = self._rng, np.empty((num_rows, len(self._class_texts)))
        begin, picture = 0, self._picture(sentence, scene)
        while begin < num_rows:
            end = begin + max(round(rng.lognormal(np.log(14), 0.7)), 1)
            part = shown[begin:end]
            part[:] = picture + self._settings.row_noise * rng.uniform(0.3, 1.5) * self._flicker(*part.shape)
            begin, picture = end, picture if rng.random() < 0.4 else self._picture(sentence, scene)
        return shown

    def _picture(self, sentence: Array, scene: Array) -> Array:
        """``(classes,)`` logits."""
        rng, settings = self._rng, self._settings
        seen = sentence + scene + settings.gap * rng.uniform(0.3, 1.5) * vectors(rng, 1, len(sentence))[0]
        logits: Array = self._class_texts @ (seen / np.linalg.norm(seen))
        logits = (logits - logits.mean()) / (settings.temperature * np.exp(rng.normal(0, 0.25)))
        logits += self._bias + settings.picture_noise * rng.uniform(0.5, 1.5) * rng.standard_normal(len(logits))
        for _ in range(rng.poisson(settings.objects)):
            likeness = self._class_texts @ self._class_texts[rng.integers(len(logits))]
            logits = np.logaddexp(logits, logits.max() + rng.normal(-1, 1.5) + (likeness - 1) / 0.06)
        return logits

    def _flicker(self, num_rows: int, num_classes: int) -> Array:
        """``(num_rows, num_classes)`` noise of unit strength, much the same in neighbouring rows."""
        noise = self._rng.standard_normal((num_rows, num_classes))
        for before, row in pairwise(noise):
            row *= 0.6
            row += 0.8 * before
        return noise


def softmax(logits: Array) -> Array:
    """Along the last axis."""
    powers: Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def see(probabilities: Array, class_texts: Array, space: str) -> Rows:
    """Rows as a network sees them, ``(r, d)``.

    Args:
        probabilities: ``(r, classes)``.
        class_texts: ``(classes, e)``.
        space: ``"names"``, d is e; ``"logs"``, d is the number of classes.
    """
    if space == "logs":
        return np.log(probabilities + _LEAST).astype(np.float32)
    roots = np.sqrt(probabilities)
    roots /= np.sqrt(roots.sum(axis=1, keepdims=True))
    return (roots @ class_texts).astype(np.float32)


def join(
    name: str, texts: Sequence[str], embeddings: Embeddings, camera: Camera, rng: np.random.Generator
) -> tuple[VideoRecord, Array]:
    """A video of one part after another, of 1.4 to 20 s, and its ``(r, classes)`` probabilities.

    In every second video what is on either side of a cut is seen for a second through the other.
    """
    lengths_s = np.clip(rng.lognormal(np.log(6.5), 0.7, len(texts)), 1.4, 20.0)
    edges_s = np.concatenate([[0], lengths_s.cumsum()])
    edges = np.round(edges_s * ROWS_PER_S).astype(int)
    rows = np.concatenate(
        [
            softmax(camera.film(embeddings[text].astype(np.float64), camera.scene(), end - start))
            for text, start, end in zip(texts, edges, edges[1:], strict=False)
        ]
    )
    if rng.random() < 0.5:
        for cut in edges[1:-1]:
            before, after = rows[cut - 1].copy(), rows[cut].copy()
            rows[cut - 1], rows[cut] = (2 * before + after) / 3, (before + 2 * after) / 3
    queries = tuple(
        Query(text, (Span(float(start), float(end)),), f"{name}#{number}")
        for number, (text, start, end) in enumerate(zip(texts, edges_s, edges_s[1:], strict=False))
    )
    return VideoRecord(name, float(edges_s[-1]), queries), rows


def follow(name: str, record: VideoRecord, embeddings: Embeddings, camera: Camera) -> tuple[VideoRecord, Array]:
    """A video with the moments of an annotated one, at most 140 s long, and its ``(r, classes)`` probabilities.

    All of it is one scene. What happens at once is seen at once; where nothing does, all sentences are seen a little.
    """
    scale = min(_LONGEST_S / record.duration_s, 1.0)
    duration_s = record.duration_s * scale
    queries = tuple(
        Query(
            query.text, tuple(Span(start * scale, end * scale) for start, end in query.moments), f"{name}#{number}"
        )
        for number, query in enumerate(record.queries)
    )
    num_rows = max(round(duration_s * ROWS_PER_S), 1)
    middles_s = (np.arange(num_rows) + 0.5) * duration_s / num_rows
    said = np.mean([embeddings[query.text] for query in queries], axis=0)
    scene = 1.5 * camera.scene()
    background = camera.film(0.5 * said, scene, num_rows)
    happening, count = np.zeros_like(background), np.zeros((num_rows, 1))
    for query in queries:
        for start_s, end_s in query.moments:
            covered = (middles_s >= start_s) & (middles_s <= end_s)
            happening[covered] += camera.film(embeddings[query.text].astype(np.float64), scene, int(covered.sum()))
            count[covered] += 1
    return VideoRecord(name, duration_s, queries), softmax(
        np.where(count, happening / count.clip(min=1), background)
    )


def named_sentences(names: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Two of each class, and half as many of two classes, as there are classes."""
    things = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    alone = [_CAPTIONS[index].format(thing) for thing in things for index in rng.permutation(len(_CAPTIONS))[:2]]
    pairs = [rng.permutation(len(things))[:2] for _ in range(len(things) // 2)]
    return alone + [f"{things[one]} and {things[other]}" for one, other in pairs]


def make_videos(
    names: Sequence[str],
    annotated: Sequence[VideoRecord],
    sentences: Sequence[str],
    embeddings: Embeddings,
    camera: Camera,
    settings: Simulation,
    rng: np.random.Generator,
) -> tuple[list[VideoRecord], dict[str, Array]]:
    """Videos, and the ``(r, classes)`` probabilities of each.

    Args:
        names: of the videos.
        annotated: whose sentences are said, and of those with several the moments.
        sentences: of the names of classes.
        embeddings: of all sentences.
        camera: shows them.
        settings: how many are of what.
        rng: of what is drawn.
    """
    pools: list[Sequence[str]] = [[query.text for record in annotated for query in record.queries], sentences]
    timed = [record for record in annotated if len(record.queries) > 1]
    records: list[VideoRecord] = []
    shown: dict[str, Array] = {}
    for name in names:
        if timed and rng.random() < settings.timed:
            record, shown[name] = follow(name, _draw(timed, rng), embeddings, camera)
        else:
            made_of_names = rng.random(rng.integers(4, 13)) < (settings.named if annotated else 1)
            texts = [_draw(pools[int(named)], rng) for named in made_of_names]
            record, shown[name] = join(name, texts, embeddings, camera, rng)
        records.append(record)
    return records, shown


def _draw(pool: Sequence[Item], rng: np.random.Generator) -> Item:
    return pool[int(rng.integers(len(pool)))]


def read_classes() -> tuple[list[str], Array]:
    """Names of the packaged classifier's classes, and their ``(classes, e)`` sentence vectors."""
    with safe_open(str(resources.files("mrnet") / "retrieval" / "class_texts.safetensors"), "numpy") as file:
        texts = file.get_tensor("class_texts").astype(np.float64)
        return json.loads(file.metadata()["names"]), texts / np.linalg.norm(texts, axis=1, keepdims=True)


def simulated(dim: int, space: str, details: Mapping[str, str]) -> Provenance:
    """Of rows in a space, SIMULATED or real: a network trained on the ones is asked about the others."""
    return Provenance(backbone=f"classes-{space}", dim=dim, rows_per_s=ROWS_PER_S, details=dict(details))


def _tenths(pool: Sequence[Item], tenths: range) -> list[Item]:
    return [item for index, item in enumerate(pool) if index % 10 in tenths]


def write_videos(arguments: argparse.Namespace) -> None:
    """``simulate``"""
    settings = Simulation(**{name: getattr(arguments, name) for name in asdict(Simulation())})
    rng = np.random.default_rng((settings.seed, 4))
    names, class_texts = read_classes()
    camera = Camera(class_texts, settings, rng)
    annotated = []
    for path in arguments.annotations:
        records = [record for record in read_annotations(path) if record.queries]
        annotated += [records[index] for index in rng.permutation(len(records))[: arguments.annotated]]
    sentences = named_sentences(names, rng)
    embeddings, text_provenance = embed(
        [query.text for record in annotated for query in record.queries] + sentences
    )
    asked: dict[str, list[VideoRecord]] = {}
    rows: dict[str, Rows] = {}
    for split, count, tenths in zip(SPLITS, arguments.videos, (range(1, 10), range(1)), strict=True):
        drawn = [f"{split}-{index}" for index in range(count)]
        of_split = _tenths(annotated, tenths), _tenths(sentences, tenths)
        asked[split], shown = make_videos(drawn, *of_split, embeddings, camera, settings, rng)
        rows |= {name: see(probabilities, class_texts, arguments.space) for name, probabilities in shown.items()}
    details = {key: str(value) for key, value in asdict(settings).items()}
    made = simulated(len(next(iter(rows.values()))[0]), arguments.space, details)
    write_dataset(arguments.out, rows, made, ask(asked, _QUERIES, settings.seed), embeddings, text_provenance)


def write_start(arguments: argparse.Namespace) -> None:
    """``start``"""
    config = load_recipe(RECIPE, arguments.overrides, load_dataset_overlay(arguments.data))
    source = open_source(config.data)
    train = source.dataset(source.split("train"), config.model, {})
    shown = torch.cat([train.video_rows(record.video_id) for record in train.records])
    said = torch.cat([train.query_rows(record) for record in train.records])
    _, class_texts = read_classes()
    torch.manual_seed(config.train.seed)
    network = make_network(config.model)
    assert isinstance(network, MRNet), "start one network at a time: --set model.members=1"
    tie(network, shown, said, torch.from_numpy(class_texts).float())
    spec = ModelSpec(
        name=config.name,
        model=config.model,
        decode=config.decode,
        query_widths=dict(source.query_widths),
        provenances=dict(source.provenances),
    )
    save_checkpoint(arguments.out, spec, config, network.state_dict())


def tie(network: MRNet, shown: Tensor, said: Tensor, class_texts: Tensor) -> None:
    """Let clips and queries begin in one space: the first principal components of the sentences.

    Args:
        network: with random weights, ``input_norm`` and ``clip_projection: linear``.
        shown: ``(r, c)`` rows, of either space.
        said: ``(n, e)`` sentence vectors.
        class_texts: ``(classes, e)``.
    """
    shown, said = (F.layer_norm(rows, rows.shape[1:]) for rows in (shown, said))
    middle = said.mean(dim=0)
    components = torch.linalg.eigh(torch.cov(said.T)).eigenvectors.T.flip(0)
    query_weight = components[: network.config.dim]
    clip_weight = query_weight if shown.shape[1] == said.shape[1] else query_weight @ class_texts.T
    clips, query = network.clip_encoder.reduce, network.query_encoder
    assert clips.bias is not None
    with torch.no_grad():
        query.weight.copy_(query_weight)
        query.bias.copy_(-query_weight @ middle)
        clips.weight.copy_(clip_weight[..., None])
        clips.bias.copy_(-clip_weight @ shown.mean(dim=0))


def write_rows(arguments: argparse.Namespace) -> None:
    """``rows``"""
    store, bridge, (_, class_texts) = open_store(arguments.features), packaged_bridge(), read_classes()
    rows = {
        name: see(
            bridge.project(torch.from_numpy(store.read(name)))[1].double().numpy(), class_texts, arguments.space
        )
        for name in store.ids()
    }
    write_store(arguments.out, rows.items(), simulated(len(next(iter(rows.values()))[0]), arguments.space, {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    simulate = commands.add_parser("simulate", help="a dataset to train on")
    simulate.add_argument(
        "--annotations", type=Path, nargs="*", default=[], help="their sentences and moments are used"
    )
    simulate.add_argument("--annotated", type=int, default=600, help="videos of each of these, at most (600)")
    simulate.add_argument("--videos", type=int, nargs=2, required=True, metavar="N", help="of train and val")
    add_settings(simulate, asdict(Simulation()))
    simulate.set_defaults(run=write_videos)
    start = commands.add_parser(
        "start", help="a network whose clips and queries begin in one space, to train from"
    )
    start.add_argument("--data", type=Path, required=True, help="what simulate wrote")
    start.add_argument("--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE")
    start.add_argument("--out", type=Path, required=True, help="new checkpoint")
    start.set_defaults(run=write_start)
    rows = commands.add_parser("rows", help="real rows in the space of the simulated ones")
    rows.add_argument("--features", type=Path, required=True, help="store of efficientnet-lite0")
    rows.set_defaults(run=write_rows)
    for command in (simulate, rows):
        command.add_argument("--space", choices=SPACES, default="names")
        command.add_argument("--out", type=Path, required=True, help="new folder, or store")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
