"""The training loop."""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from mrnet.config import Config, TrainConfig
from mrnet.data.dataset import Batch, MomentDataset, epoch_batches, load_batches, share
from mrnet.data.sources import open_source
from mrnet.errors import ConfigError, TrainingError
from mrnet.evaluation.run import evaluate_predictions, predict
from mrnet.losses import Losses, compute_losses, total_loss
from mrnet.model.mrnet import MRNet
from mrnet.temporal import iou_map
from mrnet.training.distributed import gather, gather_embeddings, gather_moments, share_batch_norm
from mrnet.training.state import Run

log = logging.getLogger(__name__)


def train(
    config: Config, out: Path, *, resume: bool = False, cpu: bool = False, memory_budget: int | None = None
) -> Run:
    """Train a model, or continue to train it.

    Every epoch ends with a checkpoint and a score on the validation split; the best one is the result.
    Under ``torchrun`` the processes share every batch and reach the result of one process.

    Args:
        config: what to train.
        out: folder of the run.
        resume: continue the run that ``out`` holds.
        cpu: do not use an accelerator.
        memory_budget: bytes that speed may cost, see :class:`mrnet.model.head.ProposalHead`.

    Raises:
        ConfigError, DataError, FeatureError, VideoError: something is missing or inconsistent.
        CheckpointError: the run to resume is damaged.
        TrainingError: ``out`` is taken, or the loss or its gradient is not finite.
    """
    # The others wait while the main process encodes videos or validates, which may take long.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
    accelerator = Accelerator(mixed_precision=_precision(config.train, cpu), cpu=cpu, kwargs_handlers=[patience])
    main = accelerator.is_main_process
    with accelerator.main_process_first():  # which encodes raw videos, if there are any
        source = open_source(config.data)
    train_set = source.dataset(source.split(config.data, "train"), config)
    val_set = source.dataset(source.split(config.data, "val"), config)
    config = config.model_copy(update=dict(source.provenances))
    if config.train.batch_size < accelerator.num_processes:
        raise ConfigError(
            f"train.batch_size {config.train.batch_size} is less than one video for each of "
            f"{accelerator.num_processes} processes: raise it, or start fewer"
        )
    run = Run.resume(out, config) if resume else _start(out, config, accelerator)
    run.pca = source.pca
    if accelerator.num_processes == 1:  # of several, each would need a copy of its own
        for dataset in (train_set, val_set):
            dataset.resample_once(out)
    writer = SummaryWriter(out / "tensorboard", purge_step=run.epoch + 1) if main else None

    torch.manual_seed(config.train.seed)
    network = MRNet(config.model)
    network.proposal_head.memory_budget = memory_budget
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=config.train.lr,
        betas=config.train.betas,
        weight_decay=config.train.weight_decay,
        fused=True,
    )
    model, optimizer = accelerator.prepare(network, optimizer)
    run.load_last(network, optimizer.optimizer)  # now that the weights are where they will stay

    steps = (config.train.epochs - run.epoch) * -(-len(train_set) // config.train.batch_size)
    with tqdm(total=steps, desc="training", unit="step", disable=None if main else True) as progress:
        for epoch in range(run.epoch + 1, config.train.epochs + 1):
            started = time.perf_counter()
            _set_epoch(epoch, config.train, optimizer, accelerator.process_index)
            model.train()
            totals: dict[str, float] = {}
            batches = epoch_batches(len(train_set), config.train.batch_size, config.train.seed, epoch)
            drawn = train_set.draw(config.train.max_queries, config.train.seed, epoch)
            local = _local_batches(drawn, batches, accelerator, config.train.workers)
            for indices, batch in zip(batches, local, strict=True):
                shared = 1 < accelerator.num_processes <= len(indices)
                parts = _step(model, batch, optimizer, accelerator, config, epoch, shared=shared)
                for name, value in parts.items():
                    totals[name] = totals.get(name, 0.0) + value / len(batches)
                progress.update()
                progress.set_postfix(epoch=epoch, loss=f"{parts['total']:.3f}")
            accelerator.wait_for_everyone()
            if writer is not None:
                predictions = predict(network, val_set, config, accelerator.device)
                metrics = evaluate_predictions(predictions, val_set.records, config.evaluation)
                record = {
                    "epoch": epoch,
                    "loss": totals,
                    "val": metrics,
                    "lr": optimizer.param_groups[0]["lr"],
                    "seconds": round(time.perf_counter() - started, 3),
                }
                best = _is_best(record, run.history, config)
                run.save_epoch(record, network, optimizer.optimizer, best=best)
                _write_scalars(writer, record)
                log.info(
                    "epoch %d/%d  loss %.4f  val %s %.2f%s",
                    epoch, config.train.epochs, totals["total"], config.evaluation.select_by,
                    metrics[config.evaluation.select_by], "  (best)" if best else "",
                )  # fmt: skip
            accelerator.wait_for_everyone()
    if writer is not None:
        writer.close()
    return run


def _start(out: Path, config: Config, accelerator: Accelerator) -> Run:
    """Begin the run on the main process only; the others keep its state to themselves."""
    run = Run.start(out, config) if accelerator.is_main_process else Run(out, config)
    accelerator.wait_for_everyone()
    return run


def _local_batches(
    dataset: MomentDataset, batches: list[list[int]], accelerator: Accelerator, workers: int
) -> Iterator[Batch]:
    local = [share(batch, accelerator.process_index, accelerator.num_processes) for batch in batches]
    for batch in load_batches(dataset, local, workers):
        yield batch.to(accelerator.device)


def _step(
    model: torch.nn.Module,
    batch: Batch,
    optimizer: Any,
    accelerator: Accelerator,
    config: Config,
    epoch: int,
    *,
    shared: bool,
) -> dict[str, float]:
    """One update, by one process or on a batch that several share; returns the parts of the loss."""
    network: MRNet = accelerator.unwrap_model(model)
    share_batch_norm(network, shared)
    embeddings = model(batch.video, batch.queries, batch.query_mask)
    moments, duration_s = _ground_truth(batch), batch.duration_s
    if shared:
        embeddings = gather_embeddings(embeddings)
        moments, duration_s = gather_moments(moments), gather(duration_s)
    targets = iou_map(moments, duration_s, config.model.num_clips)[:, network.valid]
    losses = compute_losses(embeddings, targets, moments, config.loss)
    full = epoch <= config.train.full_loss_epochs
    loss = total_loss(losses, config.loss, full=full, batch_size=config.train.batch_size)
    if not torch.isfinite(loss):
        raise TrainingError(_non_finite("loss", batch, losses, epoch))
    optimizer.zero_grad()
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(model.parameters(), config.train.grad_clip)
    if accelerator.scaler is None and not torch.isfinite(norm):  # the scaler of fp16 skips such steps itself
        raise TrainingError(_non_finite("gradient", batch, losses, epoch))
    optimizer.step()
    return {"total": loss.item(), **{name: value.item() for name, value in vars(losses).items()}}


def _ground_truth(batch: Batch) -> Tensor:
    if batch.moments is None:
        withheld = next(r.video_id for r in batch.records if not all(q.moments for q in r.queries))
        raise TrainingError(f"video {withheld!r} has a query without a moment: it cannot be trained on")
    return batch.moments


def _non_finite(what: str, batch: Batch, losses: Losses, epoch: int) -> str:
    parts = ", ".join(f"{name} {value.item():g}" for name, value in vars(losses).items())
    videos = ", ".join(record.video_id for record in batch.records)
    return (
        f"the {what} is not finite in epoch {epoch} ({parts}) on the batch of videos {videos}: the last checkpoint, "
        "if an epoch was finished, is kept; check those features, or lower train.lr"
    )


def _set_epoch(epoch: int, config: TrainConfig, optimizer: Any, process: int) -> None:
    """Learning rate and random state as functions of the epoch alone, so that a resumed run repeats them."""
    passed = sum(milestone < epoch for milestone in config.milestones)
    for group in optimizer.param_groups:
        group["lr"] = config.lr * 0.1**passed
    torch.manual_seed((config.seed * 100_003 + epoch) * 1_009 + process)


def _precision(config: TrainConfig, cpu: bool) -> str:
    cuda = torch.cuda.is_available() and not cpu
    if config.precision == "auto":
        return "bf16" if cuda and torch.cuda.is_bf16_supported() else "no"
    if config.precision == "fp16" and not cuda:
        raise ConfigError("train.precision fp16 needs a CUDA device: use fp32, or bf16")
    if config.precision == "bf16" and cuda and not torch.cuda.is_bf16_supported():
        raise ConfigError("train.precision bf16 is not supported by this device: use fp16 or fp32")
    return "no" if config.precision == "fp32" else config.precision


def _is_best(record: dict[str, Any], history: list[dict[str, Any]], config: Config) -> bool:
    key = config.evaluation.select_by
    return all(record["val"][key] > earlier["val"][key] for earlier in history)


def _write_scalars(writer: SummaryWriter, record: dict[str, Any]) -> None:
    for group in ("loss", "val"):
        for name, value in record[group].items():
            writer.add_scalar(f"{group}/{name}", value, record["epoch"])
    writer.add_scalar("lr", record["lr"], record["epoch"])
    writer.flush()
