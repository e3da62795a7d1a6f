"""What a predictor answers with: a trained model, or aligned encoders without training."""

import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from mrnet.config.spec import Calibration, ModelSpec
from mrnet.data.queries import fill_columns
from mrnet.device import choose_device
from mrnet.errors import CheckpointError, ConfigError, FeatureError, FeatureShapeError
from mrnet.features.backbone import Backbone, Rows, encode_sources
from mrnet.features.registry import extraction_command, make_backbone
from mrnet.features.store.pca import Pca, pca_sha256
from mrnet.provenance import Provenance
from mrnet.retrieval.aligned import PACKAGED_VIDEO, AlignedScorer, Untrained, make_untrained
from mrnet.retrieval.scorer import Scorer
from mrnet.retrieval.trained import Answering, TrainedScorer
from mrnet.retrieval.windows import WindowedScorer
from mrnet.types import Modality, QueryKind
from mrnet.weights.native import PCA_FILE, find_pca, load_checkpoint, load_spec, resolve_checkpoint

_NMS_THRESHOLD = 0.5

Runtime = Literal["torch", "onnx"]
"""What computes a trained model: PyTorch, or onnxruntime what `mrnet export` has written."""


class Engine(Protocol):
    """Encoders and a scorer that fit together.

    Attributes:
        scorer: what scores moments.
        kinds: of query that it takes.
        nms_threshold: of :func:`mrnet.retrieval.rank.rank`.
        provenance: how the rows of videos must be made; ``None`` where that is not known.
        calibration: of the scores; ``None`` where none is known, and then scores are no probabilities.
        name: what answers, in words.
    """

    @property
    def scorer(self) -> Scorer[Any]: ...
    @property
    def kinds(self) -> Sequence[QueryKind]: ...
    @property
    def nms_threshold(self) -> float: ...
    @property
    def provenance(self) -> Provenance | None: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def name(self) -> str: ...

    def video_backbone(self) -> Backbone:
        """The encoder of videos, made at the first call.

        Raises:
            FeatureError: there is none that makes what the scorer was made for.
        """
        ...

    def take_rows(self, rows: Rows, where: str) -> Rows:
        """Rows as the scorer takes them, checked.

        Args:
            rows: ``(r, c)``.
            where: they are from, for messages.

        Raises:
            FeatureShapeError: they are of another width.
        """
        ...

    def check_kind(self, kind: QueryKind) -> None:
        """Refuse queries that the scorer does not take.

        Raises:
            FeatureError: saying what does.
        """
        ...

    def encode_queries(self, kind: QueryKind, sources: Sequence[str | Path]) -> Tensor:
        """``(n, q)`` features of queries: sentences, or sound files.

        Raises:
            DataError, AudioError: one cannot be encoded.
            FeatureError: there is no encoder for them.
        """
        ...

    def query_note(self, kind: QueryKind, query: str) -> str:
        """What to know about the answer to a query because of its words; empty where nothing."""
        ...


class TrainedEngine:
    """A trained model, and the encoders of the features that it was trained on.

    Args:
        model: on its device, which is that of the encoders too.
        spec: of the model.
        pca: that the video features it was trained on went through, if any.
        trusted: encoders that may be loaded, as of :func:`mrnet.features.registry.make_backbone`.
    """

    def __init__(
        self, model: Answering, spec: ModelSpec, *, pca: Pca | None = None, trusted: Collection[str] | None = None
    ) -> None:
        self.scorer = WindowedScorer(TrainedScorer(model, spec.decode), spec.trained_lengths)
        self.spec = spec
        self.kinds = spec.query_kinds
        self.nms_threshold = spec.decode.nms_threshold
        self.provenance = spec.provenances.get("video")
        self.calibration = spec.calibration
        self.name = f"MRNet trained on {spec.name}"
        self._device, self._pca, self._trusted = model.valid.device, pca, trusted
        self._backbones: dict[Modality, Backbone] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        directory: Path,
        device: str | None = None,
        *,
        runtime: Runtime = "torch",
        trusted: Collection[str] | None = None,
        memory_budget: int | None = None,
    ) -> "TrainedEngine":
        """From a checkpoint folder, or the best epoch of a training run; as of :meth:`mrnet.predictor.Predictor.load`.

        Raises:
            CheckpointError: nothing there, damaged, or with a PCA that is not the one of its features.
            ConfigError: the runtime is not installed, or is not of the device.
        """
        network: Answering
        if runtime == "onnx":
            if device not in (None, "cpu"):
                raise ConfigError(
                    f"runtime onnx answers on the processor: leave {device!r} out, or use runtime torch"
                )
            from mrnet.weights.onnx import OnnxNetwork

            folder = resolve_checkpoint(directory)
            spec = load_spec(folder)
            network = OnnxNetwork.load(folder, spec.model)
        else:
            checkpoint = load_checkpoint(directory)
            folder, spec = checkpoint.folder, checkpoint.spec
            network = checkpoint.build(memory_budget=memory_budget).to(choose_device(device))
        return cls(network, spec, pca=_load_pca(folder, spec), trusted=trusted)

    def video_backbone(self) -> Backbone:
        """As of :class:`Engine`."""
        projection = self.provenance.projection if self.provenance else None
        if projection is not None and self._pca is None:
            raise FeatureError(
                f"the model was trained on features reduced from {projection.dim} by a PCA that its checkpoint does "
                f"not hold ({PCA_FILE}): give features, not a video file"
            )
        return self._backbone("video")

    def take_rows(self, rows: Rows, where: str) -> Rows:
        """As of :class:`Engine`; rows as the backbone gives them go through the PCA."""
        width = self.spec.model.video_dim
        if self._pca is not None and rows.shape[1] == len(self._pca.mean) != width:
            rows = self._pca.apply(rows)
        if rows.shape[1] != width:
            trained_on = self.provenance
            label = (
                "" if trained_on is None else f" of {trained_on.label}{extraction_command('video', trained_on)}"
            )
            raise FeatureShapeError(
                f"{where} has features of width {rows.shape[1]}, the model was trained on width {width}{label}"
            )
        return rows

    def check_kind(self, kind: QueryKind) -> None:
        """As of :class:`Engine`."""
        if kind not in self.kinds:
            other = "; or give a recogniser of speech, hf:MODEL" if kind == "speech" else ""
            raise FeatureError(
                f"the model was trained on {self.kinds[0]} queries and cannot be asked {kind} ones: use "
                f"another checkpoint, or train one for both with --set data.query_kinds=[text,speech]{other}"
            )

    def encode_queries(self, kind: QueryKind, sources: Sequence[str | Path]) -> Tensor:
        """As of :class:`Engine`."""
        rows = encode_sources(self._backbone(kind), sources)
        return fill_columns(torch.from_numpy(np.concatenate(rows)), kind, self.spec.query_widths)

    def query_note(self, kind: QueryKind, query: str) -> str:
        """As of :class:`Engine`."""
        return _query_note(self._backbones.get(kind), query)

    def _backbone(self, modality: Modality) -> Backbone:
        with self._lock:
            if modality not in self._backbones:
                self._backbones[modality] = self._make_backbone(modality)
            return self._backbones[modality]

    def _make_backbone(self, modality: Modality) -> Backbone:
        provenance = self.spec.provenances.get(modality)
        if provenance is None:
            raise FeatureError(
                f"the checkpoint does not say which backbone made its {modality} features: give features, not raw "
                "input"
            )
        try:
            backbone = make_backbone(
                modality,
                provenance.backbone,
                rate=provenance.rows_per_s,
                device=str(self._device),
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


class UntrainedEngine:
    """Aligned encoders; nothing is trained, and sentences are put as captions.

    Args:
        untrained: encoders and scorer.
        backbone: what they were made from, as of :func:`mrnet.retrieval.aligned.make_untrained`.
    """

    kinds: Sequence[QueryKind] = ("text",)
    nms_threshold = _NMS_THRESHOLD

    def __init__(self, untrained: Untrained, backbone: str) -> None:
        self.untrained = untrained
        self.backbone = backbone
        self.scorer: AlignedScorer = untrained.scorer
        self.provenance: Provenance | None = untrained.video.provenance()
        self.calibration = untrained.scorer.alignment.calibration
        names = dict.fromkeys([untrained.video.name, untrained.text.name])
        self.name = f"{' and '.join(names)}, without training"

    @classmethod
    def make(cls, backbone: str = PACKAGED_VIDEO, device: str | None = None) -> "UntrainedEngine":
        """With an encoder by name, see :func:`mrnet.retrieval.aligned.make_untrained`.

        Raises:
            ConfigError: it cannot be made; says what to install or to give.
        """
        return cls(make_untrained(backbone, device=device), backbone)

    def video_backbone(self) -> Backbone:
        """As of :class:`Engine`."""
        return self.untrained.video

    def take_rows(self, rows: Rows, where: str) -> Rows:
        """As of :class:`Engine`."""
        width = self.untrained.video.dim
        if rows.shape[1] != width:
            raise FeatureShapeError(
                f"{where} has features of width {rows.shape[1]}, {self.untrained.video.name} gives {width}: give "
                "features of that encoder"
            )
        return rows

    def check_kind(self, kind: QueryKind) -> None:
        """As of :class:`Engine`."""
        if kind not in self.kinds:
            raise FeatureError(
                "without a checkpoint that hears, a recording must be turned into a sentence: name a recogniser of "
                "speech, such as --recogniser hf:openai/whisper-tiny.en, or write the query"
            )

    def encode_queries(self, kind: QueryKind, sources: Sequence[str | Path]) -> Tensor:  # noqa: ARG002
        """As of :class:`Engine`; sentences alone."""
        return self.untrained.encode_queries([str(source) for source in sources])

    def query_note(self, kind: QueryKind, query: str) -> str:  # noqa: ARG002
        """As of :class:`Engine`."""
        return _query_note(self.untrained.text, query)


def _load_pca(folder: Path, spec: ModelSpec) -> Pca | None:
    """The PCA in a checkpoint, once it is known by its content to be that of the features it was trained on."""
    path = find_pca(folder)
    if path is None:
        return None
    provenance = spec.provenances.get("video")
    projection = None if provenance is None else provenance.projection
    if projection is None or pca_sha256(path) != projection.sha256:
        raise CheckpointError(
            f"{path} is not the PCA that the model's video features went through: restore or remake the checkpoint"
        )
    return Pca.load(path)


def _query_note(backbone: Backbone | None, query: str) -> str:
    knows = getattr(backbone, "knows", None)  # most encoders cannot tell
    if backbone is not None and knows is not None and not knows(query):
        return (
            f"the query seems not to be in English, which is all that {backbone.name} knows: write it in English"
        )
    return ""
