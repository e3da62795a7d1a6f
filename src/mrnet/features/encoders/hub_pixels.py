"""What image and video encoders of the `transformers` library are shown of a frame.

The library's own classes for this need torchvision, and scale frames one by one; here they come out of the
decoder in their final size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from mrnet.documents import parse_json
from mrnet.errors import ConfigError
from mrnet.features.encoders.hub import ModelFolder
from mrnet.media.video import sample_frames

Pixels = npt.NDArray[np.uint8]

_SETTINGS, _NESTED_SETTINGS = "preprocessor_config.json", "processor_config.json"
_INTERPOLATIONS: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
# Shorter edge, in pixels, of the frame that only tells the aspect of a video.
_ASPECT_EDGE = 256


class Patches(NamedTuple):
    """Frames in their own aspect, cut up: an edge of patches in pixels, and the most that the network takes."""

    edge: int
    most: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The largest size of this aspect, in whole patches, that is not too many of them."""
        # The number of patches changes only at scales where an edge is a whole number of them.
        scales = {Fraction(count, edge) for edge in (height, width) for count in range(1, self.most + 1)}
        grids = ((math.ceil(height * s), math.ceil(width * s)) for s in sorted(scales, reverse=True))
        rows, columns = next((rows, columns) for rows, columns in grids if rows * columns <= self.most)
        return rows * self.edge, columns * self.edge


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What is done to a frame before the network sees it, as the model's makers did.

    Attributes:
        size: height and width after scaling; the shorter edge alone; or patches, for SigLIP 2 of variable
            resolution.
        crop: height and width cut out of the middle, if any.
        interpolation: of the scaling.
        scale: what pixels, 0 to 255, are multiplied by.
        mean: of each channel, subtracted after that.
        std: of each channel, divided by after that.
    """

    size: tuple[int, int] | int | Patches
    crop: tuple[int, int] | None
    interpolation: Literal["bilinear", "bicubic"]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: ModelFolder) -> Self:
        """Read the settings that a model comes with.

        Raises:
            ConfigError: there are none, as for a model of text or speech, or they ask for what is not done here.
        """
        settings = _read_settings(folder)
        resample = settings.get("resample", 2)
        if resample not in _INTERPOLATIONS:
            raise ConfigError(f"{folder.name}: asks for resampling {resample}; 2 and 3 are done here")
        try:
            crop = _both(settings["crop_size"]) if settings.get("do_center_crop") else None
            normalised = settings.get("do_normalize", True)
            return cls(
                size=_size(settings, crop is not None),
                crop=crop,
                interpolation=_INTERPOLATIONS[resample],
                scale=settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0,
                mean=tuple(settings["image_mean"]) if normalised else (0.0, 0.0, 0.0),
                std=tuple(settings["image_std"]) if normalised else (1.0, 1.0, 1.0),
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"{folder.name}: {_SETTINGS} lacks a setting, or has an unknown one ({error}); name another model"
            ) from None

    def frames(self, path: str | Path, rate: float) -> Iterator[Pixels]:
        """``(height, width, 3)`` frames of a video at a rate, scaled and cropped.

        Raises:
            VideoError: the file is missing or will not decode.
        """
        size = self.size
        if isinstance(size, Patches):
            height, width, _ = next(sample_frames(path, rate, _ASPECT_EDGE))[1].shape
            size = size.size(height, width)
        for _, frame in sample_frames(path, rate, size, interpolation=self.interpolation):
            yield self.cropped(frame)

    def blank(self) -> Pixels:
        """A black frame of a size that the network takes."""
        size = self.size.size(1, 1) if isinstance(self.size, Patches) else _both(self.size)
        return self.cropped(np.zeros((*size, 3), np.uint8))

    def cropped(self, frame: Pixels) -> Pixels:
        """The middle of a frame."""
        if self.crop is None:
            return frame
        top, left = ((have - keep) // 2 for have, keep in zip(frame.shape, self.crop, strict=False))
        return frame[top : top + self.crop[0], left : left + self.crop[1]]

    def model_inputs(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the network takes for a batch of frames, ``(…, height, width, 3)`` uint8, by argument."""
        mean, std = (torch.tensor(values, device=frames.device) for values in (self.mean, self.std))
        pixels = (frames.float() * self.scale - mean) / std
        if not isinstance(self.size, Patches):
            return {"pixel_values": pixels.movedim(-1, -3)}
        edge = self.size.edge
        b, rows, columns = pixels.shape[0], pixels.shape[1] // edge, pixels.shape[2] // edge
        patches = pixels.reshape(b, rows, edge, columns, edge, -1).transpose(2, 3).reshape(b, rows * columns, -1)
        return {
            "pixel_values": patches,
            "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.int32, device=frames.device),
            "spatial_shapes": torch.tensor([[rows, columns]] * b, device=frames.device),
        }


def _read_settings(folder: ModelFolder) -> dict[str, Any]:
    """What a model says of its preprocessing, in a file of its own or in that of a processor."""
    try:
        if (path := folder.path / _SETTINGS).is_file():
            found = parse_json(path.read_bytes())
        elif (path := folder.path / _NESTED_SETTINGS).is_file():
            found = parse_json(path.read_bytes()).get("image_processor", {})
        else:
            found = {}
        known = {"size", "max_num_patches"} & found.keys()
    except (ValueError, AttributeError):
        raise ConfigError(f"{path}: is not JSON; get the model again") from None
    if not known:
        raise ConfigError(f"{folder.name}: has no {_SETTINGS} for images; name a model of images or videos")
    settings: dict[str, Any] = found
    return settings


def _size(settings: dict[str, Any], cropped: bool) -> tuple[int, int] | int | Patches:
    if "max_num_patches" in settings:
        return Patches(settings["patch_size"], settings["max_num_patches"])
    size = settings["size"]
    if isinstance(size, dict) and size.get("shortest_edge") is not None:
        return int(size["shortest_edge"])
    # Older settings give one number: the shorter edge where a crop follows, else both.
    return size if isinstance(size, int) and cropped else _both(size)


def _both(size: Any) -> tuple[int, int]:
    """Height and width, of settings that give one number or both."""
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    return (size, size) if isinstance(size, int) else size
