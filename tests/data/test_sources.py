"""Where features come from, and which are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrnet.config import DataConfig, RunConfig
from mrnet.data.sources import check_provenance, open_source
from mrnet.errors import ConfigError, FeatureShapeError
from mrnet.features.store.writer import write_store
from mrnet.provenance import Provenance


def test_features_of_another_backbone_are_refused(
    tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
) -> None:
    config = tiny(data=dataset_files)
    source = open_source(config.data)
    with pytest.raises(
        FeatureShapeError, match="video features come from 'random', the model was trained on 'c3d'"
    ):
        source.dataset(source.split("train"), config.model, {"video": Provenance(backbone="c3d", dim=6)})


def test_no_features_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.video_features is not set: add --set"):
        open_source(DataConfig())


def test_durations_an_annotation_lacks_come_from_the_rate_of_the_features(tmp_path: Path) -> None:
    rows = np.ones((30, 6), dtype=np.float32)
    write_store(tmp_path / "f.h5", [("v", rows)], Provenance(backbone="b", dim=6, rows_per_s=2.0))
    (tmp_path / "own.jsonl").write_text(json.dumps({"video": "v", "start": 1, "end": 3, "query": "a dog"}) + "\n")
    source = open_source(DataConfig(video_features=str(tmp_path / "f.h5"), test=str(tmp_path / "own.jsonl")))
    (found,) = source.split("test")
    assert found.duration_s == 15.0


def test_features_of_another_revision_are_refused() -> None:
    one, two = (Provenance(backbone="b", dim=2, revision=revision) for revision in "12")
    check_provenance(one, one, "video")
    check_provenance(None, two, "video")
    with pytest.raises(
        FeatureShapeError, match="come from 'b' revision 1, the model was trained on 'b' revision 2"
    ):
        check_provenance(one, two, "video")


def test_a_refusal_says_which_command_makes_the_right_features() -> None:
    other = Provenance(backbone="c3d", dim=2)
    ours = Provenance(backbone="color-hog-motion", dim=492, rows_per_s=2.0, revision="1")
    with pytest.raises(FeatureShapeError) as refused:
        check_provenance(other, ours, "video")
    assert str(refused.value) == (
        "the video features come from 'c3d', the model was trained on 'color-hog-motion' revision 1: point "
        "data.video_features at features of that backbone: mrnet features video VIDEOS --backbone "
        "color-hog-motion --rate 2 --out FEATURES.h5"
    )


class TestSplits:
    def test_several_files_are_read_as_one(self, dataset_files: dict[str, str]) -> None:
        both = [dataset_files["train"], dataset_files["val"]]
        data = DataConfig(train=both, video_features=dataset_files["video_features"], val_fraction=0.0)
        source = open_source(data)
        assert [record.video_id for record in source.split("train")] == [f"v{i}" for i in range(10)]

    def test_a_fraction_is_held_out_unless_val_is_named(self, dataset_files: dict[str, str]) -> None:
        files = {"train": dataset_files["train"], "video_features": dataset_files["video_features"]}
        source = open_source(DataConfig(**files, val_fraction=0.3))
        train, val = ({record.video_id for record in source.split(name)} for name in ("train", "val"))
        assert (len(train), len(val)) == (5, 2)
        assert not train & val
        named = open_source(DataConfig(**files, val=dataset_files["val"]))
        assert len(named.split("train")) == 7
        assert [record.video_id for record in named.split("val")] == ["v7", "v8", "v9"]

    def test_nothing_is_held_out_of_a_fraction_of_0(self, dataset_files: dict[str, str]) -> None:
        files = {"train": dataset_files["train"], "video_features": dataset_files["video_features"]}
        source = open_source(DataConfig(**files, val_fraction=0))
        assert len(source.split("train")) == 7
        assert source.split("val") == []

    def test_a_split_that_is_not_named(self, dataset_files: dict[str, str]) -> None:
        source = open_source(DataConfig(video_features=dataset_files["video_features"]))
        with pytest.raises(ConfigError, match=r"^data\.test is not set: add --set data\.test=ANNOTATIONS$"):
            source.split("test")
