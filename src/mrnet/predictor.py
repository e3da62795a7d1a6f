"""Ask a video when something happens."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrnet.config import Config
from mrnet.data.dataset import check_width
from mrnet.data.queries import place
from mrnet.data.sources import check_provenance
from mrnet.device import choose_device
from mrnet.errors import ConfigError, DataError, FeatureError, FeatureShapeError
from mrnet.features.backbone import Backbone, Modality, encode_sources
from mrnet.features.registry import extraction_command, make_backbone
from mrnet.features.store.pca import Pca
from mrnet.media.video import probe
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.retrieval.rank import fuse_scores, top_moments
from mrnet.temporal import resample
from mrnet.types import Moment, QueryKind
from mrnet.weights.native import PCA_FILE, build_model, load_checkpoint, resolve_checkpoint


@dataclass(frozen=True)
class EncodedVideo:
    """A video ready to be asked, made by :meth:`Predictor.encode_video`.

    Attributes:
        clips: ``(1, t, d)`` what the model keeps of it.
        duration_s: its length in seconds.
        proposals: the embeddings of its proposals, of a model whose clips no query touches.
    """

    clips: Tensor
    duration_s: float
    proposals: tuple[Tensor, Tensor] | None = None


class Predictor:
    """Finds moments in videos with a trained model.

    ::

        predictor = Predictor.load("mrnet-demo/run")
        video = predictor.encode_video("holiday.mp4")          # once
        for moment in predictor.find(video, "a dog jumps", k=5):  # many times
            print(moment.start_s, moment.end_s, moment.score)
        predictor.find(video, speech="question.wav")           # a model trained on spoken queries

    Every query is answered alone, whatever protocol the model was trained with.
    """

    def __init__(self, model: MRNet, config: Config, device: torch.device, pca: Pca | None = None) -> None:
        self.model = model.to(device).eval()
        self.config = config
        self.device = device
        self._pca = pca
        self._backbones: dict[Modality, Backbone] = {}

    @classmethod
    def load(
        cls,
        directory: str | Path,
        device: str | torch.device | None = None,
        *,
        memory_budget: int | None = None,
    ) -> Self:
        """Load a checkpoint folder, or the best epoch of a training run.

        Args:
            directory: made by ``mrnet train``, ``mrnet demo`` or ``mrnet convert``.
            device: where to run; the best one there is if left out.
            memory_budget: bytes that speed may cost, see :class:`mrnet.model.head.ProposalHead`.

        Raises:
            CheckpointError: nothing there, or damaged.
        """
        config, weights = load_checkpoint(Path(directory))
        model = build_model(config, weights, source=str(directory))
        model.proposal_head.memory_budget = memory_budget
        pca = resolve_checkpoint(Path(directory)) / PCA_FILE
        return cls(
            model,
            config,
            choose_device(None if device is None else str(device)),
            Pca.load(pca) if pca.is_file() else None,
        )

    @torch.inference_mode()
    def encode_video(
        self,
        video: str | Path | npt.NDArray[np.float32] | Tensor,
        duration_s: float | None = None,
        *,
        provenance: Provenance | None = None,
    ) -> EncodedVideo:
        """Encode a video once, to ask it many queries.

        Args:
            video: a video file, or its features ``(n, c)`` from the backbone that the model was trained on.
            duration_s: length in seconds; needed with features whose rate the checkpoint does not know.
            provenance: of the features, where their store says: those of another encoder are refused.

        Raises:
            VideoError: the file does not decode.
            FeatureShapeError: the features are of another encoder, width or shape than the model's.
            FeatureError: the model was trained on features that no registered backbone makes.
            DataError: the length is needed and not given, or not positive.
        """
        trained_on = self.config.video_provenance
        if isinstance(video, str | Path):
            path = Path(video)
            if duration_s is None:
                duration_s = probe(path).duration_s
            rows = torch.from_numpy(self._project(self._encode("video", path)))
            where = str(path)
        else:
            check_provenance(provenance, trained_on, "video", "encode_video")
            array = np.ascontiguousarray(video) if isinstance(video, np.ndarray) else video
            rows, where = torch.as_tensor(array, dtype=torch.float32, device="cpu"), "the given array"
            if rows.ndim != 2 or not len(rows):
                raise FeatureShapeError(f"{where} has shape {list(rows.shape)}: give (n, c), n at least 1")
        if rows.shape[1] != self.config.model.video_dim:
            label = (
                "" if trained_on is None else f" of {trained_on.label}{extraction_command('video', trained_on)}"
            )
            raise FeatureShapeError(
                f"{where} has features of width {rows.shape[1]}, the model was trained on width "
                f"{self.config.model.video_dim}{label}"
            )
        if not torch.isfinite(rows).all():
            raise FeatureError(f"{where} holds NaN or infinity: extract them again")
        if duration_s is None:
            rate = trained_on.rows_per_s if trained_on else None
            if rate is None:
                raise DataError("features do not say how long the video is: give duration_s")
            duration_s = len(rows) / rate
        if not 0 < duration_s < math.inf:
            raise DataError(f"duration_s is {duration_s}: give the video's length in seconds")
        resampled = resample(rows, self.config.model.num_pre_clips).to(self.device)
        clips = self.model.encode_video(resampled[None])
        shared = not self.config.model.video_depends_on_query
        return EncodedVideo(clips, duration_s, self.model.embed_proposals(clips) if shared else None)

    def find(
        self,
        video: EncodedVideo | str | Path,
        query: str | None = None,
        k: int = 5,
        *,
        speech: str | Path | None = None,
    ) -> list[Moment]:
        """The k best moments for a query, typed or spoken, best first.

        Args:
            video: from :meth:`encode_video`, or a video file to encode for this one query.
            query: a sentence.
            k: how many moments; fewer come back where the video holds no more.
            speech: in place of a sentence, a sound file of someone saying it.

        Raises:
            DataError: neither or both are given, the query is empty, or k is not positive.
            AudioError: the sound file does not decode, or is silent.
            FeatureError: the model was not trained on queries of this kind, or on features that no registered
                backbone makes.
            VideoError: as :meth:`encode_video`.
        """
        if (query is None) == (speech is None):
            raise DataError("give either a sentence or a sound file, and not both")
        kind: QueryKind = "typed" if speech is None else "spoken"
        kinds = self.config.data.query_kinds
        if kind not in kinds:
            raise FeatureError(
                f"the model was trained on {kinds[0]} queries and cannot be asked {kind} ones: use another "
                "checkpoint, or train one for both with --set data.query_kinds=[typed,spoken]"
            )
        rows = torch.from_numpy(
            self._encode("text", query) if query is not None else self._encode("speech", Path(str(speech)))
        )
        features = place(rows, kind, self.config.model.query_dim) if len(kinds) > 1 else rows
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
        scores = self.model.score(self.model.match(video.clips, queries, mask, "single", video.proposals))
        fused = fuse_scores(scores.iou, scores.contrastive, self.config.decode.score_power)
        duration = torch.tensor([video.duration_s], device=self.device)
        k = min(k, int(self.model.valid.sum()))
        moments, values = top_moments(fused, duration, k, self.config.decode.nms_threshold)
        rows = torch.cat([moments[0], values[0, :, None]], dim=1).tolist()
        return [Moment(*row) for row in rows if row[2] == row[2]]  # NaN marks ranks that are not there

    def _encode(self, kind: Modality, source: str | Path) -> npt.NDArray[np.float32]:
        """``(n, c)`` features of a source from the backbone that made those the model was trained on."""
        if kind not in self._backbones:
            self._backbones[kind] = self._make_backbone(kind)
        return encode_sources(self._backbones[kind], [source])[0]

    def _project(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The rows after the PCA that the training features went through, if they did."""
        projection = self.config.video_provenance.projection if self.config.video_provenance else None
        if projection is None:
            return rows
        if self._pca is None:
            raise FeatureError(
                f"the model was trained on features reduced from {projection.dim} by a PCA that its checkpoint does "
                f"not hold ({PCA_FILE}): give features, not a video file"
            )
        return self._pca.apply(rows)

    def _make_backbone(self, kind: Modality) -> Backbone:
        provenance = {
            "video": self.config.video_provenance,
            "text": self.config.query_provenance,
            "speech": self.config.speech_provenance,
        }[kind]
        if provenance is None:
            raise FeatureError(
                f"the checkpoint does not say which backbone made its {kind} features: give features, not raw input"
            )
        try:
            backbone = make_backbone(
                kind, provenance.backbone, rate=provenance.rows_per_s, device=str(self.device)
            )
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
