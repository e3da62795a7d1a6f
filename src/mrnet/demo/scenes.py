"""Rendering of simulated videos: a colored object moves over a dull, drifting background."""

import colorsys
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mrnet.demo.sentences import Look

WIDTH = 192
HEIGHT = 144
FPS = 8

# Half the width of an object, in pixels, while its motion does not change it.
_RADIUS = 22.0
# Hue in degrees; every event departs from it a little.
_HUES = {"red": 0.0, "yellow": 56.0, "green": 120.0, "cyan": 180.0, "blue": 226.0, "purple": 284.0}
_NUM_DISTRACTORS = 3


@dataclass(frozen=True, slots=True)
class Event:
    """One object on screen from ``start`` to ``end``, in frames, ``end`` excluded."""

    look: Look
    start: int
    end: int


def render(events: tuple[Event, ...], num_frames: int, seed: int) -> Iterator[np.ndarray]:
    """The frames of a simulated video.

    Args:
        events: what to show and when; no two at the same time.
        num_frames: length of the video.
        seed: decides background, distractors, and how exactly each event looks and moves.

    Yields:
        (HEIGHT, WIDTH, 3) uint8 RGB arrays, the same ones for the same arguments.
    """
    rng = np.random.default_rng(seed)
    background = _Background(rng, num_frames)
    distractors = [_Distractor(rng) for _ in range(_NUM_DISTRACTORS)]
    flashes = _flash_frames(rng, num_frames)
    actors = [_Actor(event, rng) for event in events]
    for index in range(num_frames):
        frame = background.frame(index)
        for distractor in distractors:
            distractor.draw(frame, index)
        if index in flashes:
            _draw(frame, "circle", *flashes[index], color=np.full(3, 225.0))
        for actor in actors:
            if actor.event.start <= index < actor.event.end:
                actor.draw(frame, index)
        yield frame


class _Background:
    """A grey texture larger than the frame, seen through a window that wanders over it."""

    def __init__(self, rng: np.random.Generator, num_frames: int) -> None:
        self._margin_y, self._margin_x = 96, 160
        size = (HEIGHT + self._margin_y, WIDTH + self._margin_x)
        texture = sum(
            (amplitude * _smooth_noise(rng, size, cell) for cell, amplitude in ((48, 26.0), (16, 14.0), (5, 8.0))),
            np.zeros(size),
        )
        tint = rng.uniform(-7.0, 7.0, 3)
        level = rng.uniform(95.0, 135.0)
        self._canvas = np.clip(level + texture[..., None] + tint, 0, 255).astype(np.uint8)
        frames = np.arange(num_frames) / FPS
        phase = rng.uniform(0, 2 * math.pi, 3)
        # A few pixels a second, turning back within 10 to 30 seconds; no jump at any time.
        pace = 2 * math.pi / rng.uniform(20.0, 60.0, 2)
        self._x = np.rint((0.5 + 0.5 * np.sin(pace[0] * frames + phase[0])) * self._margin_x).astype(int)
        self._y = np.rint((0.5 + 0.5 * np.sin(pace[1] * frames + phase[1])) * self._margin_y).astype(int)
        gain = 1.0 + 0.18 * np.sin(2 * math.pi * frames / rng.uniform(8.0, 20.0) + phase[2])
        self._gain = np.rint(gain * 128).astype(np.uint16)

    def frame(self, index: int) -> np.ndarray:
        """A fresh (HEIGHT, WIDTH, 3) uint8 array of the window at a frame."""
        y, x = self._y[index], self._x[index]
        window = self._canvas[y : y + HEIGHT, x : x + WIDTH]
        bright = np.multiply(window, self._gain[index], dtype=np.uint16) >> 7
        return np.asarray(np.minimum(bright, 255), dtype=np.uint8)


class _Distractor:
    """A dull shape that drifts about all the time and turns back at the edges."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._shape = str(rng.choice(["circle", "square", "triangle", "diamond"]))
        self._radius = rng.uniform(8.0, 18.0)
        grey = rng.choice([rng.uniform(35.0, 75.0), rng.uniform(165.0, 205.0)])
        self._color = np.clip(grey + rng.uniform(-10.0, 10.0, 3), 0, 255)
        self._start = rng.uniform([0, 0], [WIDTH, HEIGHT])
        self._velocity = rng.uniform(-3.0, 3.0, 2)

    def draw(self, frame: np.ndarray, index: int) -> None:
        x, y = self._start + self._velocity * index
        _draw(frame, self._shape, _fold(x, WIDTH), _fold(y, HEIGHT), self._radius, self._color)


class _Actor:
    """Draws one event: the object at the place and of the size that its motion asks for."""

    def __init__(self, event: Event, rng: np.random.Generator) -> None:
        self.event = event
        hue = (_HUES[event.look.color] + rng.uniform(-7.0, 7.0)) / 360.0
        rgb = colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.78, 1.0), rng.uniform(0.72, 1.0))
        self._color = 255.0 * np.array(rgb)
        self._radius = _RADIUS * rng.uniform(0.85, 1.15)
        self._home = rng.uniform([50.0, 46.0], [WIDTH - 50.0, HEIGHT - 46.0])
        self._period = rng.uniform(0.9, 1.3)

    def draw(self, frame: np.ndarray, index: int) -> None:
        start, end = self.event.start, self.event.end
        progress = (index - start) / max(end - start - 1, 1)
        seconds = (index - start) / FPS
        (x, y), radius = self._home, self._radius
        reach_x, reach_y = WIDTH - 2 * radius, HEIGHT - 2 * radius
        match self.event.look.motion:
            case "slides-right":
                x = radius + progress * reach_x
            case "slides-left":
                x = WIDTH - radius - progress * reach_x
            case "rises":
                y = HEIGHT - radius - progress * reach_y
            case "falls":
                y = radius + progress * reach_y
            case "blinks":
                if seconds / self._period % 1.0 >= 0.5:
                    return
            case "grows":
                radius *= 0.4 + 1.5 * progress
            case "shrinks":
                radius *= 1.9 - 1.5 * progress
            case "bounces":
                ground = HEIGHT - radius - 6.0
                y = ground - (HEIGHT - 2 * radius - 30.0) * abs(math.sin(math.pi * seconds / self._period))
        _draw(frame, self.event.look.shape, x, y, radius, self._color)


def _draw(frame: np.ndarray, shape: str, x: float, y: float, radius: float, color: np.ndarray) -> None:
    """Paint a shape with soft edges into ``frame``, in place, touching only the patch around it."""
    reach = math.ceil(1.3 * radius) + 1
    top, bottom = max(int(y) - reach, 0), min(int(y) + reach + 1, HEIGHT)
    left, right = max(int(x) - reach, 0), min(int(x) + reach + 1, WIDTH)
    if top >= bottom or left >= right:
        return
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
    cover = np.clip(0.5 - _distance(shape, dx, dy, radius), 0.0, 1.0)[..., None]
    patch = frame[top:bottom, left:right]
    patch[...] = np.rint(patch + cover * (color.astype(np.float32) - patch)).astype(np.uint8)


def _distance(shape: str, dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to the outline in pixels, negative inside; areas are about equal."""
    match shape:
        case "circle":
            return np.asarray(np.hypot(dx, dy) - radius)
        case "square":
            return np.asarray(np.maximum(abs(dx), abs(dy)) - 0.89 * radius)
        case "diamond":
            return np.asarray((abs(dx) + abs(dy) - 1.25 * radius) / math.sqrt(2.0))
        case "triangle":
            # Equilateral, pointing up: the base and two slanted sides are equally far from the center.
            slanted = abs(dx) * (math.sqrt(3.0) / 2) - dy / 2
            return np.asarray(np.maximum(dy, slanted) - 0.72 * radius)
        case _:  # cross
            across = np.maximum(abs(dx) - 1.15 * radius, abs(dy) - 0.4 * radius)
            upright = np.maximum(abs(dx) - 0.4 * radius, abs(dy) - 1.15 * radius)
            return np.asarray(np.minimum(across, upright))


def _smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell: int) -> np.ndarray:
    """Noise of the given size in [-1, 1], varying smoothly over ``cell`` pixels."""
    rows, columns = (np.arange(length) / cell for length in size)
    grid = rng.uniform(-1.0, 1.0, (int(rows[-1]) + 2, int(columns[-1]) + 2))
    i, j = rows.astype(int), columns.astype(int)
    u, v = ((1 - np.cos(math.pi * (at % 1.0))) / 2 for at in (rows, columns))
    u = u[:, None]
    upper = grid[i][:, j] * (1 - v) + grid[i][:, j + 1] * v
    lower = grid[i + 1][:, j] * (1 - v) + grid[i + 1][:, j + 1] * v
    return np.asarray(upper * (1 - u) + lower * u)


def _flash_frames(rng: np.random.Generator, num_frames: int) -> dict[int, tuple[float, float, float]]:
    """Frame index -> (x, y, radius) of a bright spot; each lasts two or three frames."""
    flashes = {}
    for start in rng.integers(0, num_frames, num_frames // (5 * FPS)):
        spot = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(6.0, 20.0))
        for index in range(start, start + rng.integers(2, 4)):
            flashes[index] = spot
    return flashes


def _fold(position: float, length: int) -> float:
    """Reflect a coordinate back and forth into [0, length]."""
    position %= 2 * length
    return min(position, 2 * length - position)
