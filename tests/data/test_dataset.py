"""Batches, shares of processes, and where features come from."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mrnet.config import DataConfig, RunConfig
from mrnet.data.dataset import (
    Batch,
    Sample,
    epoch_batches,
    load_batches,
    share,
    stack_moments,
)
from mrnet.data.sources import check_provenance, hold_out, open_source
from mrnet.errors import ConfigError, DataError, FeatureShapeError
from mrnet.features.store.writer import write_store
from mrnet.provenance import Provenance
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
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    dataset = source.dataset(source.records(dataset_files["train"]), config)
    draws = [[r.queries for r in dataset.draw(1, seed=0, epoch=epoch).records] for epoch in range(1, 9)]
    assert all(len(queries) == 1 for draw in draws for queries in draw)
    several = next(i for i, record in enumerate(dataset.records) if len(record.queries) > 1)
    assert len({draw[several] for draw in draws}) > 1
    assert [r.queries for r in dataset.draw(1, seed=0, epoch=1).records] == draws[0]
    assert dataset.draw(99, 0, 1).records == dataset.records
    assert dataset.draw(None, 0, 1) is dataset
    assert len(dataset[several].queries) > 1  # the dataset itself is left alone


def test_shares_of_processes_make_up_the_batch_in_order() -> None:
    assert [share([5, 6, 7, 8, 9], process, 2) for process in range(2)] == [[5, 6], [7, 8, 9]]
    assert [share([5], process, 2) for process in range(2)] == [[5], [5]]  # not one each: both take it whole


def test_hold_out_splits_by_video_and_never_changes() -> None:
    records = [record(f"v{i}", (0, 1)) for i in range(20)]
    train, val = hold_out(records, 0.1)
    assert len(val) == 2
    assert {r.video_id for r in train} | {r.video_id for r in val} == {f"v{i}" for i in range(20)}
    assert hold_out(records[::-1], 0.1)[1] == val[::-1]
    with pytest.raises(DataError, match="1 training videos are too few to hold out 1 for validation"):
        hold_out(records[:1], 0.1)


def test_dataset_reads_and_resamples(tiny: Callable[..., RunConfig], dataset_files: dict[str, str]) -> None:
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    dataset = source.dataset(source.records(dataset_files["train"]), config)
    (batch,) = load_batches(dataset, [[0, 1]])
    assert batch.video.shape == (2, 16, 6)
    norms = dataset[0].video.norm(dim=1)
    assert (norms <= 1 + 1e-6).all()
    assert batch.records[0].video_id == "v0"


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_the_same(
    workers: int, tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
) -> None:
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    dataset = source.dataset(source.records(dataset_files["train"]), config)
    batches = list(load_batches(dataset, [[0], [3, 2]], workers))
    assert [[r.video_id for r in batch.records] for batch in batches] == [["v0"], ["v3", "v2"]]
    torch.testing.assert_close(batches[1].video[1], dataset[2].video)


def test_missing_features_are_named(tiny: Callable[..., RunConfig], dataset_files: dict[str, str]) -> None:
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    with pytest.raises(
        DataError, match=r"1 of 1 videos have no features in .*videos\.h5, the first being 'other'"
    ):
        source.dataset([record("other", (0, 1))], config)


def test_features_of_another_backbone_are_refused(
    tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
) -> None:
    config = tiny(data=dataset_files, video_provenance={"backbone": "c3d", "dim": 6})
    source = open_source(config.data)
    with pytest.raises(
        FeatureShapeError, match="video features come from 'random', the model was trained on 'c3d'"
    ):
        source.dataset(source.records(dataset_files["train"]), config)


def test_no_features_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.video_features is not set: add --set"):
        open_source(DataConfig())


def test_durations_an_annotation_lacks_come_from_the_rate_of_the_features(tmp_path: Path) -> None:
    rows = np.ones((30, 6), dtype=np.float32)
    write_store(tmp_path / "f.h5", [("v", rows)], Provenance(backbone="b", dim=6, rows_per_s=2.0))
    (tmp_path / "own.jsonl").write_text(json.dumps({"video": "v", "start": 1, "end": 3, "query": "a dog"}) + "\n")
    source = open_source(DataConfig(video_features=str(tmp_path / "f.h5")))
    (found,) = source.records(str(tmp_path / "own.jsonl"))
    assert found.duration_s == 15.0


def test_features_of_another_revision_are_refused() -> None:
    one, two = (Provenance(backbone="b", dim=2, revision=revision) for revision in "12")
    check_provenance(one, one, "video", "data.video_features")
    check_provenance(None, two, "video", "data.video_features")
    with pytest.raises(
        FeatureShapeError, match="come from 'b' revision 1, the model was trained on 'b' revision 2"
    ):
        check_provenance(one, two, "video", "data.video_features")


def test_a_refusal_says_which_command_makes_the_right_features() -> None:
    other = Provenance(backbone="c3d", dim=2)
    ours = Provenance(backbone="color-hog-motion", dim=492, rows_per_s=2.0, revision="1")
    with pytest.raises(FeatureShapeError) as refused:
        check_provenance(other, ours, "video", "data.video_features")
    assert str(refused.value) == (
        "the video features come from 'c3d', the model was trained on 'color-hog-motion' revision 1: point "
        "data.video_features at features of that backbone: mrnet features video VIDEOS --backbone "
        "color-hog-motion --rate 2 --out FEATURES.h5"
    )


def resampled(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> tuple[list[Sample], list[Sample]]:
    """The samples of a split before and after its features were resampled once, and may be read no more."""
    source = open_source(config.data)
    dataset = source.dataset(source.split(config.data, "train"), config)
    before = [dataset[index] for index in range(len(dataset))]
    dataset.resample_once(folder)
    if dataset._resampled:
        monkeypatch.setattr(dataset.video_store, "read", lambda _: pytest.fail("read again"))
    drawn = dataset.draw(1, seed=0, epoch=1)
    assert [drawn[index].video.tolist() for index in range(len(drawn))] == [one.video.tolist() for one in before]
    return before, [dataset[index] for index in range(len(dataset))]


def test_features_are_resampled_once(
    tiny: Callable[..., RunConfig], dataset_files: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    before, after = resampled(tiny(data=dataset_files), monkeypatch, tmp_path / "run")
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.video, other.video)
        assert one.record == other.record
    assert not list((tmp_path / "run").iterdir())
    batch = next(load_batches([after[0], after[1]], [[0, 1]]))  # type: ignore[arg-type]
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
) -> None:
    if fault == "little room":
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    before, after = resampled(
        tiny(data=dataset_files), monkeypatch, tmp_path if fault == "little room" else tmp_path / "none"
    )
    assert all(torch.equal(one.video, other.video) for one, other in zip(before, after, strict=True))
    assert "features are read and resampled anew in each epoch" in caplog.text
