"""Recordings to sentences by a tiny Whisper, against transformers' own way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.errors import AudioError, ConfigError, FeatureError
from mrnet.features.registry import make_recogniser
from mrnet.media.audio import SAMPLE_RATE, read_audio, write_audio
from mrnet.predictor import Predictor

transformers: Any = pytest.importorskip("transformers")


def recording(path: Path, seconds: float = 1.0) -> Path:
    samples = np.random.default_rng(0).normal(0, 0.2, round(seconds * SAMPLE_RATE)).astype(np.float32)
    write_audio(path, samples)
    return path


def test_hears_what_transformers_hears(hub_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = hub_model("whisper")
    sound = recording(tmp_path / "q.wav")
    heard = make_recogniser(f"hf:{folder}", "cpu")(sound)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    features = extractor(read_audio(sound), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    tokens = model.generate(features, max_new_tokens=128)
    words = transformers.AutoTokenizer.from_pretrained(folder).decode(tokens[0], skip_special_tokens=True)
    assert heard == " ".join(words.split()) != ""


def test_a_recording_longer_than_a_window(hub_model: Callable[[str], Path], tmp_path: Path) -> None:
    recognise = make_recogniser(f"hf:{hub_model('whisper')}", "cpu")
    short, long = recording(tmp_path / "s.wav"), recording(tmp_path / "l.wav", 31)
    assert len(recognise(long).split()) == 2 * len(recognise(short).split())


def test_a_spoken_query_is_answered_as_what_was_heard(
    hub_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mrnet.features.encoders.hub_recogniser.Recogniser.__call__", lambda *_: "a red circle rises"
    )
    predictor = Predictor.auto(device="cpu", recogniser=f"hf:{hub_model('whisper')}")
    video = predictor.encode_video(np.random.default_rng(0).normal(size=(20, 1280)).astype(np.float32))
    spoken = predictor.find(video, speech=recording(tmp_path / "q.wav"))
    written = predictor.find(video, "a red circle rises")
    assert spoken.note.startswith("heard: a red circle rises")
    assert (spoken.query, spoken.moments, spoken.best_guess) == (
        "a red circle rises",
        written.moments,
        written.best_guess,
    )


def test_refusals(hub_model: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='no speech recogniser is named "whisper"; use hf:MODEL'):
        make_recogniser("whisper")
    with pytest.raises(ConfigError, match="cannot be used as a speech encoder"):
        make_recogniser(f"hf:{hub_model('distilbert')}")
    silence = tmp_path / "silence.wav"
    write_audio(silence, np.zeros(SAMPLE_RATE, np.float32))
    with pytest.raises(AudioError, match="silen"):
        make_recogniser(f"hf:{hub_model('whisper')}", "cpu")(silence)
    predictor = Predictor.auto(device="cpu")
    video = predictor.encode_video(np.ones((4, 1280), np.float32))
    with pytest.raises(FeatureError, match="name a recogniser of speech, such as --recogniser hf:openai/whisper"):
        predictor.find(video, speech=silence)


def test_no_word_is_an_error(
    hub_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognise = make_recogniser(f"hf:{hub_model('whisper')}", "cpu")
    monkeypatch.setattr(type(recognise._tokenizer), "decode", lambda *_, **__: "  ")  # type: ignore[attr-defined]
    with pytest.raises(AudioError, match="recognises no word in it; speak the query, or write it"):
        recognise(recording(tmp_path / "q.wav"))
