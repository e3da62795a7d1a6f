"""What `check_dataset` finds in data sets with planted faults, and how it tells them."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mrnet.data.check import CheckReport, Problem, check_dataset, format_report
from mrnet.errors import DataError, FeatureError
from mrnet.features.store.writer import write_store
from mrnet.media.video import write_video
from mrnet.provenance import Provenance

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "annotations"


def _annotate(tmp_path: Path, *videos: str) -> Path:
    record = {"duration": 10, "timestamps": [[0, 1]], "sentences": ["x"]}
    path = tmp_path / "ann.json"
    path.write_text(json.dumps(dict.fromkeys(videos, record)))
    return path


def _rows(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def _found(report: CheckReport) -> dict[tuple[str, str], tuple[int, tuple[str, ...]]]:
    return {(item.kind, item.severity): (item.count, item.examples) for item in report.problems}


class TestAnnotations:
    def test_sound(self, tmp_path: Path) -> None:
        report = check_dataset(_annotate(tmp_path, "a", "b"), None)
        assert report == CheckReport([], 2, 2, None)
        assert report.ok
        assert format_report(report) == "2 videos, 2 queries\nno problems found"

    def test_every_fault_of_a_row_file(self, tmp_path: Path) -> None:
        row = {"video": "a", "start": 1, "end": 2, "query": "x", "duration": 10}
        report = check_dataset(
            _rows(
                tmp_path,
                row | {"qid": "q"},
                row | {"start": -1},
                row | {"end": 11},
                row | {"start": 5, "end": 4},
                row | {"start": 5, "end": 5},
                row | {"start": 50, "end": 60},
                row | {"end": float("nan")},
                row | {"query": "  "},
                row | {"qid": "q", "query": "y"},
                row | {"video": "b", "duration": -3},
                row | {"video": "c", "duration": float("nan")},
                row | {"video": "d", "duration": None},
                {"video": "a"},
            ),
            None,
        )
        assert not report.ok
        assert (report.videos, report.queries) == (4, 6)
        assert [(item.kind, item.severity, item.count) for item in report.problems] == [
            ("moment ends before it starts", "error", 1),
            ("moment of no length", "error", 1),
            ("moment outside the video", "error", 1),
            ("bad time", "error", 1),
            ("empty sentence", "error", 1),
            ("duplicate id", "error", 1),
            ("bad duration", "error", 2),
            ("malformed entry", "error", 1),
            ("moment outside the video", "warning", 2),
            ("no duration", "warning", 1),
        ]
        found = _found(report)
        assert found["moment outside the video", "warning"][1] == (
            "line 2: `start, end` is [-1, 2]: it reaches out of the 10 s of the video and is cut to it",
            "line 3: `start, end` is [1, 11]: it reaches out of the 10 s of the video and is cut to it",
        )
        assert found["duplicate id", "error"][1] == (
            'line 9: qid "q" was used before, for the sentence "x"; give every query its own',
        )

    def test_odd_moments_of_a_published_file_are_warnings(self, tmp_path: Path) -> None:
        path = tmp_path / "ann.json"
        moments = [[6, 2], [4, 4], [12, 15]]
        record = {"duration": 10, "timestamps": moments, "sentences": ["a", "b", "c"]}
        empty = {"duration": 10, "timestamps": [], "sentences": []}
        path.write_text(json.dumps({"v": record, "w": empty}))
        report = check_dataset(path, None)
        assert report.ok
        assert (report.videos, report.queries) == (1, 3)
        assert [(item.kind, item.severity, item.count) for item in report.problems] == [
            ("moment ends before it starts", "warning", 1),
            ("moment of no length", "warning", 1),
            ("moment outside the video", "warning", 1),
            ("video without queries", "warning", 1),
        ]

    def test_video_twice(self, tmp_path: Path) -> None:
        record = '{"duration": 10, "timestamps": [[0, 1]], "sentences": ["a"]}'
        path = tmp_path / "ann.json"
        path.write_text(f'{{"v": {record}, "v": {record}}}')
        assert _found(check_dataset(path, None)) == {
            ("duplicate id", "error"): (
                1,
                ('key "v": there more than once in one object; merge or remove it',),
            )
        }

    def test_unreadable_as_a_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "ann.json"
        path.write_text("{")
        with pytest.raises(DataError, match="line 1, column 2: not JSON"):
            check_dataset(path, None)


class TestFeatures:
    def test_every_fault_of_a_folder(self, tmp_path: Path) -> None:
        annotations = _annotate(tmp_path, "good1", "good2", "wide", "nan", "none", "torn", "twice", "v_away")
        folder = tmp_path / "features"
        folder.mkdir()
        for name in ("good1", "good2", "twice", "unused", "v_awry"):
            np.save(folder / f"{name}.npy", np.ones((4, 3)))
        np.save(folder / "wide.npy", np.ones((4, 5)))
        np.save(folder / "nan.npy", np.array([[0.0, 1, 2], [0, np.nan, 2], [np.inf, 0, 0]]))
        np.save(folder / "none.npy", np.ones((0, 3)))
        (folder / "torn.npy").write_bytes((folder / "good1.npy").read_bytes()[:90])
        with h5py.File(folder / "twice.h5", "w") as file:
            file["feature"] = np.ones((4, 3))
        report = check_dataset(annotations, folder)
        assert not report.ok
        assert report.feature_files == 9
        assert _found(report) == {
            ("duplicate features", "error"): (1, ("twice.h5, twice.npy: keep one of these",)),
            ("wrong width", "error"): (1, ('"wide" has rows of width 5; 3 is that of most',)),
            ("features not finite", "error"): (
                1,
                ('"nan": NaN or infinity in 2 of 3 rows, first in row 1',),
            ),
            ("empty features", "error"): (1, ('"none" has no rows; extract its features again',)),
            ("unreadable features", "error"): (
                1,
                (f"{folder / 'torn.npy'}: cannot be read; the file may be truncated, get it again",),
            ),
            ("missing features", "error"): (
                1,
                ('"v_away" is annotated but has no features (close: "v_awry")',),
            ),
            ("unused features", "note"): (
                2,
                (
                    '"unused" has features but is not annotated',
                    '"v_awry" has features but is not annotated',
                ),
            ),
        }

    def test_given_width(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["a/c3d_features"] = np.ones((2, 3))
        report = check_dataset(_annotate(tmp_path, "a"), tmp_path / "f.h5", dim=500)
        assert report.problems == [
            Problem("wrong width", "error", 1, ('"a" has rows of width 3; 500 was asked for',))
        ]

    def test_unused_features_do_no_harm(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["a"] = file["b"] = np.ones((2, 3))
        assert check_dataset(_annotate(tmp_path, "a"), tmp_path / "f.h5").ok

    def test_no_features_at_all(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["b"] = np.ones((2, 3))
        report = check_dataset(_annotate(tmp_path, "v1", "v2"), tmp_path / "f.h5")
        assert [(item.kind, item.count) for item in report.problems] == [
            ("missing features", 2),
            ("unused features", 1),
        ]

    def test_store_that_does_not_open(self, tmp_path: Path) -> None:
        with pytest.raises(FeatureError, match="no such file or folder"):
            check_dataset(_annotate(tmp_path, "a"), tmp_path / "none.h5")


def test_report_as_text() -> None:
    report = CheckReport(
        [
            Problem("missing features", "error", 7, ("one", "two", "three", "four", "five")),
            Problem("bad time", "error", 1, ("six",)),
            Problem("unused features", "note", 1, ("seven",)),
        ],
        videos=1,
        queries=3,
        feature_files=2,
    )
    assert format_report(report) == (
        "1 video, 3 queries, features of 2\n"
        "error: missing features: 7\n"
        "    one\n    two\n    three\n    four\n    five\n    … and 2 more\n"
        "error: bad time: 1\n"
        "    six\n"
        "note: unused features: 1\n"
        "    seven\n"
        "2 kinds of error, 1 kind of note"
    )


def test_five_examples_of_many(tmp_path: Path) -> None:
    row = {"video": "a", "start": 1, "end": 2, "query": "", "duration": 10}
    (problem,) = check_dataset(_rows(tmp_path, *[row] * 8), None).problems
    assert problem.count == 8
    assert problem.examples == tuple(f'line {n}: the sentence is ""; write one' for n in range(1, 6))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the published annotation files are not at {REAL}")
@pytest.mark.parametrize(
    ("name", "outside", "reversed_", "empty"),
    [
        ("activitynet/train.json", 29, 2, 2),
        ("activitynet/val.json", 5, 0, 0),
        ("activitynet/test.json", 1, 0, 0),
        ("charades_sta/test.json", 0, 0, 0),
        ("tacos/train.json", 43, 0, 0),
        ("tacos/test.json", 5, 0, 0),
        ("qvhighlights/highlight_val_release.jsonl", 0, 0, 0),
    ],
)
def test_oddities_of_published_files(name: str, outside: int, reversed_: int, empty: int) -> None:
    report = check_dataset(REAL / name, None)
    assert report.ok
    counts = {problem.kind: problem.count for problem in report.problems}
    expected = {
        "moment outside the video": outside,
        "moment ends before it starts": reversed_,
        "moment of no length": empty,
    }
    assert counts == {kind: count for kind, count in expected.items() if count}


def test_lengths_come_from_the_rate_of_the_features_as_in_training(tmp_path: Path) -> None:
    write_store(
        tmp_path / "f.h5",
        [("v", np.ones((10, 2), dtype=np.float32))],
        Provenance(backbone="b", dim=2, rows_per_s=1.0),
    )
    (tmp_path / "own.csv").write_text("video,start,end,query\nv,50,60,a dog\n")
    report = check_dataset(tmp_path / "own.csv", tmp_path / "f.h5")
    assert not report.ok
    assert [problem.kind for problem in report.problems] == ["moment outside the video"]


def test_a_folder_of_videos(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    frames = (np.full((32, 32, 3), 10 * i, dtype=np.uint8) for i in range(16))
    write_video(tmp_path / "videos" / "good.mp4", frames, fps=8)
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "own.csv").write_text("video,start,end,query\ngood,0,1,a\nbad,0,1,b\ngone,0,1,c\ngood,5,6,d\n")
    report = check_dataset(tmp_path / "own.csv", tmp_path / "videos")
    found = {problem.kind: problem.count for problem in report.problems if problem.severity == "error"}
    assert found == {"missing video": 1, "unreadable video": 1, "moment outside the video": 1}
    assert report.feature_files == 2


@pytest.mark.parametrize(("name", "content"), [("a.txt", "\n\n"), ("a.json", "{}"), ("a.vtt", "WEBVTT\n")])
def test_a_file_without_queries_is_no_dataset(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    report = check_dataset(tmp_path / name, None)
    assert [(problem.kind, problem.severity) for problem in report.problems] == [("no queries", "error")]
    assert not report.ok
