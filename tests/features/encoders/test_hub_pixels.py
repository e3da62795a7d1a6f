"""What encoders of transformers are shown of a frame, held against the library's own classes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnet.errors import ConfigError
from mrnet.features.registry import make_backbone

transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("mrnet.features.encoders.hub")
hub_pixels = pytest.importorskip("mrnet.features.encoders.hub_pixels")

Folder = Callable[[str], Path]


def noise(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("family", "processor", "height", "width", "size"),
    [
        ("clip", "CLIPImageProcessorPil", 40, 53, 40),
        ("clip", "CLIPImageProcessorPil", 71, 40, 40),
        ("videomae", "VideoMAEImageProcessorPil", 40, 53, 40),
        ("xclip", "VideoMAEImageProcessorPil", 47, 40, 40),
        ("siglip", "SiglipImageProcessorPil", 32, 32, (32, 32)),
        ("siglip2", "Siglip2ImageProcessorPil", 24, 40, hub_pixels.Patches(8, 16)),
    ],
)
def test_pixels_are_those_of_the_library(
    hub_model: Folder, family: str, processor: str, height: int, width: int, size: Any
) -> None:
    folder, frames = hub_model(family), noise(2, height, width)
    made = hub_pixels.Preprocessing.read(hub.ModelFolder("", folder))
    assert (made.size, made.interpolation) == (size, "bicubic" if family in ("clip", "siglip") else "bilinear")
    given = made.model_inputs(torch.from_numpy(np.stack([made.cropped(frame) for frame in frames])))
    expected = getattr(transformers, processor).from_pretrained(folder)(list(frames), return_tensors="pt")
    if family in ("videomae", "xclip"):  # a batch of one video
        expected = {"pixel_values": expected["pixel_values"][0]}
    if family == "siglip2":  # ours are not padded with patches that the mask hides
        assert expected["pixel_attention_mask"].sum(dim=1).tolist() == [15, 15]
        expected = {key: value[:, :15] for key, value in expected.items()}
    assert given.keys() == expected.keys()
    for key, value in given.items():
        np.testing.assert_allclose(value, expected[key], atol=1e-5)


def test_size_in_patches_is_that_of_the_library() -> None:
    from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

    for height, width in [(256, 256), (256, 455), (455, 256), (256, 342), (256, 1000), (257, 300)]:
        for edge, most in [(16, 256), (8, 16), (14, 729)]:
            expected = get_image_size_for_max_num_patches(height, width, edge, most)
            assert hub_pixels.Patches(edge, most).size(height, width) == expected


def test_settings_of_older_and_of_nested_files(tmp_path: Path) -> None:
    def read(name: str, tree: Any) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.json").write_text(json.dumps(tree))
        return hub_pixels.Preprocessing.read(hub.ModelFolder("m", folder))

    values = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3], "resample": 3}
    old = read("preprocessor_config", {**values, "size": 224, "crop_size": 200, "do_center_crop": True})
    assert old == hub_pixels.Preprocessing(224, (200, 200), "bicubic", 1 / 255, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    nested = read("processor_config", {"image_processor": {**values, "size": 224, "do_center_crop": False}})
    assert nested == hub_pixels.Preprocessing(
        (224, 224), None, "bicubic", 1 / 255, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"resample": 1}, "asks for resampling 1; 2 and 3 are done here"),
        (
            {"image_mean": None},
            "preprocessor_config.json lacks a setting, or has an unknown one ('NoneType' object is not iterable); "
            "name another model",
        ),
        (
            {"size": {"longest_edge": 40}},
            "preprocessor_config.json lacks a setting, or has an unknown one ('height'); name another model",
        ),
    ],
)
def test_settings_that_are_not_understood(
    hub_model: Folder, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(hub_model("clip"), folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError) as caught:
        make_backbone("video", f"hf:{folder}", device="cpu")
    assert str(caught.value) == f"{folder}: {says}"
    path.write_text("{")
    with pytest.raises(ConfigError) as caught:
        make_backbone("video", f"hf:{folder}", device="cpu")
    assert str(caught.value) == f"{path}: is not JSON; get the model again"
