"""Videos by way of the image and video encoders of the `transformers` library."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch

from mrnet.device import choose_device
from mrnet.features.backbone import Modality, Rows
from mrnet.features.encoders.hub import LIBRARIES, find_model, load_network, loading
from mrnet.features.encoders.hub_pixels import Pixels, Preprocessing
from mrnet.features.encoders.networks import encode_alike, weights_revision
from mrnet.provenance import Provenance, portable_name

_IMAGE_ROWS_PER_S, _CLIP_ROWS_PER_S = 2.0, 1.0


class HubVideo:
    """Rows of CLIP, SigLIP, DINO, VideoMAE, X-CLIP, ….

    Image models give a row a frame: the pooled, projected image vector where there is one (CLIP, SigLIP), else
    the pooled output (of DINO, the class token), else the first token. Video models give a row for as many
    consecutive frames as they were made for, spread evenly over the row's stretch of time, the last frame being
    repeated to fill the last row: X-CLIP its video vector, others (VideoMAE) the mean of the last hidden state
    over all tokens, as it is. Frames are scaled, cropped and normalised as the model's settings say.
    """

    kind: Modality = "video"

    def __init__(self, model: str, rate: float | None = None, device: str | None = None) -> None:
        """Load a model: a folder, or a hub id with or without ``@REVISION``.

        Args:
            model: its name.
            rate: rows a second, above 0; by default 2 for image models, 1 for video models.
            device: where it runs; the best there is if left out.

        Raises:
            ConfigError: it cannot be found or loaded, or encodes neither images nor videos.
        """
        self._device = choose_device(device)
        folder = find_model(model)
        self._preprocessing = Preprocessing.read(folder)
        self._network = load_network(folder, self._device, self.kind)
        config = self._network.config
        clip_frames: int | None = getattr(getattr(config, "vision_config", config), "num_frames", None)
        self._is_image_model = clip_frames is None
        self._frames_per_row = clip_frames or 1
        self.rate: float = rate or (_IMAGE_ROWS_PER_S if self._is_image_model else _CLIP_ROWS_PER_S)
        self.batch_size = 32 if self._is_image_model else 4
        with loading(folder, self.kind):
            blank = self._preprocessing.blank()
            blank = blank if self._is_image_model else np.stack([blank] * self._frames_per_row)
            self.dim = self.encode([blank])[0].shape[1]
        self.name = portable_name(f"hf:{folder.name}")
        self.revision = weights_revision(folder.weights(), f"transformers video 1 {astuple(self._preprocessing)}")
        self._details = {"model_type": config.model_type, **folder.details}

    def prepare(self, source: str | Path) -> Iterator[Pixels]:
        """``(height, width, 3)`` uint8 frames, or ``(frames, height, width, 3)`` for a video model.

        Raises:
            VideoError: the file is missing or will not decode.
        """
        frames = self._preprocessing.frames(source, self.rate * self._frames_per_row)
        if self._is_image_model:
            yield from frames
            return
        while chunk := list(islice(frames, self._frames_per_row)):
            yield np.stack(chunk + chunk[-1:] * (self._frames_per_row - len(chunk)))

    def encode(self, inputs: Sequence[Pixels]) -> list[Rows]:
        """A ``(1, dim)`` float32 row for each input."""
        return encode_alike(inputs, self._forward, self._device)

    def provenance(self) -> Provenance:
        """How these rows are made."""
        return Provenance(
            backbone=self.name,
            dim=self.dim,
            rows_per_s=self.rate,
            revision=self.revision,
            frame_rate=self.rate * self._frames_per_row,
            frames_per_row=self._frames_per_row,
            normalisation="pixels as the model's settings say",
            libraries={"av": av.__version__, **LIBRARIES},
            details=self._details,
        )

    def _forward(self, frames: torch.Tensor) -> torch.Tensor:
        network, given = self._network, self._preprocessing.model_inputs(frames)
        pooled: torch.Tensor
        if hasattr(network, "get_video_features"):
            pooled = network.get_video_features(**given).pooler_output
        elif hasattr(network, "get_image_features"):
            pooled = network.get_image_features(**given).pooler_output
        else:
            output = network(**given)
            if not self._is_image_model:
                pooled = output.last_hidden_state.mean(dim=1)
            elif output.pooler_output is not None:
                pooled = output.pooler_output
            else:
                pooled = output.last_hidden_state[:, 0]
        return pooled.flatten(1)
