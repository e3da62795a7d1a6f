"""A SIMULATED moment retrieval benchmark: rendered videos, spoken sentences, annotations in ActivityNet form.

Objects of some color and shape move in some way over a dull background; a query asks for one
of them. It shows that training and retrieval work from end to end on real video files. It says
nothing about accuracy on filmed video, and its scores compare with no published ones.
"""

import json
import multiprocessing
import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mrnet.demo.scenes import FPS, Event, render
from mrnet.demo.sentences import (
    COLORS,
    MOTIONS,
    SHAPES,
    TEST_TEMPLATES,
    TRAIN_TEMPLATES,
    VAL_TEMPLATES,
    Deck,
    Look,
    Writer,
)
from mrnet.demo.voices import TEST_VOICES, TRAIN_VOICES, VAL_VOICES, Manner, speak
from mrnet.files import new_directory
from mrnet.media.audio import write_audio
from mrnet.media.video import write_video
from mrnet.processes import begin_worker

_SHORTEST_S, _LONGEST_S = 18, 36
_EVENT_S = (2.5, 9.0)
# Events fill at most this part of a video: the rest is for the gaps between them.
_MOST_BUSY = 0.75
_VOICES = {"train": TRAIN_VOICES, "val": VAL_VOICES, "test": TEST_VOICES}
_TEMPLATES = {"train": TRAIN_TEMPLATES, "val": VAL_TEMPLATES, "test": TEST_TEMPLATES}
# Fewest and most sentences of an event.
_SENTENCES = {"train": (2, 3), "val": (1, 2), "test": (1, 2)}


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """All there is to know about a simulated video before it is rendered.

    Attributes:
        video_id: name of the video, and of its file without the suffix.
        num_frames: length in frames.
        seed: seed of its rendering.
        events: sorted by time, without overlap.
        sentences: one to three for each event.
        manners: how each sentence is said, in order.
    """

    video_id: str
    num_frames: int
    seed: int
    events: tuple[Event, ...]
    sentences: tuple[tuple[str, ...], ...]
    manners: tuple[Manner, ...]

    def sounds(self) -> list[tuple[str, str, Manner]]:
        """File name, sentence and manner of every spoken query, in the order of the annotation."""
        flat = (sentence for sentences in self.sentences for sentence in sentences)
        return [
            (f"{self.video_id}_{index}.wav", sentence, manner)
            for index, (sentence, manner) in enumerate(zip(flat, self.manners, strict=True))
        ]


def render_benchmark(
    directory: Path,
    seed: int,
    *,
    train: int = 150,
    val: int = 24,
    test: int = 30,
    workers: int = 1,
    speech: bool = False,
) -> None:
    """Render a simulated benchmark: ``videos/ID.mp4``, ``train.json``, ``val.json``, ``test.json``.

    The test split has combinations of color, shape and motion, sentence templates, and voices, that
    neither train nor val has. A few dozen training videos hold every single word.

    Args:
        directory: folder to make; must not exist or be empty. It appears only once complete.
        seed: decides everything; the same seed gives the same annotations and frames.
        train: number of training videos.
        val: number of validation videos.
        test: number of test videos.
        workers: processes to render with.
        speech: whether to say every sentence, too: ``speech/ID_n.wav``, named in the annotations' ``audios``.

    Raises:
        OutputError: ``directory`` holds something already, or a file cannot be written.
        ConfigError: there is nothing to speak with.
    """
    splits = plan_benchmark(seed, train=train, val=val, test=test)
    with new_directory(directory) as part:
        for split, plans in splits.items():
            text = json.dumps(_annotation(plans, speech=speech), indent=1)
            (part / f"{split}.json").write_text(text + "\n", encoding="utf-8")
        _render_all([plan for plans in splits.values() for plan in plans], part, workers, speech=speech)


def plan_benchmark(seed: int, *, train: int, val: int, test: int) -> dict[str, list[VideoPlan]]:
    """Decide what every video shows, when, and in which words; nothing is rendered.

    Args:
        seed: decides everything.
        train: number of training videos.
        val: number of validation videos.
        test: number of test videos.

    Returns:
        Split name -> plans of its videos.
    """
    splits = {}
    for split, count in (("train", train), ("val", val), ("test", test)):
        # A string seeds by its bytes: the same on every machine, unlike hash().
        rng = random.Random(f"{seed}/{split}")
        manners = random.Random(f"{seed}/{split}/speech")
        planner = _Planner(split, rng, manners)
        splits[split] = [planner.plan(f"{split}_{index:04d}") for index in range(count)]
    return splits


class _Planner:
    """Plans the videos of one split, going evenly through colors, shapes, motions, words and voices."""

    def __init__(self, split: str, rng: random.Random, manners: random.Random) -> None:
        self._rng = rng
        self._manners = manners
        self._voices = Deck(_VOICES[split], manners)
        self._num_sentences = _SENTENCES[split]
        held_out = split == "test"
        self._colors = Deck(COLORS, rng)
        self._motions = Deck(MOTIONS, rng)
        shapes = {
            (color, motion): [s for s in SHAPES if Look(color, s, motion).held_out is held_out]
            for color in COLORS
            for motion in MOTIONS
        }
        self._shapes = {pair: Deck(options, rng) for pair, options in shapes.items()}
        self._writer = Writer(_TEMPLATES[split], rng)

    def plan(self, video_id: str) -> VideoPlan:
        num_frames = self._rng.randrange(_SHORTEST_S * FPS, _LONGEST_S * FPS + 1)
        looks = self._looks(self._rng.randint(3, 5))
        spans = self._spans(len(looks), num_frames)
        events = tuple(Event(look, *span) for look, span in zip(looks, spans, strict=True))
        sentences = tuple(
            tuple(self._writer.sentence(look) for _ in range(self._rng.randint(*self._num_sentences)))
            for look in looks
        )
        manners = tuple(Manner.draw(self._voices.deal(), self._manners) for words in sentences for _ in words)
        return VideoPlan(video_id, num_frames, self._rng.getrandbits(32), events, sentences, manners)

    def _looks(self, count: int) -> list[Look]:
        """Looks with colors and motions in common: no query is answered by one word alone."""
        first, second, third = self._colors.deal_distinct(3)
        one, other = self._motions.deal_distinct(2)
        pairs = [(first, one), (first, other), (second, one), (second, other), (third, one)][:count]
        self._rng.shuffle(pairs)
        return [Look(color, self._shapes[color, motion].deal(), motion) for color, motion in pairs]

    def _spans(self, count: int, num_frames: int) -> list[tuple[int, int]]:
        """Random (start, end) frames of ``count`` events in a row, with gaps of random length."""
        lengths = [round(self._rng.uniform(*_EVENT_S) * FPS) for _ in range(count)]
        while sum(lengths) > _MOST_BUSY * num_frames:
            longest = lengths.index(max(lengths))
            lengths[longest] = max(round(0.8 * lengths[longest]), round(_EVENT_S[0] * FPS))
        cuts = sorted(self._rng.randint(0, num_frames - sum(lengths)) for _ in range(count))
        spans, used = [], 0
        for cut, length in zip(cuts, lengths, strict=True):
            spans.append((cut + used, cut + used + length))
            used += length
        return spans


def _annotation(plans: Iterable[VideoPlan], *, speech: bool) -> dict[str, dict[str, object]]:
    """A split in ActivityNet form, seconds throughout; with speech, in that of ActivityNet Speech."""
    return {
        plan.video_id: {
            "duration": plan.num_frames / FPS,
            "timestamps": [
                [event.start / FPS, event.end / FPS]
                for event, sentences in zip(plan.events, plan.sentences, strict=True)
                for _ in sentences
            ],
            "sentences": [sentence for sentences in plan.sentences for sentence in sentences],
            **({"audios": [name for name, _, _ in plan.sounds()]} if speech else {}),
        }
        for plan in plans
    }


def _render_all(plans: list[VideoPlan], directory: Path, workers: int, *, speech: bool) -> None:
    if workers <= 1:
        for plan in plans:
            _render_one(plan, directory, speech)
        return
    # Spawned, not forked: forking a process that has threads running may hang it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)
    try:
        for future in [pool.submit(_render_one, plan, directory, speech) for plan in plans]:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _render_one(plan: VideoPlan, directory: Path, speech: bool) -> None:
    frames = render(plan.events, plan.num_frames, plan.seed)
    write_video(directory / "videos" / f"{plan.video_id}.mp4", frames, FPS, preset="ultrafast")
    for name, sentence, manner in plan.sounds() if speech else ():
        write_audio(directory / "speech" / name, speak(sentence, manner))
