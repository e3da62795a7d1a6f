"""Records and features joined into training and evaluation batches."""

import copy
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from mrnet.config.model import ModelConfig
from mrnet.data.queries import QueryFeatures
from mrnet.errors import DataError, MRNetError
from mrnet.features.store.reader import FeatureStore
from mrnet.temporal import check_width, resample
from mrnet.types import VideoRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One video with its queries.

    Attributes:
        video: ``(p, c)`` resampled features.
        queries: ``(s, q)``.
        moments: ``(s, w, 2)`` seconds, or ``None`` for a split whose answers are withheld.
        record: where it came from.
    """

    video: Tensor
    queries: Tensor
    moments: Tensor | None
    record: VideoRecord


@dataclass(frozen=True)
class Batch:
    """Padded videos with their queries.

    Attributes:
        video: ``(b, p, c)``.
        queries: ``(b, s, q)``.
        query_mask: ``(b, s)`` bool.
        duration_s: ``(n,)`` length of each query's video.
        moments: ``(n, w, 2)`` seconds, or ``None``.
        records: the b records.
    """

    video: Tensor
    queries: Tensor
    query_mask: Tensor
    duration_s: Tensor
    moments: Tensor | None
    records: tuple[VideoRecord, ...]

    @classmethod
    def collate(cls, samples: Sequence[Sample]) -> Self:
        """Pad samples into a batch."""
        counts = torch.tensor([len(sample.queries) for sample in samples])
        durations = torch.tensor([sample.record.duration_s for sample in samples])
        moments = [sample.moments for sample in samples if sample.moments is not None]
        return cls(
            video=torch.stack([sample.video for sample in samples]),
            queries=pad_sequence([sample.queries for sample in samples], batch_first=True),
            query_mask=torch.arange(int(counts.max())) < counts[:, None],
            duration_s=durations.repeat_interleave(counts),
            moments=stack_moments([m for rows in moments for m in rows]) if len(moments) == len(samples) else None,
            records=tuple(sample.record for sample in samples),
        )

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on ``device``."""
        return Batch(
            video=self.video.to(device),
            queries=self.queries.to(device),
            query_mask=self.query_mask.to(device),
            duration_s=self.duration_s.to(device),
            moments=None if self.moments is None else self.moments.to(device),
            records=self.records,
        )


def stack_moments(moments: Sequence[Tensor]) -> Tensor:
    """Moments ``(w_i, 2)`` of n queries as ``(n, w, 2)``; shorter ones repeat their first moment.

    A repeated moment changes neither the best IoU of a proposal nor the best overlap of two queries.
    """
    widest = max(len(rows) for rows in moments)
    return torch.stack([torch.cat([rows, rows[:1].expand(widest - len(rows), 2)]) for rows in moments])


class MomentDataset(Dataset[Sample]):
    """Videos with their queries, features read on demand.

    Args:
        records: annotations; videos without a query are left out.
        video_store: features of the videos.
        query_features: features of the queries.
        model: the widths and lengths that the features must have.

    Raises:
        DataError: no record has a query, or videos have no features.
        FeatureError, FeatureShapeError: the first video's features are damaged or not of the model's width.
    """

    def __init__(
        self,
        records: Sequence[VideoRecord],
        video_store: FeatureStore,
        query_features: QueryFeatures,
        model: ModelConfig,
    ) -> None:
        self.records = [record for record in records if record.queries]
        self.video_store = video_store
        self.query_features = query_features
        self.model = model
        self._resampled: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
        if not self.records:
            raise DataError("the annotations hold no query: there is nothing to learn or to evaluate")
        missing = [record.video_id for record in self.records if record.video_id not in video_store]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self.records)} videos have no features in {video_store.path}, the first "
                f"being {missing[0]!r}: extract them, or see `mrnet data check`"
            )
        self[0]  # features of a wrong width are refused here, before anyone writes anything

    def resample_once(self, folder: Path) -> None:
        """Read and resample all videos now, into a file that is mapped into memory and vanishes with the process.

        Where there is no room for it on the disk, videos go on being read each time.

        Args:
            folder: on whose disk.

        Raises:
            FeatureError, FeatureShapeError: features are damaged or not of the model's width.
        """
        shape = (self.model.num_pre_clips, self.model.video_dim)
        video_ids = [record.video_id for record in self.records]
        size = 4 * len(video_ids) * shape[0] * shape[1]
        try:
            if shutil.disk_usage(folder).free < 2 * size:
                raise OSError("there is too little room on the disk")
            with tempfile.TemporaryFile(dir=folder) as file:
                for video_id in video_ids:
                    file.write(self._video(video_id).numpy().data)
                file.flush()
                rows = np.memmap(file, np.float32, "c", shape=(len(video_ids), *shape))
        except OSError as error:
            log.warning("features are read and resampled anew in each epoch: %s", error)
            return
        self._resampled = dict(zip(video_ids, rows, strict=True))

    def encode_once(self) -> None:
        """Encode all queries that come as sentences now, so that processes that read batches begin with them encoded.

        Raises:
            DataError, FeatureError, FeatureShapeError: a query has no features, or none of the model's width.
        """
        for record in self.records:
            self.query_rows(record)

    def draw(self, max_queries: int | None, seed: int, epoch: int) -> "MomentDataset":
        """The dataset with at most ``max_queries`` queries of each video, drawn for an epoch, in order."""
        if max_queries is None:
            return self
        generator = _epoch_generator(seed, epoch)
        drawn = copy.copy(self)
        drawn.records = []
        for record in self.records:
            kept = torch.randperm(len(record.queries), generator=generator)[:max_queries].sort().values
            drawn.records.append(replace(record, queries=tuple(record.queries[i] for i in kept)))
        return drawn

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.records[index]
        known = all(query.moments for query in record.queries)
        return Sample(
            video=self._video(record.video_id),
            queries=self.query_rows(record),
            moments=stack_moments([torch.tensor(query.moments) for query in record.queries]) if known else None,
            record=record,
        )

    def query_rows(self, record: VideoRecord) -> Tensor:
        """``(s, q)`` features of the queries of a video."""
        queries = self.query_features(record.queries)
        check_width(queries, self.model.query_dim, f"queries of video {record.video_id!r}", "model.query_dim")
        return queries

    def video_rows(self, video_id: str) -> Tensor:
        """``(r, c)`` features of a video as they are stored."""
        rows = torch.from_numpy(self.video_store.read(video_id))
        check_width(rows, self.model.video_dim, f"{self.video_store.path}: video {video_id!r}", "model.video_dim")
        return rows

    def _video(self, video_id: str) -> Tensor:
        """``(p, c)`` resampled features."""
        if video_id in self._resampled:
            return torch.from_numpy(self._resampled[video_id])
        return resample(self.video_rows(video_id), self.model.num_pre_clips)


def epoch_batches(num_videos: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The shuffled batches of an epoch; the last may be smaller."""
    order: list[int] = torch.randperm(num_videos, generator=_epoch_generator(seed, epoch)).tolist()
    return [order[start : start + batch_size] for start in range(0, num_videos, batch_size)]


def _epoch_generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def part_of(batch: list[int], process: int, num_processes: int) -> list[int]:
    """The contiguous part of a batch that one process takes: all of it where there is not one video each."""
    if len(batch) < num_processes:
        return batch
    bounds = [len(batch) * index // num_processes for index in (process, process + 1)]
    return batch[bounds[0] : bounds[1]]


class _Batches(Dataset["Batch | MRNetError"]):
    """Batches of a dataset by number; an error is handed over, as a loader wraps what its processes raise."""

    def __init__(self, dataset: MomentDataset, batches: Sequence[Sequence[int]]) -> None:
        self.dataset, self.batches = dataset, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch | MRNetError:
        try:
            return Batch.collate([self.dataset[index] for index in self.batches[number]])
        except MRNetError as error:
            return error


def load_batches(dataset: MomentDataset, batches: Sequence[Sequence[int]], workers: int = 0) -> Iterator[Batch]:
    """Batches of the dataset by index, read ahead by ``workers`` processes.

    Raises:
        DataError, FeatureError: features are missing, damaged or not of the model's width.
    """
    # A fixed generator: the loader would otherwise draw its base seed from the global one, and a
    # resumed run would no longer see the same dropout.
    loader: DataLoader[Batch | MRNetError] = DataLoader(
        _Batches(dataset, batches),
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
    )
    for batch in loader:
        if isinstance(batch, MRNetError):
            raise batch
        yield batch
