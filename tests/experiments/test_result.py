"""Lines of results."""

import json
from pathlib import Path

import pytest

from mrnet.config.run import EvaluationConfig
from mrnet.errors import DataError
from mrnet.evaluation.predictions import Prediction
from mrnet.experiments.result import Result, Scored, read_results, score, write_results
from mrnet.types import Moment, Query, Span, VideoRecord


def test_score() -> None:
    queries = (Query("a", (Span(0, 10),), "q1"), Query("b", (Span(0, 10),), "q2"))
    records = [VideoRecord("v", 10.0, queries), VideoRecord("w", 10.0, (Query("c", (Span(0, 3),), "q3"),))]
    answers = {"q1": (0, 7), "q2": (0, 4.9999), "q3": (3, 9)}
    single = [
        Prediction(query.qid, query.text, record.video_id, (Moment(*answers[query.qid], 1.0), Moment(0, 3, 0.5)))
        for record in records
        for query in record.queries
    ]
    scored = score({"single": single}, records, EvaluationConfig(tious=[0.5, 0.7], ranks=[1, 5]))
    assert scored.tiou == [0.7, 0.499, 0.0]  # rounded down, but what passes 0.7 is 0.7
    assert scored.queries == [2, 1]
    assert scored.metrics["single"] == pytest.approx(
        {
            "R@1,IoU=0.5": 33.333,
            "R@1,IoU=0.7": 33.333,
            "R@5,IoU=0.5": 66.667,
            "R@5,IoU=0.7": 66.667,
            "mIoU": 100 * 1.19999 / 3,
        },
        abs=1e-3,
    )


def test_file_of_results(tmp_path: Path) -> None:
    result = Result(
        experiment="e", reference="a", variant="a", network="mrnet", seed=0, commit=None, version="1", config={},
        splits={"val": Scored(metrics={"single": {"mIoU": 5.0}}, tiou=[0.05], queries=[1])}, cost=None,
    )  # fmt: skip
    path = tmp_path / "r.jsonl"
    write_results(path, [result, result])
    assert read_results(path) == [result, result]
    path.write_text(path.read_text() + '{"experiment": "e"}\n')
    with pytest.raises(
        DataError, match=r"r.jsonl:3: no result of `mrnet experiment` \(.*reference: Field required"
    ):
        read_results(path)
    for field in ("experiment", "variant"):  # in whose name files are written
        escaping = result.model_dump(mode="json") | {field: "../escape"}
        path.write_text(json.dumps(escaping))
        with pytest.raises(
            DataError, match=rf"r.jsonl:1: no result.*{field}: '../escape' cannot name a file: use"
        ):
            read_results(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"r.jsonl:1: no result of `mrnet experiment`"):
        read_results(path)
    with pytest.raises(
        DataError, match=r"no.jsonl: cannot be read \(No such file or directory\); give the folder"
    ):
        read_results(tmp_path / "no.jsonl")
