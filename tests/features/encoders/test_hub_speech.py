"""Speech and sound encoders of transformers: pooling by hand, windows, and batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.errors import AudioError, ConfigError
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone
from mrnet.media.audio import read_audio, write_audio

transformers = pytest.importorskip("transformers")
hub_speech = pytest.importorskip("mrnet.features.encoders.hub_speech")

Folder = Callable[[str], Path]
Make = Callable[..., np.ndarray]

FAMILIES = ["wav2vec2", "data2vec-audio", "unispeech-sat", "ast"]


def by_hand(folder: Path, sound: np.ndarray) -> np.ndarray:
    """LayerNorm without scale of the last hidden state, and its mean."""
    model = transformers.AutoModel.from_pretrained(folder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        heard = extractor(sound, sampling_rate=16_000, return_tensors="pt")["input_values"]
        hidden = model(heard).last_hidden_state[0].numpy()
    centered = hidden - hidden.mean(axis=1, keepdims=True)
    return np.asarray((centered / np.sqrt(hidden.var(axis=1, keepdims=True) + 1e-5)).mean(axis=0))


@pytest.mark.parametrize("family", FAMILIES)
def test_mean_over_all_tokens_of_the_normed_last_state(
    hub_model: Folder, tmp_path: Path, samples: Make, family: str
) -> None:
    path, folder = tmp_path / "a.wav", hub_model(family)
    write_audio(path, samples(0.6))
    backbone = make_backbone("speech", f"hf:{folder}", device="cpu")
    row = encode_sources(backbone, [path])[0]
    assert row.shape == (1, 16)
    assert row.dtype == np.float32
    np.testing.assert_allclose(row[0], by_hand(folder, read_audio(path)), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_do_not_depend_on_the_batch(hub_model: Folder, samples: Make, tmp_path: Path, family: str) -> None:
    backbone = make_backbone("speech", f"hf:{hub_model(family)}", device="cpu")
    paths = [tmp_path / f"{seed}.wav" for seed in range(3)]
    for seed, (path, seconds) in enumerate(zip(paths, (0.5, 0.3, 0.5), strict=True)):
        write_audio(path, samples(seconds, seed))
    inputs = [item for path in paths for item in backbone.prepare(path)]
    together = backbone.encode(inputs)
    alone = [backbone.encode([item])[0] for item in inputs]
    np.testing.assert_allclose(np.concatenate(together), np.concatenate(alone), atol=1e-5)


def test_long_recordings_are_averaged_over_windows(
    hub_model: Folder, tmp_path: Path, samples: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_speech, "_WINDOW_S", 1.0)
    path, folder = tmp_path / "a.wav", hub_model("wav2vec2")
    write_audio(path, samples(2.5))
    backbone = make_backbone("speech", f"hf:{folder}", device="cpu")
    sound = read_audio(path)
    parts = (sound[:16_000], sound[16_000:28_000], sound[28_000:])
    expected = np.mean([by_hand(folder, part) for part in parts], axis=0)
    np.testing.assert_allclose(encode_sources(backbone, [path])[0][0], expected, atol=1e-5)


def test_ast_hears_as_much_as_it_was_made_for(hub_model: Folder, tmp_path: Path, samples: Make) -> None:
    path, folder = tmp_path / "a.wav", hub_model("ast")
    write_audio(path, samples(1.2))
    backbone = make_backbone("speech", f"hf:{folder}", device="cpu")
    assert backbone.provenance().details == {
        "model_type": "audio-spectrogram-transformer",
        "heard": "the first 0.64 s",
    }
    # Its own extractor cuts the spectrogram of the whole.
    expected = by_hand(folder, read_audio(path))
    row = encode_sources(backbone, [path])[0][0]
    np.testing.assert_allclose(row, expected, atol=1e-6)
    assert np.abs(row - by_hand(folder, read_audio(path)[:9_600])).max() > 1e-4


def test_recordings_that_cannot_be_heard(hub_model: Folder, tmp_path: Path) -> None:
    backbone = make_backbone("speech", f"hf:{hub_model('wav2vec2')}", device="cpu")
    with pytest.raises(AudioError, match=r"no\.wav: no such file; check the path of the sound$"):
        encode_sources(backbone, [tmp_path / "no.wav"])


def test_models_for_other_rates(hub_model: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "music"
    transformers.AutoModel.from_pretrained(hub_model("wav2vec2")).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=24_000).save_pretrained(folder)
    with pytest.raises(ConfigError) as caught:
        make_backbone("speech", f"hf:{folder}")
    assert str(caught.value) == f"{folder}: hears sound at 24000 Hz; name a model for 16000 Hz"


def test_provenance(hub_model: Folder) -> None:
    folder = hub_model("wav2vec2")
    backbone = make_backbone("speech", f"hf:{folder}", device="cpu")
    provenance = backbone.provenance()
    assert (provenance.backbone, provenance.dim, provenance.rows_per_s) == (f"hf:{folder.name}", 16, None)
    assert provenance.details == {"model_type": "wav2vec2", "window": "30 s"}
    assert provenance.revision == backbone.revision
