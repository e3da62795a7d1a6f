"""Simulated speech."""

import random

import numpy as np
import pytest

from mrnet.demo.voices import TEST_VOICES, TRAIN_VOICES, VAL_VOICES, Manner, can_speak, speak
from mrnet.errors import ConfigError

speaking = pytest.mark.skipif(not can_speak(), reason="the extra `demo` is not installed")


def test_every_split_has_voices_of_its_own() -> None:
    voices = [*TRAIN_VOICES, *VAL_VOICES, *TEST_VOICES]
    assert len(set(voices)) == len(voices)
    variants = [{voice.partition("+")[2] for voice in split} for split in (TRAIN_VOICES, VAL_VOICES, TEST_VOICES)]
    assert not variants[0] & variants[2]
    assert not variants[1] & variants[2]


def test_manners_are_drawn_from_a_seed() -> None:
    one, other = (Manner.draw("en-us+m1", random.Random(seed)) for seed in (1, 2))
    assert one == Manner.draw("en-us+m1", random.Random(1)) != other
    assert 150 <= one.words_per_min <= 190
    assert 15 <= one.snr_db <= 30


@speaking
@pytest.mark.parametrize("voice", [*TRAIN_VOICES, *VAL_VOICES, *TEST_VOICES])
def test_every_voice_speaks(voice: str) -> None:
    samples = speak("a red circle rises", Manner(voice, 170, 50, 30.0, seed=0))
    assert samples.dtype == np.float32
    assert 0.7 < len(samples) / 16_000 < 2.5  # seconds for four words
    assert 0.1 < abs(samples).max() <= 1


@speaking
def test_noise_is_as_loud_as_asked() -> None:
    loud, quiet = (speak("a red circle rises", Manner("en-us+adam", 170, 50, snr, seed=0)) for snr in (0.0, 60.0))
    ratio = np.mean((loud - quiet) ** 2) / np.mean(quiet**2)  # this voice repeats itself to the bit
    assert ratio == pytest.approx(1.0, rel=0.05)


@speaking
def test_speed_changes_the_length() -> None:
    fast, slow = (
        len(speak("a red circle rises", Manner("en-us+adam", speed, 50, 30.0, 0))) for speed in (190, 150)
    )
    assert fast < 0.9 * slow


@speaking
def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^espeak-ng has no voice 'xx\+none': install a newer espeakng-loader$"):
        speak("a dog", Manner("xx+none", 170, 50, 30.0, 0))
