"""The wording of the simulated benchmark: attribute values, synonyms and sentence templates."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

COLORS = ("red", "yellow", "green", "cyan", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
MOTIONS = (
    "slides-right",
    "slides-left",
    "rises",
    "falls",
    "blinks",
    "grows",
    "shrinks",
    "bounces",
)

COLOR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "scarlet"),
    "yellow": ("yellow",),
    "green": ("green",),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
}

SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus sign"),
}

# Each phrase twice: as in "a circle ..." and as in "a circle is ...".
MOTION_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "slides-right": (
        ("slides from left to right", "sliding from left to right"),
        ("moves to the right", "moving to the right"),
        ("goes across rightwards", "going across rightwards"),
    ),
    "slides-left": (
        ("slides from right to left", "sliding from right to left"),
        ("moves to the left", "moving to the left"),
        ("goes across leftwards", "going across leftwards"),
    ),
    "rises": (
        ("rises", "rising"),
        ("moves up", "moving up"),
        ("climbs from bottom to top", "climbing from bottom to top"),
    ),
    "falls": (
        ("falls", "falling"),
        ("moves down", "moving down"),
        ("drops from top to bottom", "dropping from top to bottom"),
    ),
    "blinks": (
        ("blinks", "blinking"),
        ("flashes on and off", "flashing on and off"),
        ("flickers", "flickering"),
    ),
    "grows": (
        ("grows", "growing"),
        ("gets bigger", "getting bigger"),
        ("expands", "expanding"),
    ),
    "shrinks": (
        ("shrinks", "shrinking"),
        ("gets smaller", "getting smaller"),
        ("contracts", "contracting"),
    ),
    "bounces": (
        ("bounces", "bouncing"),
        ("jumps up and down", "jumping up and down"),
        ("hops in place", "hopping in place"),
    ),
}

TRAIN_TEMPLATES = (
    "a {color} {shape} {does}",
    "the {color} {shape} {does}",
    "a {color} {shape} is {doing}",
    "there is a {color} {shape} that {does}",
    "a {shape} colored {color} {does}",
    "we see a {color} {shape} {doing}",
    "a {shape} which is {color} {does}",
    "{doing} is what the {color} {shape} does",
    "show me a {color} {shape} that is {doing}",
    "somewhere a {color} {shape} {does}",
    "here comes the {shape} colored {color}, {doing}",
    "one can see that the {color} {shape} {does}",
    "{doing}: a {color} {shape}",
    "find where the {shape} which is {color} {does}",
    "now the {color} {shape} {does} again",
    "what {does} here is a {color} {shape}",
)

# Asked of the validation videos only, so that settings and checkpoints are chosen by sentences built in a new way.
VAL_TEMPLATES = (
    "watch how this {color} {shape} {does}",
    "the {shape} has the color {color} and keeps {doing}",
    "where can you see another {color} {shape} {doing}?",
    "something {color}, a {shape}, {does}",
)

# Asked of the test videos only: how well a model reads sentences built in a way it never saw.
TEST_TEMPLATES = (
    "look for one {color} {shape} as it {does}",
    "the {shape} is {color} and it {does}",
    "in this part some {color} {shape} {does}",
    "when is the {color} {shape} {doing}?",
)


@dataclass(frozen=True, slots=True)
class Look:
    """What an event shows: one of :data:`COLORS`, :data:`SHAPES` and :data:`MOTIONS` each."""

    color: str
    shape: str
    motion: str

    @property
    def held_out(self) -> bool:
        """Whether the combination is kept for the test split.

        For each color and motion exactly one shape is held out, so every single value, and
        every pair of color and motion, is still seen in training.
        """
        total = COLORS.index(self.color) + 2 * SHAPES.index(self.shape) + 3 * MOTIONS.index(self.motion)
        return total % len(SHAPES) == 0


class Deck(Generic[T]):
    """Random choices dealt like cards: no option comes again before all the others have come.

    A plain random choice could leave a word out of a small training split; a deck cannot.
    """

    def __init__(self, options: Sequence[T], rng: random.Random) -> None:
        self._options = options
        self._rng = rng
        self._cards: list[T] = []

    def deal(self) -> T:
        """The next card; the deck is shuffled anew whenever it has run out."""
        if not self._cards:
            self._cards = self._rng.sample(self._options, len(self._options))
        return self._cards.pop()

    def deal_distinct(self, count: int) -> list[T]:
        """``count`` different cards, at most as many as there are options."""
        hand: list[T] = []
        while len(hand) < count:
            card = self.deal()
            if card not in hand:
                hand.append(card)
        return hand


class Writer:
    """Puts events into words, going evenly through the templates and the synonyms.

    Args:
        templates: sentences with the slots ``{color}``, ``{shape}`` and either ``{does}`` or
            ``{doing}``.
        rng: source of the order in which words and templates come.
    """

    def __init__(self, templates: Sequence[str], rng: random.Random) -> None:
        self._templates = Deck(templates, rng)
        self._colors = {color: Deck(words, rng) for color, words in COLOR_WORDS.items()}
        self._shapes = {shape: Deck(words, rng) for shape, words in SHAPE_WORDS.items()}
        self._does = {m: Deck([does for does, _ in words], rng) for m, words in MOTION_WORDS.items()}
        self._doing = {m: Deck([doing for _, doing in words], rng) for m, words in MOTION_WORDS.items()}

    def sentence(self, look: Look) -> str:
        """A sentence that says color, shape and motion of an event."""
        template = self._templates.deal()
        words = {"color": self._colors[look.color].deal(), "shape": self._shapes[look.shape].deal()}
        if "{doing}" in template:
            words["doing"] = self._doing[look.motion].deal()
        else:
            words["does"] = self._does[look.motion].deal()
        return template.format(**words)
