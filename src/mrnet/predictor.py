"""Ask a video when something happens."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrnet.checkpoint import build_model, load_checkpoint
from mrnet.config import Config
from mrnet.data.dataset import check_width
from mrnet.decode import fuse_scores, top_moments
from mrnet.errors import ConfigError, DataError, FeatureError, FeatureShapeError
from mrnet.features.backbones import Backbone, Kind, encode_sources, make_backbone
from mrnet.features.video import probe
from mrnet.model.mrnet import MRNet
from mrnet.temporal import resample
from mrnet.types import Moment, Provenance


@dataclass(frozen=True)
class EncodedVideo:
    """A video ready to be asked, made by :meth:`Predictor.encode_video`.

    Attributes:
        clips: ``(1, t, d)`` what the model keeps of it.
        duration_s: its length in seconds.
    """

    clips: Tensor
    duration_s: float


class Predictor:
    """Finds moments in videos with a trained model.

    ::

        predictor = Predictor.load("mrnet-demo/run")
        video = predictor.encode_video("holiday.mp4")          # once
        for moment in predictor.find(video, "a dog jumps", k=5):  # many times
            print(moment.start_s, moment.end_s, moment.score)

    Every query is answered alone, whatever protocol the model was trained with.
    """

    def __init__(self, model: MRNet, config: Config, device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.config = config
        self.device = device
        self._text: Backbone | None = None

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device | None = None) -> Self:
        """Load a checkpoint folder, or the best epoch of a training run.

        Args:
            directory: made by ``mrnet train``, ``mrnet demo`` or ``mrnet convert``.
            device: where to run; the best one there is if left out.

        Raises:
            CheckpointError: nothing there, or damaged.
        """
        config, weights = load_checkpoint(Path(directory))
        model = build_model(config, weights, source=str(directory))
        return cls(model, config, torch.device(device) if device is not None else best_device())

    @torch.inference_mode()
    def encode_video(
        self, video: str | Path | npt.NDArray[np.float32] | Tensor, duration_s: float | None = None
    ) -> EncodedVideo:
        """Encode a video once, to ask it many queries.

        Args:
            video: a video file, or its features ``(n, c)`` from the backbone that the model was trained on.
            duration_s: length in seconds; needed with features whose rate the checkpoint does not know.

        Raises:
            VideoError: the file does not decode.
            FeatureShapeError: the features are of another width or shape than the model's.
            FeatureError: the model was trained on features that no registered backbone makes.
            DataError: the length is needed and not given, or not positive.
        """
        if isinstance(video, str | Path):
            path = Path(video)
            if duration_s is None:
                duration_s = probe(path).duration_s
            backbone = self._backbone("video", self.config.video_provenance)
            rows = torch.from_numpy(encode_sources(backbone, [path])[0])
            where = str(path)
        else:
            array = np.ascontiguousarray(video) if isinstance(video, np.ndarray) else video
            rows, where = torch.as_tensor(array, dtype=torch.float32, device="cpu"), "the given array"
            if rows.ndim != 2 or not len(rows):
                raise FeatureShapeError(f"{where} has shape {list(rows.shape)}: give (n, c), n at least 1")
        check_width(rows, self.config.model.video_dim, where, "model.video_dim")
        if not torch.isfinite(rows).all():
            raise FeatureError(f"{where} holds NaN or infinity: extract them again")
        if duration_s is None:
            rate = self.config.video_provenance.rows_per_s if self.config.video_provenance else None
            if rate is None:
                raise DataError("features do not say how long the video is: give duration_s")
            duration_s = len(rows) / rate
        if not 0 < duration_s < math.inf:
            raise DataError(f"duration_s is {duration_s}: give the video's length in seconds")
        resampled = resample(rows, self.config.model.num_pre_clips).to(self.device)
        return EncodedVideo(self.model.encode_video(resampled[None]), duration_s)

    def find(self, video: EncodedVideo | str | Path, query: str, k: int = 5) -> list[Moment]:
        """The k best moments for a query, best first.

        Args:
            video: from :meth:`encode_video`, or a video file to encode for this one query.
            query: a sentence.
            k: how many moments; fewer come back where the video holds no more.

        Raises:
            DataError: the query is empty, or k is not positive.
            FeatureError: the model was trained on query features that no registered backbone makes.
            VideoError: as :meth:`encode_video`.
        """
        if self._text is None:
            self._text = self._backbone("text", self.config.query_provenance)
        features = torch.from_numpy(encode_sources(self._text, [query])[0])
        encoded = video if isinstance(video, EncodedVideo) else self.encode_video(video)
        return self.find_features(encoded, features, k)

    @torch.inference_mode()
    def find_features(self, video: EncodedVideo, query: Tensor, k: int = 5) -> list[Moment]:
        """:meth:`find` with ``(1, q)`` query features in place of a sentence."""
        if k < 1:
            raise DataError(f"k is {k}: ask for at least 1 moment")
        check_width(query, self.config.model.query_dim, "the query", "model.query_dim")
        queries = query.to(self.device)[None]
        mask = torch.ones(1, 1, dtype=torch.bool, device=self.device)
        scores = self.model.score(self.model.match(video.clips, queries, mask, "single"))
        fused = fuse_scores(scores.iou, scores.contrastive, self.config.decode.score_power)
        duration = torch.tensor([video.duration_s], device=self.device)
        k = min(k, int(self.model.valid.sum()))
        moments, values = top_moments(fused, duration, k, self.config.decode.nms_threshold)
        rows = torch.cat([moments[0], values[0, :, None]], dim=1).tolist()
        return [Moment(*row) for row in rows if row[2] == row[2]]  # NaN marks ranks that are not there

    def _backbone(self, kind: Kind, provenance: Provenance | None) -> Backbone:
        """The backbone that made the features the model was trained on."""
        if provenance is None:
            raise FeatureError(
                f"the checkpoint does not say which backbone made its {kind} features: give features, not raw input"
            )
        rate = provenance.rows_per_s
        try:
            backbone = make_backbone(kind, provenance.backbone, rate=rate, device=str(self.device))
        except ConfigError as error:
            raise FeatureError(
                f"the model was trained on {provenance.backbone!r} features, which cannot be made here ({error}): "
                "give features, not raw input"
            ) from None
        made = backbone.provenance()
        if made.revision != provenance.revision:
            raise FeatureError(
                f"the model was trained on {provenance.label} features, this version makes {made.label}: "
                "train again, or give features of that revision"
            )
        return backbone


def best_device() -> torch.device:
    """CUDA where there is one, then MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
