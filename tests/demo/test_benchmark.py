"""The simulated benchmark: what is held out, what is covered, and that it is reproducible."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mrnet.demo.benchmark import VideoPlan, plan_benchmark, render_benchmark
from mrnet.demo.scenes import FPS, HEIGHT, WIDTH, Event, render
from mrnet.demo.sentences import (
    COLOR_WORDS,
    COLORS,
    MOTION_WORDS,
    MOTIONS,
    SHAPE_WORDS,
    SHAPES,
    TEST_TEMPLATES,
    TRAIN_TEMPLATES,
    VAL_TEMPLATES,
    Look,
)
from mrnet.demo.voices import TEST_VOICES, TRAIN_VOICES, can_speak
from mrnet.errors import OutputError
from mrnet.media.audio import read_audio
from mrnet.media.video import probe

ALL_LOOKS = [Look(c, s, m) for c in COLORS for s in SHAPES for m in MOTIONS]


@pytest.fixture(scope="module")
def plans() -> dict[str, list[VideoPlan]]:
    return plan_benchmark(7, train=120, val=20, test=30)


def looks(plans: list[VideoPlan]) -> set[Look]:
    return {event.look for plan in plans for event in plan.events}


def sentences(plans: list[VideoPlan]) -> list[str]:
    return [sentence for plan in plans for group in plan.sentences for sentence in group]


def written_by(template: str, sentence: str) -> bool:
    motions = [forms for options in MOTION_WORDS.values() for forms in options]
    slots = {
        "color": [word for options in COLOR_WORDS.values() for word in options],
        "shape": [word for options in SHAPE_WORDS.values() for word in options],
        "does": [does for does, _ in motions],
        "doing": [doing for _, doing in motions],
    }
    pattern = re.escape(template)
    for slot, words in slots.items():
        pattern = pattern.replace(rf"\{{{slot}\}}", f"(?:{'|'.join(words)})")
    return re.fullmatch(pattern, sentence) is not None


def test_one_shape_is_held_out_for_each_color_and_motion() -> None:
    for color in COLORS:
        for motion in MOTIONS:
            assert sum(Look(color, shape, motion).held_out for shape in SHAPES) == 1
    # By hand: red 0 + 2 * circle 0 + 3 * slides-right 0 = 0; yellow 1 + 2 * square 1 + 3 * 0 = 3.
    assert Look("red", "circle", "slides-right").held_out
    assert not Look("yellow", "square", "slides-right").held_out


def test_test_combinations_are_never_trained(plans: dict[str, list[VideoPlan]]) -> None:
    assert all(look.held_out for look in looks(plans["test"]))
    assert not any(look.held_out for look in looks(plans["train"]) | looks(plans["val"]))


def test_test_templates_are_never_trained(plans: dict[str, list[VideoPlan]]) -> None:
    for split, own, other in (
        ("train", TRAIN_TEMPLATES, [*VAL_TEMPLATES, *TEST_TEMPLATES]),
        ("val", VAL_TEMPLATES, [*TRAIN_TEMPLATES, *TEST_TEMPLATES]),
        ("test", TEST_TEMPLATES, [*TRAIN_TEMPLATES, *VAL_TEMPLATES]),
    ):
        for sentence in sentences(plans[split]):
            assert any(written_by(template, sentence) for template in own), sentence
            assert not any(written_by(template, sentence) for template in other), sentence


def test_every_single_value_and_word_is_trained() -> None:
    train = plan_benchmark(3, train=40, val=0, test=0)["train"]
    seen = looks(train)
    assert {look.color for look in seen} == set(COLORS)
    assert {look.shape for look in seen} == set(SHAPES)
    assert {look.motion for look in seen} == set(MOTIONS)
    text = "\n".join(sentences(train))
    words = [word for table in (COLOR_WORDS, SHAPE_WORDS) for options in table.values() for word in options]
    words += [form for options in MOTION_WORDS.values() for forms in options for form in forms]
    assert [word for word in words if not re.search(rf"\b{word}\b", text)] == []


def test_events_of_a_video(plans: dict[str, list[VideoPlan]]) -> None:
    for plan in (plan for split in plans.values() for plan in split):
        assert 18 * FPS <= plan.num_frames <= 36 * FPS
        assert 3 <= len(plan.events) <= 5
        assert len({event.look for event in plan.events}) == len(plan.events)
        ends = [0, *(event.end for event in plan.events)]
        for before, event in zip(ends, plan.events, strict=False):
            assert before <= event.start < event.end <= plan.num_frames
            assert round(2.5 * FPS) <= event.end - event.start <= 9 * FPS
        # A color shared under two motions, and a motion shared by two colors.
        shown = [event.look for event in plan.events]
        pairs = [(a, b) for i, a in enumerate(shown) for b in shown[i + 1 :]]
        assert any(a.color == b.color and a.motion != b.motion for a, b in pairs)
        assert any(a.motion == b.motion and a.color != b.color for a, b in pairs)
        assert all(1 <= len(group) <= 3 for group in plan.sentences)


def test_a_constant_guess_is_poor(plans: dict[str, list[VideoPlan]]) -> None:
    spans = np.array(
        [
            (event.start / plan.num_frames, event.end / plan.num_frames)
            for plan in plans["train"] + plans["test"]
            for event in plan.events
        ]
    )
    grid = np.linspace(0, 1, 21)
    best = 0.0
    for start in grid:
        for end in grid[grid > start]:
            shared = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)
            union = np.maximum(spans[:, 1], end) - np.minimum(spans[:, 0], start)
            best = max(best, float((shared / union >= 0.5).mean()))
    assert best < 0.25


def test_plans_follow_from_the_seed(plans: dict[str, list[VideoPlan]]) -> None:
    assert plan_benchmark(7, train=120, val=20, test=30) == plans
    assert plan_benchmark(8, train=120, val=20, test=30)["train"] != plans["train"]
    # A split does not depend on the size of another.
    assert plan_benchmark(7, train=1, val=0, test=2)["test"] == plans["test"][:2]


def test_frames_follow_from_the_seed() -> None:
    events = (Event(Look("red", "circle", "rises"), 2, 10),)
    one, same, other = (np.stack(list(render(events, 12, seed))) for seed in (1, 1, 2))
    assert one.shape == (12, HEIGHT, WIDTH, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def red(frames: np.ndarray) -> np.ndarray:
    """Whether each pixel is clearly red."""
    pixels = frames.astype(int)
    return pixels[..., 0] - pixels[..., 1:].max(axis=-1) > 90


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_show_during_their_event_only(shape: str) -> None:
    frames = np.stack(list(render((Event(Look("red", shape, "grows"), 8, 40),), 48, 5)))
    area = red(frames).sum(axis=(1, 2))
    assert (area[:8] == 0).all()
    assert (area[40:] == 0).all()
    assert (area[8:40] > 100).all()
    assert area[39] > 4 * area[8]


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [("slides-right", 1, 1), ("slides-left", 1, -1), ("falls", 0, 1), ("rises", 0, -1)],
)
def test_straight_motions(motion: str, axis: int, sign: int) -> None:
    frames = np.stack(list(render((Event(Look("red", "square", motion), 0, 32),), 32, 5)))
    places = np.array([np.mean(np.nonzero(mask), axis=1) for mask in red(frames)])
    assert (np.diff(sign * places[:, axis]) > 0).all()
    assert abs(np.diff(places[:, 1 - axis])).max() < 0.5


def test_blinking_and_bouncing() -> None:
    blinking = np.stack(list(render((Event(Look("red", "circle", "blinks"), 0, 48),), 48, 5)))
    on = red(blinking).any(axis=(1, 2))
    assert 6 <= np.count_nonzero(np.diff(on.astype(int))) <= 14
    bouncing = np.stack(list(render((Event(Look("red", "circle", "bounces"), 0, 48),), 48, 5)))
    heights = np.array([np.nonzero(mask)[0].mean() for mask in red(bouncing)])
    assert np.ptp(heights) > 40
    assert np.count_nonzero(np.diff(np.sign(np.diff(heights)))) >= 6


def test_written_files(tmp_path: Path) -> None:
    render_benchmark(tmp_path / "one", 7, train=2, val=1, test=1, workers=2)
    render_benchmark(tmp_path / "two", 7, train=2, val=1, test=1, workers=1)
    names = sorted(str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*.*"))
    assert names == [
        "test.json",
        "train.json",
        "val.json",
        "videos/test_0000.mp4",
        "videos/train_0000.mp4",
        "videos/train_0001.mp4",
        "videos/val_0000.mp4",
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]

    plan = plan_benchmark(7, train=2, val=1, test=1)["test"][0]
    record = json.loads((tmp_path / "one" / "test.json").read_text())["test_0000"]
    assert sorted(record) == ["duration", "sentences", "timestamps"]
    assert record["duration"] == plan.num_frames / 8
    assert len(record["sentences"]) == len(record["timestamps"])
    assert record["timestamps"][0] == [plan.events[0].start / 8, plan.events[0].end / 8]
    assert record["sentences"][0] == plan.sentences[0][0]
    info = probe(tmp_path / "one" / "videos" / "test_0000.mp4")
    assert (info.width, info.height, info.fps, info.num_frames) == (192, 144, 8.0, plan.num_frames)
    assert info.duration_s == record["duration"]


def test_an_occupied_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        render_benchmark(tmp_path, 0, train=1, val=0, test=0)
    assert str(caught.value) == f"{tmp_path} already exists and is not empty: choose another place or remove it"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(not can_speak(), reason="the extra `demo` is not installed")
def test_every_sentence_is_said_in_a_voice_of_its_split(tmp_path: Path) -> None:
    render_benchmark(tmp_path / "b", 7, train=1, val=0, test=1, workers=1, speech=True)
    for split, voices in {"train": TRAIN_VOICES, "test": TEST_VOICES}.items():
        (plan,) = plan_benchmark(7, train=1, val=0, test=1)[split]
        record = json.loads((tmp_path / "b" / f"{split}.json").read_text())[plan.video_id]
        assert record["audios"] == [f"{split}_0000_{i}.wav" for i in range(len(record["sentences"]))]
        for name in record["audios"]:
            assert read_audio(tmp_path / "b" / "speech" / name).size > 16_000  # more than a second
        assert {manner.voice for manner in plan.manners} <= set(voices)
        assert [sentence for _, sentence, _ in plan.sounds()] == record["sentences"]
