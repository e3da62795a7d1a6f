"""One training step after another: the network, its optimiser, and what runs them."""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mrnet.config.run import RunConfig, TrainConfig
from mrnet.data.dataset import Batch
from mrnet.errors import ConfigError, TrainingError
from mrnet.losses import Losses, compute_losses, mean_losses, total_loss
from mrnet.model.ensemble import Network
from mrnet.model.mrnet import Embeddings
from mrnet.temporal import iou_map
from mrnet.training.augment import paste_moments
from mrnet.training.distributed import gather, gather_embeddings, gather_moments, share_batch_norm


@dataclass(frozen=True)
class StepRecord:
    """What a step did.

    Attributes:
        losses: ``total``, and its parts before weighting, by name.
        norm: of the gradient, before it was clipped.
        lr: learning rate that it was made with.
    """

    losses: dict[str, float]
    norm: float
    lr: float


class Trainer:
    """Updates a network, batch by batch.

    Under ``torchrun`` the processes split every batch among them and reach the result of one process.

    Args:
        network: its weights are updated in place.
        config: losses and optimisation.
        accelerator: device, precision and processes.

    Attributes:
        network: on its device.
        optimizer: AdamW over its weights.
        average: of the weights, where they are averaged.

    Source: docs/method.md, section 8.
    """

    def __init__(self, network: Network, config: RunConfig, accelerator: Accelerator) -> None:
        self.config = config
        self.accelerator = accelerator
        train = config.train
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=train.lr, betas=train.betas, weight_decay=train.weight_decay, fused=True
        )
        self._model, self._optimizer = accelerator.prepare(network, optimizer)
        self.network: Network = accelerator.unwrap_model(self._model)
        self.optimizer: torch.optim.Optimizer = self._optimizer.optimizer
        self.average = moving_average(self.network, train.averaging) if train.averaging else None
        self._epoch = 0

    @property
    def lr(self) -> float:
        """Learning rate of the current epoch."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def result(self) -> Network:
        """The network that answers: of averaged weights, or of the last ones."""
        return self.network if self.average is None else cast(Network, self.average.module)

    def begin_epoch(self, epoch: int) -> None:
        """Set learning rate and random state, functions of the epoch alone, so that a resumed run repeats them.

        Args:
            epoch: from 1.
        """
        train = self.config.train
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, epoch)
        torch.manual_seed((train.seed * 100_003 + epoch) * 1_009 + self.accelerator.process_index)
        self._epoch = epoch
        self._model.train()

    def step(self, batch: Batch, *, divided: bool = False) -> StepRecord:
        """One update.

        Args:
            batch: on the device.
            divided: whether it is this process's part of a batch that several processes have divided.

        Raises:
            TrainingError: the loss or its gradient is not finite, or a query has no moment.
        """
        config, accelerator = self.config, self.accelerator
        moments, duration_s = _ground_truth(batch), batch.duration_s
        if config.train.paste:
            batch = paste_moments(batch, config.train.paste)
        share_batch_norm(self.network, divided)
        output: Embeddings | list[Embeddings] = self._model(
            batch.video, batch.queries, batch.query_mask, config.train.protocol
        )
        members = output if isinstance(output, list) else [output]
        if divided:
            members = [gather_embeddings(embeddings) for embeddings in members]
            moments, duration_s = gather_moments(moments), gather(duration_s)
        targets = iou_map(moments, duration_s, config.model.num_clips)[:, self.network.valid]
        losses = mean_losses(
            [compute_losses(embeddings, targets, moments, duration_s, config.loss) for embeddings in members]
        )
        full = self._epoch <= config.train.full_loss_epochs
        loss = total_loss(losses, config.loss, full=full, batch_size=config.train.batch_size)
        if not torch.isfinite(loss):
            raise TrainingError(self._non_finite("loss", batch, losses))
        self._optimizer.zero_grad()
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(self._model.parameters(), config.train.grad_clip)
        if accelerator.scaler is None and not torch.isfinite(norm):  # the scaler of fp16 skips such steps itself
            raise TrainingError(self._non_finite("gradient", batch, losses))
        self._optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        named = {"norm": norm, "total": loss, **vars(losses)}
        values = dict(zip(named, torch.stack([value.detach() for value in named.values()]).tolist(), strict=True))
        return StepRecord(norm=values.pop("norm"), losses=values, lr=self.lr)

    def _non_finite(self, what: str, batch: Batch, losses: Losses) -> str:
        parts = ", ".join(f"{name} {value.item():g}" for name, value in vars(losses).items())
        videos = ", ".join(dict.fromkeys(record.video_id for record in batch.records))  # pasting repeats them
        return (
            f"the {what} is not finite in epoch {self._epoch} ({parts}) on the batch of videos {videos}: the last "
            "checkpoint, if an epoch was finished, is kept; check those features, or lower train.lr"
        )


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy that follows the weights and statistics of a network: of each new one, 1 - ``decay`` is taken."""
    follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Of an epoch, from 1."""
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / config.epochs))
    return config.lr * 0.1 ** sum(milestone < epoch for milestone in config.milestones)


def make_accelerator(config: TrainConfig, *, cpu: bool) -> Accelerator:
    """What runs a training: device, precision, and the processes of ``torchrun``.

    Args:
        config: precision and batch size.
        cpu: do not use an accelerator.

    Raises:
        ConfigError: the device does not have the precision, or there are more processes than videos in a batch.
    """
    # The others wait while the main process encodes videos or validates, which may take long.
    patience: Any = InitProcessGroupKwargs(timeout=timedelta(days=7))
    accelerator = Accelerator(mixed_precision=_precision(config, cpu), cpu=cpu, kwargs_handlers=[patience])
    if config.batch_size < accelerator.num_processes:
        raise ConfigError(
            f"train.batch_size {config.batch_size} is less than one video for each of "
            f"{accelerator.num_processes} processes: raise it, or start fewer"
        )
    return accelerator


def _precision(config: TrainConfig, cpu: bool) -> str:
    cuda = torch.cuda.is_available() and not cpu
    if config.precision == "auto":
        return "bf16" if cuda and torch.cuda.is_bf16_supported() else "no"
    if config.precision == "fp16" and not cuda:
        raise ConfigError("train.precision fp16 needs a CUDA device: use fp32, or bf16")
    if config.precision == "bf16" and cuda and not torch.cuda.is_bf16_supported():
        raise ConfigError("train.precision bf16 is not supported by this device: use fp16 or fp32")
    return "no" if config.precision == "fp32" else config.precision


def _ground_truth(batch: Batch) -> Tensor:
    if batch.moments is None:
        withheld = next(r.video_id for r in batch.records if not all(q.moments for q in r.queries))
        raise TrainingError(f"video {withheld!r} has a query without a moment: it cannot be trained on")
    return batch.moments
