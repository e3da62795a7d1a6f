"""From the paths of a configuration to records and features."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.config.data import DataConfig
from mrnet.config.run import RunConfig
from mrnet.data.annotations import read_annotations
from mrnet.data.sources import check_provenance, file_name, open_source
from mrnet.errors import ConfigError, DataError, FeatureShapeError
from mrnet.features.store.writer import write_store
from mrnet.media.audio import write_audio
from mrnet.media.video import write_video
from mrnet.provenance import Provenance
from mrnet.types import VideoRecord


def annotate(path: Path, *video_ids: str, audios: bool = False) -> Path:
    """Two queries of each video, in the form of ActivityNet or of ActivityNet Speech."""
    record: dict[str, Any] = {"duration": 9.0, "timestamps": [[0, 3], [4, 8]], "sentences": ["a dog", "a cat"]}
    tree = {
        video_id: record | ({"audios": [f"{video_id}_{i}.wav" for i in range(2)]} if audios else {})
        for video_id in video_ids
    }
    path.write_text(json.dumps(tree))
    return path


def ids(records: list[VideoRecord]) -> list[str]:
    return [record.video_id for record in records]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Features of the videos a to j, two rows a second."""
    rows = [(name, np.full((18, 2), i, np.float32)) for i, name in enumerate("abcdefghij")]
    write_store(tmp_path / "videos.h5", rows, Provenance(backbone="b", dim=2, rows_per_s=2.0))
    return tmp_path / "videos.h5"


class TestSplit:
    def test_a_file_or_several_read_as_one(self, tmp_path: Path, videos: Path) -> None:
        first, second = annotate(tmp_path / "1.json", "a", "b"), annotate(tmp_path / "2.json", "c")
        data = DataConfig.model_validate(
            {
                "train": [str(first), str(second)],
                "val": str(second),
                "test": str(first),
                "video_features": str(videos),
            }
        )
        assert (data.train, data.val, data.test) == ([str(first), str(second)], [str(second)], [str(first)])
        source = open_source(data)
        assert ids(source.split("train")) == ["a", "b", "c"]
        assert source.split("train") == read_annotations([first, second])
        assert ids(source.split("val")) == ["c"]
        assert ids(source.split("test")) == ["a", "b"]

    def test_a_query_of_two_files_is_refused(self, tmp_path: Path, videos: Path) -> None:
        rows = json.dumps({"video": "a", "start": 1, "end": 3, "query": "a dog", "qid": "q1"}) + "\n"
        (tmp_path / "1.jsonl").write_text(rows)
        (tmp_path / "2.jsonl").write_text(rows.replace('"a dog"', '"a cat"'))
        files = [str(tmp_path / f"{i}.jsonl") for i in (1, 2)]
        source = open_source(DataConfig(train=files, val=["v.json"], video_features=str(videos)))
        with pytest.raises(DataError) as caught:
            source.split("train")
        assert str(caught.value) == (
            f'{files[1]}: line 1: qid "q1" was used before, for the sentence "a dog"; give every query its own'
        )

    def test_without_val_some_of_train_are_held_out(self, tmp_path: Path, videos: Path) -> None:
        files = [str(annotate(tmp_path / "1.json", *"abcdef")), str(annotate(tmp_path / "2.json", *"ghij"))]
        data = DataConfig(train=files, test=files[:1], val_fraction=0.2, video_features=str(videos))
        source = open_source(data)
        train, val = source.split("train"), source.split("val")
        assert ids(val) == ["f", "h"]  # by the hash of their names
        assert ids(train) == [*"abcdegij"]
        assert ids(source.split("test")) == [*"abcdef"]  # nothing is taken from it
        with_val = open_source(data.model_copy(update={"val": files[:1]}))
        assert ids(with_val.split("train")) == [*"abcdefghij"]

    def test_a_fraction_of_0_holds_none_out(self, tmp_path: Path, videos: Path) -> None:
        files = [str(annotate(tmp_path / "1.json", *"abc"))]
        source = open_source(DataConfig(train=files, val_fraction=0, video_features=str(videos)))
        assert ids(source.split("train")) == ["a", "b", "c"]
        assert source.split("val") == []

    def test_in_the_kinds_that_are_asked_for(self, tmp_path: Path, videos: Path) -> None:
        annotations = annotate(tmp_path / "1.json", "a", audios=True)
        speech = [(f"a_{i}", np.full((1, 3), i, np.float32)) for i in range(2)]
        write_store(tmp_path / "speech.h5", speech, Provenance(backbone="s", dim=3))
        data = DataConfig(
            test=[str(annotations)],
            video_features=str(videos),
            speech_features=str(tmp_path / "speech.h5"),
            query_kinds=["text", "speech"],
        )
        source = open_source(data)
        both, text, speech_only = (source.split("test", kinds) for kinds in (None, ["text"], ["speech"]))
        assert [query.qid for query in both[0].queries] == [
            "a#0 (text)", "a#0 (speech)", "a#1 (text)", "a#1 (speech)",
        ]  # fmt: skip
        assert [(query.qid, query.kind) for query in text[0].queries] == [("a#0", "text"), ("a#1", "text")]
        assert [(q.qid, q.kind) for q in speech_only[0].queries] == [("a#0", "speech"), ("a#1", "speech")]

    @pytest.mark.parametrize("name", ["train", "test"])
    def test_not_set(self, name: Any, videos: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            open_source(DataConfig(video_features=str(videos))).split(name)
        assert str(caught.value) == f"data.{name} is not set: add --set data.{name}=ANNOTATIONS"

    def test_neither_train_nor_val(self, videos: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            open_source(DataConfig(video_features=str(videos))).split("val")
        assert str(caught.value) == "data.val is not set: add --set data.val=ANNOTATIONS"

    def test_durations_an_annotation_lacks_come_from_the_rate_of_the_features(
        self, tmp_path: Path, videos: Path
    ) -> None:
        row = {"video": "a", "start": 1, "end": 3, "query": "a dog"}
        (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n")
        source = open_source(DataConfig(test=[str(tmp_path / "own.jsonl")], video_features=str(videos)))
        (found,) = source.split("test")
        assert found.duration_s == 9.0


class TestOpen:
    def test_no_features_named(self) -> None:
        with pytest.raises(ConfigError) as caught:
            open_source(DataConfig())
        assert str(caught.value) == (
            "data.video_features is not set: add --set data.video_features=PATH (a store or a folder)"
        )

    def test_text_from_the_sentences_or_from_a_store(self, tmp_path: Path, videos: Path) -> None:
        data = DataConfig(test=[str(annotate(tmp_path / "1.json", "a"))], video_features=str(videos))
        source = open_source(data)
        assert source.query_widths == {"text": 512}
        (record,) = source.split("test")
        assert source.queries(record.queries).shape == (2, 512)
        assert {m: provenance.backbone for m, provenance in source.provenances.items()} == {
            "video": "b",
            "text": "hashed-words",
        }
        rows = [(f"a#{i}", np.full((1, 3), i + 1, np.float32)) for i in range(2)]
        write_store(tmp_path / "text.h5", rows, Provenance(backbone="t", dim=3))
        source = open_source(data.model_copy(update={"text_features": str(tmp_path / "text.h5")}))
        assert source.query_widths == {"text": 3}
        assert source.queries(record.queries).tolist() == [[1, 1, 1], [2, 2, 2]]
        assert source.provenances["text"] == Provenance(backbone="t", dim=3)

    def test_speech_alone(self, tmp_path: Path, videos: Path) -> None:
        annotations = annotate(tmp_path / "1.json", "a", audios=True)
        data = DataConfig(test=[str(annotations)], video_features=str(videos), query_kinds=["speech"])
        with pytest.raises(ConfigError) as caught:
            open_source(data)
        assert str(caught.value) == (
            "data.speech_features is not set: speech queries need --set data.speech_features=PATH (a store, or a "
            "folder of sound files)"
        )
        rows = [(f"a_{i}", np.full((1, 2), i + 3, np.float32)) for i in range(2)]
        write_store(tmp_path / "speech.h5", rows, Provenance(backbone="s", dim=2))
        source = open_source(data.model_copy(update={"speech_features": str(tmp_path / "speech.h5")}))
        (record,) = source.split("test")
        assert source.queries(record.queries).tolist() == [[3, 3], [4, 4]]
        assert source.query_widths == {"speech": 2}
        assert source.provenances == {
            "video": Provenance(backbone="b", dim=2, rows_per_s=2.0),
            "speech": Provenance(backbone="s", dim=2),
        }

    @pytest.mark.parametrize("order", [["text", "speech"], ["speech", "text"]])
    def test_text_fills_the_first_columns_however_the_kinds_are_named(
        self, order: Any, tmp_path: Path, videos: Path
    ) -> None:
        annotations = annotate(tmp_path / "1.json", "a", audios=True)
        for kind, width in (("text", 1), ("speech", 2)):
            rows = [(f"a_{i}", np.full((1, width), width + 2 * i, np.float32)) for i in range(2)]
            write_store(tmp_path / f"{kind}.h5", rows, Provenance(backbone=kind, dim=width))
        data = DataConfig(
            test=[str(annotations)],
            video_features=str(videos),
            text_features=str(tmp_path / "text.h5"),
            speech_features=str(tmp_path / "speech.h5"),
            query_kinds=order,
        )
        source = open_source(data)
        assert list(source.query_widths.items()) == [("text", 1), ("speech", 2)]
        (record,) = source.split("test", ["text", "speech"])
        assert source.queries(record.queries).tolist() == [[1, 0, 0], [0, 2, 2], [3, 0, 0], [0, 4, 4]]

    def test_published_features_say_nothing_of_how_they_were_made(self, tmp_path: Path) -> None:
        (tmp_path / "c3d").mkdir()
        np.save(tmp_path / "c3d" / "a.npy", np.ones((4, 2), np.float32))
        source = open_source(DataConfig(video_features=str(tmp_path / "c3d")))
        assert list(source.provenances) == ["text"]
        assert source.duration_s("a") is None
        assert (source.files, source.pca) == ({}, None)

    def test_folders_of_media_are_encoded_once_beside_themselves(self, tmp_path: Path) -> None:
        (tmp_path / "videos").mkdir()
        (tmp_path / "sounds").mkdir()
        write_video(
            tmp_path / "videos" / "a.mp4", (np.full((32, 32, 3), 9 * i, np.uint8) for i in range(16)), fps=8
        )
        rng = np.random.default_rng(0)
        for i in range(2):
            write_audio(tmp_path / "sounds" / f"a_{i}.wav", rng.uniform(-0.3, 0.3, 16_000).astype(np.float32))
        data = DataConfig(
            video_features=str(tmp_path / "videos"),
            speech_features=str(tmp_path / "sounds"),
            query_kinds=["speech"],
        )
        source = open_source(data)
        made = [tmp_path / "videos.color-hog-motion.h5", tmp_path / "sounds.speech-embedding.h5"]
        before = [path.stat().st_mtime_ns for path in made]
        assert source.files == {"a": tmp_path / "videos" / "a.mp4"}
        assert source.duration_s("a") == 2.0
        assert source.videos.path == made[0]
        assert source.provenances["video"].backbone == "color-hog-motion"
        assert source.provenances["speech"].backbone == "speech-embedding"
        open_source(data)
        assert [path.stat().st_mtime_ns for path in made] == before

    @pytest.mark.parametrize(
        ("backbone", "name"),
        [("color-hog-motion", "color-hog-motion"), ("hf:openai/clip_b.16", "hf-openai-clip_b.16")],
    )
    def test_name_of_the_store_that_is_made(self, backbone: str, name: str) -> None:
        assert file_name(backbone) == name


class TestProvenance:
    def test_features_of_another_backbone_are_refused(
        self, tiny: Callable[..., RunConfig], dataset_files: dict[str, str]
    ) -> None:
        config = tiny(data=dataset_files)
        source = open_source(config.data)
        records = source.split("train")
        for modality, own in (("video", "random"), ("text", "random")):
            expected: Any = {modality: Provenance(backbone="c3d", dim=6)}
            with pytest.raises(FeatureShapeError) as caught:
                source.dataset(records, config.model, expected)
            assert str(caught.value) == (
                f"the {modality} features come from '{own}', the model was trained on 'c3d': point "
                f"data.{modality}_features at features of that backbone"
            )
        assert len(source.dataset(records, config.model, dict(source.provenances))) == 7
        assert len(source.dataset(records, config.model, {})) == 7

    def test_features_of_another_revision_are_refused(self) -> None:
        one, two = (Provenance(backbone="b", dim=2, revision=revision) for revision in "12")
        check_provenance(one, one, "video")
        check_provenance(None, two, "video")
        check_provenance(one, None, "video")
        with pytest.raises(FeatureShapeError) as caught:
            check_provenance(one, two, "video")
        assert str(caught.value) == (
            "the video features come from 'b' revision 1, the model was trained on 'b' revision 2: point "
            "data.video_features at features of that backbone"
        )

    def test_a_refusal_says_which_command_makes_the_right_features(self) -> None:
        other = Provenance(backbone="c3d", dim=2)
        ours = Provenance(backbone="color-hog-motion", dim=492, rows_per_s=2.0, revision="1")
        with pytest.raises(FeatureShapeError) as refused:
            check_provenance(other, ours, "video")
        assert str(refused.value) == (
            "the video features come from 'c3d', the model was trained on 'color-hog-motion' revision 1: point "
            "data.video_features at features of that backbone: mrnet features video VIDEOS --backbone "
            "color-hog-motion --rate 2 --out FEATURES.h5"
        )
