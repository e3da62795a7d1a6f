"""Ask a video when something happens."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrnet.config import ModelSpec
from mrnet.data.queries import fill_columns
from mrnet.data.sources import check_provenance
from mrnet.device import choose_device
from mrnet.errors import ConfigError, DataError, FeatureError, FeatureShapeError
from mrnet.features.backbone import Backbone, encode_sources
from mrnet.features.registry import extraction_command, make_backbone
from mrnet.features.store.pca import Pca
from mrnet.media.video import probe
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.retrieval.rank import rank
from mrnet.retrieval.trained import EncodedVideo, TrainedScorer
from mrnet.temporal import check_width
from mrnet.types import Modality, Moment, QueryKind
from mrnet.weights.native import PCA_FILE, load_checkpoint


class Predictor:
    """Finds moments in videos with a trained model.

    ::

        predictor = Predictor.load("mrnet-demo/run")
        video = predictor.encode_video("holiday.mp4")          # once
        for moment in predictor.find(video, "a dog jumps", k=5):  # many times
            print(moment.start_s, moment.end_s, moment.score)
        predictor.find(video, speech="question.wav")           # a model that hears

    Every query is answered alone, whatever protocol the model was trained with.
    """

    def __init__(
        self, model: MRNet, spec: ModelSpec, *, pca: Pca | None = None, trusted: Collection[str] | None = None
    ) -> None:
        """Use :meth:`load` for a checkpoint on disk.

        Args:
            model: on its device.
            spec: of the model.
            pca: that the video features it was trained on went through, if any.
            trusted: encoders that may be loaded, as of :func:`mrnet.features.registry.make_backbone`.
        """
        self.scorer = TrainedScorer(model, spec.decode.score_power)
        self.spec = spec
        self._pca = pca
        self._trusted = trusted
        self._backbones: dict[Modality, Backbone] = {}

    @classmethod
    def load(
        cls,
        directory: str | Path,
        device: str | torch.device | None = None,
        *,
        trusted: Collection[str] = (),
        memory_budget: int | None = None,
    ) -> Self:
        """Load a checkpoint folder, or the best epoch of a training run.

        Args:
            directory: made by ``mrnet train``, ``mrnet demo`` or ``mrnet convert``.
            device: where to run; the best one there is if left out.
            trusted: encoders that the checkpoint may have loaded beside the registered and well-known ones, such as
                ``"hf:/models/clip"``, which is where the ``hf:clip`` of a checkpoint lies here.
            memory_budget: bytes that speed may cost, see :class:`mrnet.model.head.ProposalHead`.

        Raises:
            CheckpointError: nothing there, or damaged.
        """
        checkpoint = load_checkpoint(Path(directory))
        model = checkpoint.build(memory_budget=memory_budget)
        model = model.to(choose_device(None if device is None else str(device)))
        pca = None if checkpoint.pca is None else Pca.load(checkpoint.pca)
        return cls(model, checkpoint.spec, pca=pca, trusted=trusted)

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
        trained_on = self.spec.provenances.get("video")
        if isinstance(video, str | Path):
            path = Path(video)
            if duration_s is None:
                duration_s = probe(path).duration_s
            rows = torch.from_numpy(self._project(self._encode("video", path)))
            where = str(path)
        else:
            check_provenance(provenance, trained_on, "video")
            array = np.ascontiguousarray(video) if isinstance(video, np.ndarray) else video
            rows, where = torch.as_tensor(array, dtype=torch.float32, device="cpu"), "the given array"
            if rows.ndim != 2 or not len(rows):
                raise FeatureShapeError(f"{where} has shape {list(rows.shape)}: give (n, c), n at least 1")
        if rows.shape[1] != self.spec.model.video_dim:
            label = (
                "" if trained_on is None else f" of {trained_on.label}{extraction_command('video', trained_on)}"
            )
            raise FeatureShapeError(
                f"{where} has features of width {rows.shape[1]}, the model was trained on width "
                f"{self.spec.model.video_dim}{label}"
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
        return self.scorer.encode_video(rows, duration_s)

    def find(
        self,
        video: EncodedVideo | str | Path,
        query: str | None = None,
        k: int = 5,
        *,
        speech: str | Path | None = None,
    ) -> list[Moment]:
        """The k best moments for a query, written or said, best first.

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
        kind: QueryKind = "text" if speech is None else "speech"
        widths = self.spec.query_widths
        if kind not in widths:
            raise FeatureError(
                f"the model was trained on {self.spec.query_kinds[0]} queries and cannot be asked {kind} ones: use "
                "another checkpoint, or train one for both with --set data.query_kinds=[text,speech]"
            )
        rows = self._encode("text", query) if query is not None else self._encode("speech", Path(str(speech)))
        features = fill_columns(torch.from_numpy(rows), kind, widths)
        encoded = video if isinstance(video, EncodedVideo) else self.encode_video(video)
        return self.find_features(encoded, features, k)

    def find_features(self, video: EncodedVideo, query: Tensor, k: int = 5) -> list[Moment]:
        """:meth:`find` with ``(1, q)`` query features in place of a sentence."""
        if k < 1:
            raise DataError(f"k is {k}: ask for at least 1 moment")
        check_width(query, self.spec.model.query_dim, "the query", "model.query_dim")
        [moments] = rank(self.scorer.candidates(video, query), k, self.spec.decode.nms_threshold)
        return moments

    def _encode(self, kind: Modality, source: str | Path) -> npt.NDArray[np.float32]:
        """``(n, c)`` features of a source from the backbone that made those the model was trained on."""
        if kind not in self._backbones:
            self._backbones[kind] = self._make_backbone(kind)
        return encode_sources(self._backbones[kind], [source])[0]

    def _project(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The rows after the PCA that the training features went through, if they did."""
        video = self.spec.provenances.get("video")
        projection = video.projection if video else None
        if projection is None:
            return rows
        if self._pca is None:
            raise FeatureError(
                f"the model was trained on features reduced from {projection.dim} by a PCA that its checkpoint does "
                f"not hold ({PCA_FILE}): give features, not a video file"
            )
        return self._pca.apply(rows)

    def _make_backbone(self, kind: Modality) -> Backbone:
        provenance = self.spec.provenances.get(kind)
        if provenance is None:
            raise FeatureError(
                f"the checkpoint does not say which backbone made its {kind} features: give features, not raw input"
            )
        try:
            backbone = make_backbone(
                kind,
                provenance.backbone,
                rate=provenance.rows_per_s,
                device=str(self.scorer.device),
                trusted=self._trusted,
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
