"""Scoring without training: how well the rows of an image encoder fit a sentence, and where that stands out.

Two ways lead to the curve of a query over a video. The towers of one model (CLIP, SigLIP, X-CLIP) share a space, where
a row and a sentence have a cosine. An image classifier and a sentence encoder share none; there the names of the
classes are the bridge. From the curve on both are one: the video is cut where its rows change, runs of neighbouring
segments are the candidates, and one is good where the curve inside it stands out from the whole video.

Source: docs/real.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from mrnet.config.spec import Calibration
from mrnet.errors import ConfigError
from mrnet.features.backbone import Backbone, encode_sources
from mrnet.features.registry import make_backbone
from mrnet.retrieval.captions import caption
from mrnet.retrieval.scorer import Candidates
from mrnet.retrieval.segments import (
    Cuts,
    changes,
    edge_times,
    relative_cuts,
    run_means,
    run_rows,
    runs,
    segment_edges,
)
from mrnet.temporal import check_width

PACKAGED_VIDEO, PACKAGED_TEXT = "efficientnet-lite0", "minilm-l6-v2"
"""The encoders that work without a model hub."""

# How sharply a sentence picks classes: cosines are divided by this before the softmax.
_CLASS_TEMPERATURE = 0.07
# What a row is worth whose classes a sentence does not weigh at all, lest a logarithm be infinite.
_LEAST_WEIGHT = 1e-9
_LONGEST_RUN = 6
# A long moment may stand out less than a short one: contrasts are weighed by seconds to this power.
_LENGTH_POWER = 0.25
_QUERIES_AT_ONCE = 256

_TOWERS_SEE = (
    "sees what the caption of a picture tells; not order, counts, sound, nor what happens in one static shot"
)
_CLASSES_SEE = (
    "sees objects, animals, vehicles, food, clothes, and sports by their equipment; not actions of the body alone, "
    "persons by name, writing, counts, order, nor what happens in one static shot"
)

# Fitted by tools/calibrate.py on the videos of docs/real.md.
_CLASSES_CALIBRATION = Calibration(
    bias=0.2348,
    weights=(0.781, 0.3646, -1.2614, -0.8472, -0.2846),
    threshold=0.4,
    footage="real clips joined by cuts, and short real videos",
)


class Alignment(Protocol):
    """How the rows of a video encoder and the vectors of a sentence encoder meet.

    Attributes:
        video_dim: width of the rows.
        query_dim: width of the vectors.
        cuts: where rows change enough to end a segment; ``None`` for thresholds from each video itself.
        sees: what it can tell apart and what not, in a line.
        calibration: of the scores; ``None`` where none is known.
    """

    video_dim: int
    query_dim: int
    cuts: Cuts | None
    sees: str
    calibration: Calibration | None

    def project(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What is done once for all queries: what :meth:`curves` compares, and what :meth:`levels` takes means of.

        Args:
            rows: ``(r, c)``.

        Returns:
            twice ``(r, e)``.
        """
        ...

    def curves(self, projected: Tensor, queries: Tensor) -> Tensor:
        """``(n, r)`` how well each row fits each query, higher is better, of ``(n, q)`` vectors.

        Only differences within a video count.
        """
        ...

    def directions(self, queries: Tensor) -> Tensor:
        """``(n, e)`` of ``(n, q)`` vectors; the larger a projected row's inner product with one, the higher the curve.

        So rows of many videos can be searched as vectors.
        """
        ...

    def levels(self, means: Tensor, queries: Tensor) -> Tensor:
        """``(n, c)`` how well stretches fit each query, on one scale for all videos and queries.

        Args:
            means: ``(c, e)`` of what :meth:`project` gives, over each stretch.
            queries: ``(n, q)`` vectors.
        """
        ...


class SharedSpace:
    """The two towers of one model; the curve is the cosine of row and sentence.

    What the model itself adds to it, a scale and a bias that are the same for all, ranks nothing anew.
    """

    cuts: Cuts | None = None
    sees = _TOWERS_SEE
    calibration: Calibration | None = None

    def __init__(self, dim: int) -> None:
        self.video_dim = self.query_dim = dim

    def project(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The rows at unit length, for both."""
        unit = F.normalize(rows.float(), dim=1)
        return unit, unit

    def curves(self, projected: Tensor, queries: Tensor) -> Tensor:
        """Cosines."""
        return self.directions(queries) @ projected.T

    def directions(self, queries: Tensor) -> Tensor:
        """The sentences at unit length."""
        return F.normalize(queries.float(), dim=1)

    def levels(self, means: Tensor, queries: Tensor) -> Tensor:
        """Mean cosines."""
        return self.curves(means, queries)


class ClassBridge:
    """A classifier's classes, each with a sentence vector of its own.

    A sentence gives classes weights ``w``, the softmax of its cosines with them; a row has probabilities ``p`` of them.
    The curve is ``ln(w . sqrt(p) / sqrt(sum sqrt(p)))``: roots let the less likely classes of a row have a say, as a
    picture seldom shows one thing, and the sum keeps a row that is unsure of its classes from fitting everything. The
    level of a stretch is the logarithm of the cosine between ``w`` and the mean of ``p``.
    """

    cuts: Cuts | None = Cuts(shot=0.25, inner=0.16)
    sees = _CLASSES_SEE
    calibration: Calibration | None = _CLASSES_CALIBRATION

    def __init__(self, weight: Tensor, bias: Tensor, class_texts: Tensor) -> None:
        """Connect a classifier with a sentence encoder.

        Args:
            weight: ``(classes, c)`` of the classifier.
            bias: ``(classes,)`` of the classifier.
            class_texts: ``(classes, q)`` sentence vectors of the classes.
        """
        self.video_dim, self.query_dim = weight.shape[1], class_texts.shape[1]
        self._weight, self._bias = weight, bias
        self._class_texts = F.normalize(class_texts.float(), dim=1)

    def project(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Roots of the classes' probabilities by the root of their sum; and the probabilities."""
        probabilities = F.linear(rows.float(), self._weight, self._bias).softmax(dim=1)
        roots = probabilities.sqrt()
        return roots.div_(roots.sum(dim=1, keepdim=True).sqrt()), probabilities

    def curves(self, projected: Tensor, queries: Tensor) -> Tensor:
        """As above."""
        return (self.directions(queries) @ projected.T + _LEAST_WEIGHT).log()

    def levels(self, means: Tensor, queries: Tensor) -> Tensor:
        """As above."""
        weights = F.normalize(self.directions(queries), dim=1)
        return (weights @ F.normalize(means, dim=1).T + _LEAST_WEIGHT).log()

    def directions(self, queries: Tensor) -> Tensor:
        """The weights of the classes."""
        cosines = F.normalize(queries.float(), dim=1) @ self._class_texts.T
        return (cosines / _CLASS_TEMPERATURE).softmax(dim=1)


@dataclass(frozen=True)
class AlignedVideo:
    """A video ready to be asked.

    Attributes:
        projected: ``(r, e)`` its rows as the curves of its :class:`Alignment` compare them.
        edges: ``(m + 1,)`` row numbers where its segments begin and end.
        times_s: ``(m + 1,)`` the same in seconds.
        rows_per_s: rate of the rows.
        runs: ``(c, 2)`` first segment, and one past the last, of each moment that may be meant.
        means: ``(c, e)`` of its rows over each of these, as the levels of its :class:`Alignment` take them.
    """

    projected: Tensor
    edges: Tensor
    times_s: Tensor
    rows_per_s: float
    runs: Tensor
    means: Tensor

    @property
    def num_segments(self) -> int:
        return len(self.edges) - 1

    @property
    def is_one_segment(self) -> bool:
        """Whether nothing in it changes enough to be told apart: then no moment of it can stand out."""
        return self.num_segments == 1


class AlignedScorer:
    """Runs of segments, scored by how far a query's curve inside them is above its mean over the video.

    The score is that difference times the length in seconds to the power 0.25. The one candidate of a video of one
    segment has score 0: it stands out from nothing.

    Args:
        alignment: of the encoders of videos and of queries.
        rows_per_s: rate of the rows; left out, they are spread evenly over each video.
    """

    def __init__(self, alignment: Alignment, rows_per_s: float | None = None) -> None:
        self.alignment = alignment
        self.rows_per_s = rows_per_s

    def encode_video(self, rows: Tensor, duration_s: float) -> AlignedVideo:
        """As :meth:`mrnet.retrieval.scorer.Scorer.encode_video`."""
        check_width(rows, self.alignment.video_dim, "the video", "the width of the encoder's rows")
        rate = self.rows_per_s or len(rows) / duration_s
        distances = changes(rows)
        edges = segment_edges(distances, self.alignment.cuts or relative_cuts(distances), rate)
        (projected, averaged), of = self.alignment.project(rows), runs(len(edges) - 1, _LONGEST_RUN)
        times_s = edge_times(edges, rate, duration_s)
        return AlignedVideo(projected, edges, times_s, rate, of, run_rows(averaged, edges, of))

    def curves(self, video: AlignedVideo, queries: Tensor) -> Tensor:
        """``(n, r)`` how well each row of a video fits each of ``(n, q)`` queries; higher is better.

        Raises:
            FeatureShapeError: the queries are of another width than the scorer's.
        """
        check_width(queries, self.alignment.query_dim, "the query", "the width of the encoder's sentences")
        return self.alignment.curves(video.projected, queries)

    def candidates(self, video: AlignedVideo, queries: Tensor) -> Candidates:
        """As :meth:`mrnet.retrieval.scorer.Scorer.candidates`; queries are scored some at a time."""
        start, end = video.edges[video.runs].unbind(dim=1)
        weights = ((end - start) / video.rows_per_s) ** _LENGTH_POWER
        curves = [self.curves(video, part) for part in torch.split(queries, _QUERIES_AT_ONCE)]
        inside = torch.cat([run_means(curve, video.edges, video.runs) for curve in curves])
        background = torch.cat([curve.mean(dim=1) for curve in curves])
        scores = (inside - background[:, None]) * weights
        levels = self.alignment.levels(video.means, queries)
        return Candidates(video.times_s[video.runs], scores, levels, curves=torch.cat(curves))


@dataclass(frozen=True)
class Untrained:
    """All that answering without training needs.

    Attributes:
        video: encoder of videos.
        text: encoder of sentences.
        scorer: what answers.
    """

    video: Backbone
    text: Backbone
    scorer: AlignedScorer

    def encode_queries(self, sentences: Sequence[str]) -> Tensor:
        """``(n, q)`` features of sentences, each put as a caption.

        Raises:
            DataError: one cannot be encoded.
        """
        rows = encode_sources(self.text, [caption(sentence) for sentence in sentences])
        return torch.from_numpy(np.concatenate(rows))


def make_untrained(
    backbone: str = PACKAGED_VIDEO, *, rate: float | None = None, device: str | None = None
) -> Untrained:
    """The scorer without training of a video backbone.

    Args:
        backbone: ``efficientnet-lite0``, or ``hf:MODEL`` with a model of pictures and sentences.
        rate: rows a second of video; the backbone's own if left out.
        device: where the networks run; the best there is if left out.

    Raises:
        ConfigError: the backbone has no sentences that its rows can be compared with, or cannot be made.
    """
    if backbone == PACKAGED_VIDEO:
        video = make_backbone("video", backbone, rate=rate, device=device)
        text = make_backbone("text", PACKAGED_TEXT, device=device)
        return Untrained(video, text, AlignedScorer(packaged_bridge(), video.rate))
    if not backbone.startswith("hf:"):
        raise _without_sentences(backbone)
    video = make_backbone("video", backbone, rate=rate, device=device)
    try:
        text = make_backbone("text", backbone, device=device)
    except ConfigError:
        raise _without_sentences(backbone) from None
    if not getattr(text, "is_tower", False) or text.dim != video.dim:
        raise _without_sentences(backbone)
    return Untrained(video, text, AlignedScorer(SharedSpace(video.dim), video.rate))


def packaged_bridge() -> ClassBridge:
    """EfficientNet-Lite0's classifier and the packaged sentence vectors of its classes.

    Raises:
        ImportError: the packages with the encoders are not installed.
        ConfigError: the weights are those of another network.
    """
    from mrnet.features.encoders.efficientnet import load_classifier

    stored = (resources.files("mrnet") / "retrieval" / "class_texts.safetensors").read_bytes()
    return ClassBridge(*load_classifier(), load(stored)["class_texts"])


def _without_sentences(backbone: str) -> ConfigError:
    return ConfigError(
        f"the video backbone {backbone} has no sentences to compare with, so nothing is found with it untrained: use "
        f"{PACKAGED_VIDEO}, or hf:MODEL with a CLIP, SigLIP or X-CLIP model"
    )
