"""Prediction files: round trip, faults by line, alignment with annotations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.errors import DataError, OutputError
from mrnet.evaluation.predictions import Prediction, align, read_predictions, write_predictions
from mrnet.types import Moment, Query, Span, VideoRecord

ROW = {"qid": 7, "query": "a dog", "vid": "v", "pred_relevant_windows": [[0, 2.5, 0.9], [4, 6, 0.1]]}
PREDICTION = Prediction("7", "a dog", "v", (Moment(0, 2.5, 0.9), Moment(4, 6, 0.1)))


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_reads_a_file(tmp_path: Path) -> None:
    salient = ROW | {"qid": "b", "pred_relevant_windows": [], "pred_saliency_scores": [1, -0.5]}
    assert read_predictions(file_of(tmp_path, ROW, "", salient, "")) == [
        PREDICTION,
        Prediction("b", "a dog", "v", (), (1.0, -0.5)),
    ]


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    predictions = [
        PREDICTION,
        Prediction("9" * 5000, "a cat", "v", (Moment(0, 1, 1),)),
        Prediction("007", "un café\u2028", "w", (Moment(0.1, 0.2, 1 / 3),), (0.5, 0.25)),
    ]
    path = tmp_path / "out.jsonl"
    path.write_text("an earlier file")
    write_predictions(path, predictions)
    assert read_predictions(path) == predictions
    assert [json.loads(line)["qid"] for line in path.read_text(encoding="utf-8").split("\n") if line] == [
        7,
        "9" * 5000,
        "007",
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("an earlier file")
    with pytest.raises(DataError, match="qid 8: a predicted number is NaN or infinite"):
        write_predictions(path, [PREDICTION, Prediction("8", "", "v", (Moment(0, 1, float("nan")),))])
    assert path.read_text() == "an earlier file"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"out\.jsonl: cannot be written \(File exists\)"):
        write_predictions(tmp_path / "file" / "out.jsonl", [PREDICTION])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r":2: not JSON \(Expecting property name"),
        ([1], r":2: got a JSON list, not an object"),
        (
            {"qid": 1, "query": "", "vid": "v"},
            r":2: key 'pred_relevant_windows' is missing; a line needs qid",
        ),
        (ROW | {"qid": 1.5}, r":2: qid is 1\.5; give a whole number or text"),
        (ROW | {"pred_relevant_windows": None}, r":2: pred_relevant_windows is not a list"),
        (ROW | {"pred_relevant_windows": [[0, 1]]}, r":2: window 1 is \[0, 1\]; give three finite numbers"),
        (ROW | {"pred_relevant_windows": [[0, 1, 1], [0, "1", 1]]}, r":2: window 2 is \[0, '1', 1\]"),
        (ROW | {"pred_relevant_windows": [[0, float("nan"), 1]]}, r":2: window 1 is \[0, nan, 1\]"),
        (ROW | {"pred_relevant_windows": [[5, 4, 1]]}, r":2: window 1 ends at 4 s, before its start at 5 s"),
        (ROW | {"pred_saliency_scores": []}, r":2: pred_saliency_scores is not a list of finite numbers"),
        (ROW | {"pred_saliency_scores": [None]}, r":2: pred_saliency_scores is not a list of finite numbers"),
        (ROW | {"pred_relevant_windows": [[0, 10**400, 1]]}, r":2: window 1 is \[0, 1000.*; give three finite"),
        (ROW | {"pred_saliency_scores": [10**400]}, r":2: pred_saliency_scores is not a list of finite numbers"),
        (ROW | {"vid": ["v"]}, r":2: vid is \['v'\]; give text"),
        (ROW | {"query": None}, r":2: query is None; give text"),
        (json.dumps(ROW).replace("{", '{"qid": 6, '), r':2: not JSON \(the key "qid" is there twice'),
        ("[" * 100_000, r":2: not JSON \(nested too deep"),
        (ROW | {"qid": "1"}, r":2: qid 1 was already on line 1; keep one line a query"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    path = file_of(tmp_path, ROW | {"qid": 1}, row)
    with pytest.raises(DataError, match=f"predictions.jsonl{message}"):
        read_predictions(path)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: there is no such prediction file; check the path"):
        read_predictions(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"predictions\.jsonl: the prediction file is empty"):
        read_predictions(file_of(tmp_path, "", ""))
    (tmp_path / "predictions.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as UTF-8 text"):
        read_predictions(tmp_path / "predictions.jsonl")


def video(name: str, **moments: list[tuple[float, float]]) -> VideoRecord:
    queries = tuple(Query("a dog", tuple(Span(*pair) for pair in pairs), qid) for qid, pairs in moments.items())
    return VideoRecord(name, 100, queries)


def test_align_follows_the_records() -> None:
    records = [video("v", a=[(0, 1)], b=[(2, 3), (4, 5)]), video("w", c=[(6, 7)])]
    predictions = [
        Prediction("c", "", "w", ()),
        Prediction("b", "", "v", (Moment(8, 9, 0.1), Moment(1, 2, 0.9))),
        Prediction("a", "", "v", (Moment(0, 4, 0.5),)),
    ]
    nan = [np.nan, np.nan]
    aligned = align(predictions, records)
    np.testing.assert_array_equal(aligned.predictions, [[[0, 4], nan], [[8, 9], [1, 2]], [nan, nan]])
    np.testing.assert_array_equal(aligned.truth, [[[0, 1], nan], [[2, 3], [4, 5]], [[6, 7], nan]])


def test_align_refuses_what_does_not_match() -> None:
    with pytest.raises(
        DataError, match="1 of 2 annotated queries have no prediction: qid b; predict the whole split"
    ):
        align([Prediction("a", "", "v", ())], [video("v", a=[(0, 1)], b=[(0, 1)])])
    with pytest.raises(
        DataError, match="qid a is predicted in video 'w', but annotated in 'v'; give the annotations"
    ):
        align([Prediction("a", "", "w", ())], [video("v", a=[(0, 1)])])
    with pytest.raises(DataError, match="1 of 1 queries have no ground-truth moment: qid a"):
        align([Prediction("a", "", "v", ())], [video("v", a=[])])
