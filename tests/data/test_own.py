"""A folder of one's own made into a dataset: checked first, then split and written, all of it or nothing."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.config.recipes import load_recipe
from mrnet.data.annotations import read_annotations
from mrnet.data.own import init_dataset, load_dataset_overlay
from mrnet.documents import parse_yaml
from mrnet.errors import ConfigError, DataError, FeatureError, MRNetError, OutputError
from mrnet.media.video import write_video
from mrnet.types import Query, Span, VideoRecord

WRITTEN = ["dataset.yaml", "test.jsonl", "train.jsonl", "val.jsonl"]
ROWS = "video,start,end,query,qid\n" + "".join(
    f"v{i}.mp4,1,2.5,it brightens,\nv{i},0,1,dark,d{i}\nv{i},3,9,dark,d{i}\n" for i in range(4)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four videos of 4 s in ``videos``, and moments that reach beyond their end."""
    made = tmp_path / "my data"
    (made / "videos").mkdir(parents=True)
    for i in range(4):
        frames = (np.full((32, 32, 3), 8 * k + i, np.uint8) for k in range(8))
        write_video(made / "videos" / f"v{i}.mp4", frames, fps=2)
    (made / "moments.csv").write_text(ROWS)
    return made


def _refused(error: type[MRNetError], folder: Path, *arguments: Any, **options: Any) -> str:
    """The message of a refusal, which leaves the folder as it was."""
    before = _tree(folder)
    with pytest.raises(error) as caught:
        init_dataset(folder, *arguments, **options)
    assert "\n" not in str(caught.value)
    assert _tree(folder) == before
    return str(caught.value)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _written(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in WRITTEN if (folder / name).exists()}


class TestInit:
    def test_what_is_written(self, folder: Path) -> None:
        made = init_dataset(folder)
        assert made.report.ok
        assert {split: len(records) for split, records in made.splits.items()} == {"train": 2, "val": 1, "test": 1}
        assert sorted(path.name for path in folder.iterdir()) == sorted([*WRITTEN, "moments.csv", "videos"])
        for split, records in made.splits.items():
            rows = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
            assert rows == [
                row
                for record in records
                for row in (
                    {"start": 0.0, "end": 1.0, "query": "dark", "qid": f"d{record.video_id[1]}"},
                    {"start": 3.0, "end": 4.0, "query": "dark", "qid": f"d{record.video_id[1]}"},
                    {"start": 1.0, "end": 2.5, "query": "it brightens", "qid": f"{record.video_id}#0"},
                )
                for row in [{"video": f"{record.video_id}.mp4", "duration": 4.0, **row}]
            ]
            assert read_annotations(folder / f"{split}.jsonl") == records
        assert parse_yaml((folder / "dataset.yaml").read_text()) == {
            "name": "my data",
            "model": {"video_dim": 492, "query_dim": 512},
            "data": {
                "train": "train.jsonl",
                "val": "val.jsonl",
                "test": "test.jsonl",
                "video_features": "videos",
                "query_kinds": ["text"],
                "video_backbone": "color-hog-motion",
                "text_backbone": "hashed-words",
            },
        }

    def test_many_files_of_many_formats(self, folder: Path) -> None:
        for path in (folder / "videos").iterdir():
            path.rename(folder / path.name)
        (folder / "moments.csv").write_text("video,start,end,query\nv0,0,1,a\n")
        (folder / "b.jsonl").write_text('{"video": "v1", "start": 0, "end": 1, "query": "caf\\u00e9"}\n')
        (folder / "v2.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nc\n")
        (folder / "v3.json").write_text('{"v3": {"duration": 3, "timestamps": [[2, 1]], "sentences": ["d"]}}')
        (folder / "v0.eaf").write_text(
            '<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="500"/>'
            '<TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="900"/></TIME_ORDER><TIER TIER_ID="t"><ANNOTATION>'
            '<ALIGNABLE_ANNOTATION ANNOTATION_ID="x" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"><ANNOTATION_VALUE>e'
            "</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
        )
        (folder / ".hidden.csv").write_text("not for us")
        (folder / "notes.md").write_text("nor this")
        made = init_dataset(folder)
        found = {record.video_id: record for records in made.splits.values() for record in records}
        assert found == {
            "v0": VideoRecord(
                "v0", 4.0, (Query("a", (Span(0.0, 1.0),), "v0#0"), Query("e", (Span(0.5, 0.9),), "v0#1"))
            ),
            "v1": VideoRecord("v1", 4.0, (Query("caf\u00e9", (Span(0.0, 1.0),), "v1#0"),)),
            "v2": VideoRecord("v2", 4.0, (Query("c", (Span(1.0, 2.0),), "v2#0"),)),
            "v3": VideoRecord("v3", 3.0, (Query("d", (Span(1.0, 2.0),), "v3#0"),)),
        }
        assert "caf\u00e9" in "".join(_written(folder)[name].decode() for name in WRITTEN)
        assert load_dataset_overlay(folder)["data"]["video_features"] == str(folder.resolve())

    def test_errors_are_all_told_and_nothing_is_written(self, folder: Path) -> None:
        (folder / "more.csv").write_text(
            "video,start,end,query,qid\nv0,50,60,a,\nv1,0,1,,\nv9,0,1,c,\nv1,0,1,other,d0\n"
        )
        (folder / "videos" / "v3.mp4").write_bytes(b"no video")
        made = init_dataset(folder)
        assert made.splits == {}
        assert _written(folder) == {}
        assert {problem.kind for problem in made.report.problems if problem.severity == "error"} == {
            "moment outside the video",
            "empty sentence",
            "missing video",
            "duplicate id",
            "unreadable video",
        }
        examples = [example for problem in made.report.problems for example in problem.examples]
        assert f'{folder / "more.csv"}: line 3: the sentence is ""; write one' in examples

    def test_named_annotations(self, folder: Path, tmp_path: Path) -> None:
        (folder / "moments.csv").write_text("of something else")
        (tmp_path / "elsewhere.csv").write_text(ROWS)
        assert init_dataset(folder, [tmp_path / "elsewhere.csv"]).report.queries == 8

    def test_an_id_that_ends_like_a_file(self, folder: Path) -> None:
        for i in range(4):
            (folder / "videos" / f"v{i}.mp4").rename(folder / "videos" / f"v{i}.avi.mp4")
        rows = "".join(f"v{i}.avi.mp4,0,1,a\n" for i in range(4))
        (folder / "moments.csv").write_text(f"video,start,end,query\n{rows}")
        made = init_dataset(folder)
        assert read_annotations(folder / "train.jsonl") == made.splits["train"]


class TestAgain:
    def test_same_inputs_same_files(self, folder: Path) -> None:
        init_dataset(folder)
        written = _written(folder)
        assert _refused(DataError, folder) == (
            f"{folder}: is a dataset already, by its dataset.yaml; make it anew with --force"
        )
        init_dataset(folder, force=True)
        assert _written(folder) == written

    @pytest.mark.parametrize("name", WRITTEN)
    @pytest.mark.parametrize("force", [False, True])
    def test_files_of_others_are_kept(self, folder: Path, name: str, force: bool) -> None:
        (folder / name).write_text("mine")
        assert _refused(DataError, folder, force=force) == (
            f"{folder}: holds {name}, which an earlier `mrnet data init` did not finish or did not write; rename or "
            "remove it"
        )

    def test_its_own_output_is_no_annotation(self, folder: Path) -> None:
        init_dataset(folder)
        path = folder / "train.jsonl"
        assert _refused(DataError, folder, [path], force=True) == (
            f"{path}: is what this command writes; give the annotations that it was made from"
        )

    def test_a_full_disk_leaves_nothing(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_bytes = Path.write_bytes

        def full(path: Path, content: bytes) -> int:
            if "test" in path.name:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write_bytes(path, content)

        monkeypatch.setattr(Path, "write_bytes", full)
        assert _refused(OutputError, folder) == (
            f"{folder}: cannot be written (No space left on device); choose another place"
        )


class TestRefuses:
    def test_no_videos(self, tmp_path: Path) -> None:
        assert _refused(DataError, tmp_path / "x") == (
            f"{tmp_path / 'x'}: no such folder; name the folder with your videos"
        )
        assert _refused(DataError, tmp_path) == (
            f"{tmp_path}: no videos in it, nor in {tmp_path / 'videos'}; put them there"
        )

    def test_no_annotations(self, folder: Path) -> None:
        (folder / "moments.csv").rename(folder / "moments.doc")
        assert _refused(DataError, folder) == (
            f"{folder}: no annotations in it (.csv, .jsonl, .vtt, .eaf, .json); put them there, or name them with "
            "--moments"
        )
        assert _refused(DataError, folder, [folder / "gone.csv"]) == (
            f"{folder / 'gone.csv'}: cannot be read (No such file or directory); give the annotation file"
        )

    def test_too_few_videos(self, folder: Path) -> None:
        (folder / "moments.csv").write_text("video,start,end,query\nv0,0,1,a\nv1,0,1,b\n")
        assert _refused(DataError, folder) == (
            "2 annotated videos are too few for train, val and test: annotate at least 3"
        )

    def test_moments_that_rows_cannot_have(self, folder: Path) -> None:
        record = {"duration": 4, "timestamps": [[0, 1], [2, 2]], "sentences": ["a", "b"]}
        (folder / "moments.csv").unlink()
        (folder / "a.json").write_text(json.dumps({f"v{i}": record for i in range(3)}))
        assert _refused(DataError, folder) == (
            '3 queries have no moment, or one of no length within their video, the first being "v0#1": correct '
            "them, or remove them"
        )

    def test_half_a_character(self, folder: Path) -> None:
        (folder / "a.jsonl").write_text('{"video": "v1", "start": 0, "end": 1, "query": "a \\ud83d"}\n')
        result = init_dataset(folder)
        assert [problem.kind for problem in result.report.problems if problem.severity == "error"] == [
            "malformed entry"
        ]
        assert result.report.problems[0].examples == (
            f'{folder / "a.jsonl"}: line 1: the sentence "a \ud83d" holds half a character; write it anew',
        )

    def test_backbone(self, folder: Path) -> None:
        assert "no video backbone is named" in _refused(ConfigError, folder, video_backbone="c4d")
        assert "no text backbone is named" in _refused(ConfigError, folder, text_backbone="glove")

    def test_two_videos_of_one_id(self, folder: Path) -> None:
        (folder / "videos" / "v0.mkv").write_bytes(b"")
        assert "of one id: rename one" in _refused(FeatureError, folder)


class TestOverlay:
    def test_paths_are_absolute(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        init_dataset(folder)
        monkeypatch.chdir(folder.parent)
        overlay = load_dataset_overlay(Path("my data"))
        config = load_recipe("demo", ["data.val_fraction=0.5", "model.dim=32"], overlay)
        root = folder.resolve()
        assert (config.data.train, config.data.video_features) == (
            [str(root / "train.jsonl")],
            str(root / "videos"),
        )
        assert (config.name, config.model.query_dim, config.model.dim) == ("my data", 512, 32)
        assert config.train == load_recipe("demo").train
        assert config.data.val_fraction == 0.5
        (folder / "dataset.yaml").write_text("data: {train: [/else/where.json, b.json], speech_features: sounds}")
        data = load_dataset_overlay(folder)["data"]
        assert data == {
            "train": ["/else/where.json", str(root / "b.json")],
            "speech_features": str(root / "sounds"),
        }

    def test_written_by_hand(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Several files of a split, paths of all kinds of features, and settings beside them."""
        (tmp_path / "dataset.yaml").write_text(
            "name: released\n"
            "model: {video_dim: 500}\n"
            "data:\n"
            "  train: [train.json, ../more.json, /else/where.json]\n"
            "  val: val.json\n"
            "  test: [test.json]\n"
            "  video_features: c3d\n"
            "  text_features: text\n"
            "  speech_features: wav2vec2\n"
            "  query_kinds: [speech]\n"
        )
        monkeypatch.chdir(tmp_path)
        config = load_recipe("activitynet", [], load_dataset_overlay(Path()))
        root = tmp_path.resolve()
        assert config.data.train == [str(root / "train.json"), str(root / "../more.json"), "/else/where.json"]
        assert config.data.val == [str(root / "val.json")]
        assert config.data.test == [str(root / "test.json")]
        assert config.data.video_features == str(root / "c3d")
        assert config.data.text_features == str(root / "text")
        assert config.data.speech_features == str(root / "wav2vec2")
        assert config.data.query_kinds == ["speech"]
        assert (config.name, config.model.video_dim) == ("released", 500)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                None,
                "no such file; make it with `mrnet data init {folder}`, or write one that names the files",
            ),
            (
                "a: [",
                "cannot be read (expected the node content, but found '<stream end>', line 1); make it anew, with "
                "`mrnet data init --force`",
            ),
            (
                "- a",
                "has no section `data`; write one, or make it anew with `mrnet data init --force`",
            ),
            (
                "data: 3",
                "has no section `data`; write one, or make it anew with `mrnet data init --force`",
            ),
        ],
    )
    def test_refuses(self, tmp_path: Path, content: str | None, message: str) -> None:
        if content is not None:
            (tmp_path / "dataset.yaml").write_text(content)
        with pytest.raises(ConfigError) as caught:
            load_dataset_overlay(tmp_path)
        said = " ".join(str(caught.value).split())  # as the command line prints it
        assert said == f"{tmp_path / 'dataset.yaml'}: {message.format(folder=tmp_path)}"

    def test_unknown_key(self, tmp_path: Path) -> None:
        (tmp_path / "dataset.yaml").write_text("data: {tset: x}")
        with pytest.raises(
            ConfigError, match=r"recipe demo with the fields of the dataset: unknown key 'data.tset'"
        ):
            load_recipe("demo", [], load_dataset_overlay(tmp_path))
