"""Image and video encoders of transformers: what they are shown, and what is made of their output."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnet.errors import VideoError
from mrnet.features.backbone import Backbone, encode_sources
from mrnet.features.registry import make_backbone
from mrnet.media.video import write_video

transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("mrnet.features.encoders.hub")
hub_pixels = pytest.importorskip("mrnet.features.encoders.hub_pixels")

Folder = Callable[[str], Path]

FAMILIES = ["clip", "siglip", "siglip2", "dinov3", "vit-classifier", "videomae", "xclip"]


def noise(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def make(folder: Path, rate: float | None = None) -> Backbone:
    return make_backbone("video", f"hf:{folder}", rate=rate, device="cpu")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], list[Any]]:
    """Have decoding give these frames; the list of what it was asked for."""

    def give(frames: np.ndarray) -> list[Any]:
        asked: list[Any] = []

        def sample_frames(_: Path, rate: float, size: Any, interpolation: str = "area") -> Iterator[Any]:
            asked.append((rate, size, interpolation))
            yield from ((k / rate, frame) for k, frame in enumerate(frames))

        monkeypatch.setattr(hub_pixels, "sample_frames", sample_frames)
        return asked

    return give


def test_image_models_give_a_row_a_frame(hub_model: Folder, decoded: Callable[..., list[Any]]) -> None:
    asked = decoded(noise(5, 40, 53))
    backbone = make(hub_model("clip"))
    rows = encode_sources(backbone, ["a.mp4"])[0]
    assert rows.shape == (5, 12)
    assert rows.dtype == np.float32
    assert asked == [(2.0, 40, "bicubic")]
    provenance = backbone.provenance()
    assert (provenance.rows_per_s, provenance.frame_rate, provenance.frames_per_row) == (2.0, 2.0, 1)
    assert make(hub_model("clip"), rate=0.5).provenance().frame_rate == 0.5


def test_video_models_give_a_row_for_some_frames(hub_model: Folder, decoded: Callable[..., list[Any]]) -> None:
    frames = noise(6, 40, 40)
    asked = decoded(frames)
    backbone = make(hub_model("videomae"))
    first, last = backbone.prepare("a.mp4")
    assert asked == [(4.0, 40, "bilinear")]
    np.testing.assert_array_equal(first, frames[:4, 4:36, 4:36])
    # The last frame is repeated to fill the row.
    np.testing.assert_array_equal(last, frames[[4, 5, 5, 5], 4:36, 4:36])
    assert encode_sources(backbone, ["a.mp4"])[0].shape == (2, 16)
    provenance = backbone.provenance()
    assert (provenance.rows_per_s, provenance.frame_rate, provenance.frames_per_row) == (1.0, 4.0, 4)
    assert make(hub_model("videomae"), rate=2.0).provenance().frame_rate == 8.0


def test_variable_resolution_keeps_the_aspect(hub_model: Folder, decoded: Callable[..., list[Any]]) -> None:
    asked = decoded(noise(1, 24, 40))
    backbone = make(hub_model("siglip2"))
    rows = encode_sources(backbone, ["a.mp4"])[0]
    assert rows.shape == (1, 16)
    assert asked == [(2.0, 256, "area"), (2.0, (24, 40), "bilinear")]


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_by_hand(hub_model: Folder, decoded: Callable[..., list[Any]], family: str) -> None:
    folder = hub_model(family)
    frames = noise(4, 32, 32)
    decoded(frames)
    backbone = make(folder)
    rows = encode_sources(backbone, ["a.mp4"])[0]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    given = hub_pixels.Preprocessing.read(hub.ModelFolder("", folder)).model_inputs(torch.from_numpy(frames))
    with torch.no_grad():
        if family == "clip":
            expected = model.vision_model(**given).pooler_output @ model.visual_projection.weight.T
        elif family in ("siglip", "siglip2"):
            expected = model.vision_model(**given).pooler_output
        elif family in ("dinov3", "vit-classifier"):
            expected = model(**given).last_hidden_state[:, 0]
        else:
            given["pixel_values"] = given["pixel_values"][None]
            if family == "videomae":
                expected = model(**given).last_hidden_state.mean(dim=1)
            else:
                expected = model.get_video_features(**given).pooler_output
    assert rows.shape == expected.shape
    assert rows.shape[1] == backbone.dim == (12 if family in ("clip", "xclip") else 16)
    np.testing.assert_allclose(rows, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_do_not_depend_on_the_batch(
    hub_model: Folder, decoded: Callable[..., list[Any]], family: str
) -> None:
    decoded(noise(12, 32, 32))
    backbone = make(hub_model(family))
    inputs = list(backbone.prepare("a.mp4"))
    together = np.concatenate(backbone.encode(inputs))
    alone = np.concatenate([backbone.encode([item])[0] for item in inputs])
    assert len(alone) == (3 if family in ("videomae", "xclip") else 12)
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(("family", "count"), [("clip", 5), ("siglip2", 5), ("xclip", 3)])
def test_a_video_file(hub_model: Folder, tmp_path: Path, family: str, count: int) -> None:
    """2.5 s of red, then of blue."""
    path = tmp_path / "a.mp4"
    frames = np.zeros((20, 48, 64, 3), np.uint8)
    frames[:8, ..., 0] = frames[8:, ..., 2] = 255
    write_video(path, list(frames), 8)
    rows = encode_sources(make(hub_model(family)), [path])[0]
    assert rows.shape[0] == count
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows[-2], rows[-1], atol=0.02)
    assert abs(rows[0] - rows[-1]).max() > 0.1


def test_a_file_that_is_no_video(hub_model: Folder, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"no\.mp4: no such file"):
        encode_sources(make(hub_model("siglip2")), [tmp_path / "no.mp4"])


def test_other_preprocessing_is_another_revision(hub_model: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(hub_model("clip"), folder)
    assert make(folder).revision == make(hub_model("clip")).revision
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": 2}))
    assert make(folder).revision != make(hub_model("clip")).revision
