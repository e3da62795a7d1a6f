"""The one way in which reference networks are trained and asked."""

import copy
import math
import time
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from mrnet.config.run import RunConfig
from mrnet.data.dataset import MomentDataset
from mrnet.data.sources import DataSource
from mrnet.errors import TrainingError
from mrnet.evaluation.predictions import Prediction
from mrnet.evaluation.run import evaluate_predictions, predict
from mrnet.experiments.references.parts import Reference
from mrnet.experiments.trained import SplitName, Trained
from mrnet.retrieval.scorer import Candidates
from mrnet.temporal import check_width, resample
from mrnet.training.trainer import moving_average
from mrnet.types import AskedProtocol

_BATCH = 32  # queries
_WARM_UP = 50  # steps
_AVERAGING = 0.99
_GRAD_CLIP = 1.0


class ReferenceScorer:
    """A reference network as :class:`mrnet.retrieval.scorer.Scorer`."""

    def __init__(self, network: Reference) -> None:
        self.network = network

    def encode_video(self, rows: Tensor, duration_s: float) -> tuple[Tensor, float]:
        """As :meth:`mrnet.retrieval.scorer.Scorer.encode_video`."""
        check_width(rows, self.network.config.video_dim, "the video", "model.video_dim")
        return resample(rows, self.network.config.num_pre_clips), duration_s

    @torch.inference_mode()
    def candidates(self, video: tuple[Tensor, float], queries: Tensor) -> Candidates:
        """As :meth:`mrnet.retrieval.scorer.Scorer.candidates`; each query has candidates of its own."""
        clips, duration_s = video
        check_width(queries, self.network.config.query_dim, "the query", "model.query_dim")
        answers = self.network.eval()(clips.expand(len(queries), *clips.shape), queries)
        own = torch.eye(len(queries), dtype=torch.bool)[..., None]  # (n, n, 1)
        scores = torch.where(own, answers.logits.sigmoid(), float("-inf"))
        return Candidates(answers.spans.clamp(0, 1).flatten(0, 1) * duration_s, scores.flatten(1))


@dataclass(frozen=True)
class _Examples:
    """A split in memory: videos ``(v, p, c)``, and of each of n queries its features, video and first moment."""

    videos: Tensor
    queries: Tensor
    video_of_query: Tensor
    truth: Tensor

    @classmethod
    def of(cls, dataset: MomentDataset) -> "_Examples":
        samples = [dataset[index] for index in range(len(dataset))]
        fractions: list[Tensor] = []
        for sample in samples:
            if sample.moments is None:
                raise TrainingError(
                    f"video {sample.record.video_id!r} has a query without a moment: it cannot be trained on"
                )
            fractions.append(sample.moments[:, 0] / sample.record.duration_s)
        counts = torch.tensor([len(sample.queries) for sample in samples])
        return cls(
            torch.stack([sample.video for sample in samples]),
            torch.cat([sample.queries for sample in samples]),
            torch.arange(len(samples)).repeat_interleave(counts),
            torch.cat(fractions),
        )


def train_reference(kind: type[Reference], config: RunConfig, source: DataSource) -> Trained:
    """Train a network and keep its best epoch, by the validation split.

    AdamW with a warm-up and half a cosine, batches of 32 queries, an average of the weights that answers. Widths,
    lengths, layers and dropout are those of ``config.model``; epochs, learning rate, weight decay, betas and seed those
    of ``config.train``.

    Args:
        kind: which.
        config: settings.
        source: of the data.

    Raises:
        TrainingError: the loss is not finite, or a query has no moment.
        DataError, FeatureError: the data cannot be read.
    """
    started = time.perf_counter()
    examples = _Examples.of(source.dataset(source.split("train"), config.model, {}))
    val_set = source.dataset(source.split("val"), config.model, {})
    settings = config.train
    torch.manual_seed(settings.seed)
    network = kind(config.model)
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * -(-len(examples.queries) // _BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    averaged = moving_average(network, _AVERAGING)
    average = cast(Reference, averaged.module)
    best, best_epoch, best_score = average, 0, -math.inf
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for indices in torch.randperm(len(examples.queries)).split(_BATCH):  # type: ignore[no-untyped-call]
            found = network(examples.videos[examples.video_of_query[indices]], examples.queries[indices])
            loss = network.loss(found, examples.truth[indices])
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss is not finite in epoch {epoch}: lower train.lr")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(network.parameters(), _GRAD_CLIP)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(network)
        predictions = predict(ReferenceScorer(average), val_set, config.decode.nms_threshold)
        score = evaluate_predictions(predictions, val_set.records, config.evaluation)[config.evaluation.select_by]
        if score > best_score:
            best, best_epoch, best_score = copy.deepcopy(average), epoch, score
    scorer = ReferenceScorer(best.requires_grad_(False))

    def answers(split: SplitName) -> dict[AskedProtocol, list[Prediction]]:
        dataset = source.dataset(source.split(split), config.model, {})
        return {"single": predict(scorer, dataset, config.decode.nms_threshold)}

    return Trained(
        network=best,
        scorer=scorer,
        counted=scorer,
        answers=answers,
        seconds=time.perf_counter() - started,
        epochs=settings.epochs,
        best_epoch=best_epoch,
    )


def _rate(step: int, steps: int) -> float:
    """Of the learning rate: rises over the first steps, and falls along half a cosine all the while."""
    return min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
