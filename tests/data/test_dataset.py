"""Batches, parts of processes, and features that are read once."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mrnet.config.run import RunConfig
from mrnet.data import dataset as dataset_module
from mrnet.data.dataset import (
    Batch,
    MomentDataset,
    Sample,
    epoch_batches,
    load_batches,
    part_of,
    stack_moments,
)
from mrnet.data.sources import open_source
from mrnet.errors import DataError, FeatureError
from mrnet.types import Query, Span, VideoRecord


def record(name: str, *spans: tuple[float, float], duration_s: float = 10.0) -> VideoRecord:
    queries = tuple(Query(f"q{i}", (Span(*span),), f"{name}#{i}") for i, span in enumerate(spans))
    return VideoRecord(name, duration_s, queries)


def sample(name: str, *spans: tuple[float, float], duration_s: float = 10.0) -> Sample:
    count = len(spans)
    return Sample(
        torch.zeros(4, 3),
        torch.ones(count, 2),
        torch.tensor(spans)[:, None],
        record(name, *spans, duration_s=duration_s),
    )


def train_set(config: RunConfig) -> MomentDataset:
    source = open_source(config.data)
    return source.dataset(source.split("train"), config.model, {})


def test_collate_pads_queries_and_flattens_moments() -> None:
    batch = Batch.collate([sample("a", (0, 1), (2, 3)), sample("b", (4, 5), duration_s=7.0)])
    assert batch.queries.shape == (2, 2, 2)
    assert batch.query_mask.tolist() == [[True, True], [True, False]]
    assert batch.queries[1, 1].tolist() == [0, 0]
    assert batch.duration_s.tolist() == [10, 10, 7]
    assert batch.moments is not None
    assert batch.moments.tolist() == [[[0, 1]], [[2, 3]], [[4, 5]]]


def test_several_moments_are_padded_by_repetition() -> None:
    padded = stack_moments([torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0], [4.0, 5.0]])])
    assert padded.tolist() == [[[0, 1], [0, 1]], [[2, 3], [4, 5]]]


def test_withheld_answers_leave_no_moments() -> None:
    withheld = Sample(torch.zeros(4, 3), torch.ones(1, 2), None, record("b", (0, 1)))
    assert Batch.collate([sample("a", (0, 1)), withheld]).moments is None


def test_batches_of_an_epoch_hold_every_video_once_and_differ_by_epoch() -> None:
    first, second = (epoch_batches(10, 4, seed=0, epoch=epoch) for epoch in (1, 2))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(itertools.chain(*first)) == list(range(10))
    assert first != second
    assert first == epoch_batches(10, 4, seed=0, epoch=1)


def test_queries_are_drawn_anew_each_epoch_and_stay_in_order(
    tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
) -> None:
    dataset = train_set(tiny(data=dataset_files))
    draws = [[r.queries for r in dataset.draw(1, seed=0, epoch=epoch).records] for epoch in range(1, 9)]
    assert all(len(queries) == 1 for draw in draws for queries in draw)
    several = next(i for i, record in enumerate(dataset.records) if len(record.queries) > 1)
    assert len({draw[several] for draw in draws}) > 1
    assert [r.queries for r in dataset.draw(1, seed=0, epoch=1).records] == draws[0]
    assert dataset.draw(99, 0, 1).records == dataset.records
    assert dataset.draw(None, 0, 1) is dataset
    assert len(dataset[several].queries) > 1  # the dataset itself is left alone


def test_parts_of_processes_make_up_the_batch_in_order() -> None:
    assert [part_of([5, 6, 7, 8, 9], process, 2) for process in range(2)] == [[5, 6], [7, 8, 9]]
    assert [part_of([5], process, 2) for process in range(2)] == [[5], [5]]  # not one each: both take it whole


def test_dataset_reads_and_resamples(tiny: Callable[..., RunConfig], dataset_files: dict[str, str]) -> None:
    dataset = train_set(tiny(data=dataset_files))
    (batch,) = load_batches(dataset, [[0, 1]])
    assert batch.video.shape == (2, 16, 6)
    norms = dataset[0].video.norm(dim=1)
    assert (norms <= 1 + 1e-6).all()
    assert batch.records[0].video_id == "v0"


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_the_same(
    workers: int, tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
) -> None:
    dataset = train_set(tiny(data=dataset_files))
    batches = list(load_batches(dataset, [[0], [3, 2]], workers))
    assert [[r.video_id for r in batch.records] for batch in batches] == [["v0"], ["v3", "v2"]]
    torch.testing.assert_close(batches[1].video[1], dataset[2].video)


def test_missing_features_are_named(tiny: Callable[..., RunConfig], dataset_files: dict[str, str]) -> None:
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    with pytest.raises(DataError) as caught:
        source.dataset([*source.split("train"), record("other", (0, 1))], config.model, {})
    assert str(caught.value) == (
        f"1 of 8 videos have no features in {dataset_files['video_features']}, the first being 'other': extract "
        "them, or see `mrnet data check`"
    )


def test_videos_without_a_query_are_left_out(
    tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
) -> None:
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    records = [VideoRecord("unasked", 3.0, ()), *source.split("val")]
    assert source.dataset(records, config.model, {}).records == records[1:]
    with pytest.raises(DataError) as caught:
        source.dataset(records[:1], config.model, {})
    assert str(caught.value) == "the annotations hold no query: there is nothing to learn or to evaluate"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often features were resampled since the test began."""
    counted: Counter[str] = Counter()
    original = dataset_module.resample

    def resample(rows: torch.Tensor, num_rows: int) -> torch.Tensor:
        counted["resample"] += 1
        return original(rows, num_rows)

    monkeypatch.setattr(dataset_module, "resample", resample)
    return counted


def epochs(dataset: MomentDataset, count: int) -> list[list[Sample]]:
    """The samples of some epochs, one query of each video."""
    drawn = [dataset.draw(1, seed=0, epoch=epoch) for epoch in range(1, count + 1)]
    return [[one[index] for index in range(len(one))] for one in drawn]


def test_features_are_resampled_once(
    tiny: Callable[..., RunConfig],
    dataset_files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    calls: Counter[str],
) -> None:
    (tmp_path / "run").mkdir()
    dataset = train_set(tiny(data=dataset_files))
    before = [dataset[index] for index in range(len(dataset))]
    calls.clear()
    dataset.resample_once(tmp_path / "run")
    assert calls["resample"] == len(dataset) == 7
    monkeypatch.setattr(dataset.video_store, "read", lambda _: pytest.fail("read again"))
    for samples in epochs(dataset, 3):
        assert [one.video.tolist() for one in samples] == [one.video.tolist() for one in before]
    after = [dataset[index] for index in range(len(dataset))]
    assert calls["resample"] == 7  # in all of these epochs
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.video, other.video)
        assert one.record == other.record
    assert not list((tmp_path / "run").iterdir())
    batch = next(load_batches(after, [[0, 1]]))  # type: ignore[arg-type]
    batch.video.zero_()  # a copy
    assert after[0].video.any()


@pytest.mark.parametrize("fault", ["little room", "no folder"])
def test_without_room_features_are_read_each_time(
    fault: str,
    tiny: Callable[..., RunConfig],
    dataset_files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    calls: Counter[str],
) -> None:
    dataset = train_set(tiny(data=dataset_files))
    before = [dataset[index] for index in range(len(dataset))]
    if fault == "little room":
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    dataset.resample_once(tmp_path if fault == "little room" else tmp_path / "none")
    reason = {
        "little room": "there is too little room on the disk",
        "no folder": f"[Errno 2] No such file or directory: '{tmp_path / 'none'}'",
    }[fault]
    assert caplog.messages == [f"features are read and resampled anew in each epoch: {reason}"]
    calls.clear()
    for samples in epochs(dataset, 2):
        assert all(torch.equal(one.video, other.video) for one, other in zip(before, samples, strict=True))
    assert calls["resample"] == 14


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_a_process_that_reads_are_handed_over_as_they_are(workers: int) -> None:
    class Damaged:
        def __getitem__(self, index: int) -> Sample:
            if index == 1:
                raise FeatureError("videos.h5: video 'b' cannot be read: make it anew")
            return sample("a", (0, 1))

    batches = load_batches(Damaged(), [[0], [0, 1]], workers)  # type: ignore[arg-type]
    assert next(batches).records[0].video_id == "a"
    with pytest.raises(FeatureError) as caught:
        next(batches)
    assert str(caught.value) == "videos.h5: video 'b' cannot be read: make it anew"
