"""Tables of results, against values worked out by hand."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrnet.errors import DataError
from mrnet.experiments.definition import EXPERIMENT_FILE, BegunExperiment, Experiment
from mrnet.experiments.report import compare, gather, write_report
from mrnet.experiments.result import RESULT_FILE, Cost, Result, Scored, write_results

EVALUATION = {"tious": [0.5], "ranks": [1], "select_by": "R@1,IoU=0.5"}


def result(variant: str, seed: int | None, tiou: list[float], **more: Any) -> Result:
    recall, mean = (100 * sum(values) / len(tiou) for values in ([v >= 0.5 for v in tiou], tiou))
    scored = Scored(
        metrics={"single": {"R@1,IoU=0.5": recall, "mIoU": mean}}, tiou=tiou, queries=more.pop("queries", [1, 1])
    )
    cost = Cost(parameters=1234, multiply_adds=2_500_000, ms_per_query=4, seconds=10, epochs=3, best_epoch=2)
    fields = {
        "experiment": "e", "reference": "base", "variant": variant, "network": "mrnet", "seed": seed,
        "commit": "0123456789abcdef", "version": "1", "config": {"evaluation": EVALUATION},
        "splits": {"val": scored}, "cost": cost if seed is not None else None,
    }  # fmt: skip
    return Result.model_validate(fields | more)


BASE = [result("base", 0, [0.2, 0.6]), result("base", 1, [0.4, 0.2])]
OTHER = [result("other", 0, [0.6, 0.6]), result("other", 1, [0.8, 0.2])]


def test_estimates_and_differences() -> None:
    base, other = compare([*BASE, *OTHER], "val")
    # R@1: 50 and 0 against 100 and 50; mIoU: 40 and 30 against 60 and 50. Deviations of two values a, b: |a-b|/sqrt 2.
    assert base.metrics["R@1,IoU=0.5"] == pytest.approx((25, 50 / math.sqrt(2)))
    assert base.metrics["mIoU"] == pytest.approx((35, 10 / math.sqrt(2)))
    assert other.metrics["R@1,IoU=0.5"] == pytest.approx((75, 50 / math.sqrt(2)))
    assert base.differences == {}
    # Over the seeds' means the first video gains 100 points of recall and 40 of mIoU, the second nothing; of the four
    # equally likely draws of two videos one has the first twice, and one has it not at all.
    assert other.differences["R@1,IoU=0.5"] == pytest.approx((50, 0, 100))
    assert other.differences["mIoU"] == pytest.approx((20, 0, 40))


def test_videos_are_drawn_with_all_their_queries() -> None:
    runs = [result("base", 0, [0, 0, 0], queries=[2, 1]), result("other", 0, [0.9, 0.9, 0], queries=[2, 1])]
    (_, other) = compare(runs, "val")
    assert other.differences["R@1,IoU=0.5"] == pytest.approx((200 / 3, 0, 100))
    assert math.isnan(other.metrics["mIoU"].spread)


def test_without_the_reference_nothing_is_compared() -> None:
    assert [line.differences for line in compare(OTHER, "val")] == [{}]


def test_what_is_next_to_nothing_has_no_sign(tmp_path: Path) -> None:
    """Which sign a difference of 1e-17 has is up to the machine; the files are the same on all."""
    results = [result("base", 0, [0.6, 0.300001]), result("other", 0, [0.6, 0.3])]
    markdown, table, _ = (path.read_text() for path in write_report(results, tmp_path))
    assert "| other | +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] |\n" in markdown
    assert "-0.000" not in table


def test_results_of_different_queries_are_refused() -> None:
    with pytest.raises(DataError, match="results of e on val are of different queries: give those of one dataset"):
        compare([BASE[0], result("other", 0, [0.5], queries=[1])], "val")


def test_files(tmp_path: Path) -> None:
    constant = result("constant", None, [0.1, 0.1], network=None)
    results = [constant, *BASE, *OTHER]
    write_results(tmp_path / "e.jsonl", results)
    assert gather([tmp_path / "e.jsonl"]) == results
    paths = write_report(results, tmp_path / "out")
    assert [path.name for path in paths] == ["e.md", "e.csv", "e.svg"]
    markdown, table, picture = (path.read_text() for path in paths)
    assert "## val, 2 queries\n\n| variant | R@1,IoU=0.5 | mIoU |\n| --- | --- | --- |\n" in markdown
    assert "| constant | 0.0 | 10.0 |\n| base | 25.0 ± 35.4 | 35.0 ± 7.1 |\n" in markdown
    assert "| other | +50.0 [+0.0, +100.0] | +20.0 [+0.0, +40.0] |\n" in markdown
    assert "| base | 2 | 1,234 | 2.5 | 4.0 | 10 | 2/3, 2/3 |\n" in markdown
    assert "commits 0123456789." in markdown
    rows = list(csv.DictReader(table.splitlines()))
    assert len(rows) == 6
    assert rows[4] == {
        "split": "val", "protocol": "single", "variant": "other", "seeds": "2", "metric": "R@1,IoU=0.5",
        "mean": "75.000", "spread": "35.355", "difference": "50.000", "low": "0.000", "high": "100.000",
    }  # fmt: skip
    assert [rows[0][key] for key in ("spread", "difference", "low")] == ["", "-25.000", "-50.000"]
    assert "e: R@1,IoU=0.5 on val" in picture
    assert picture.count("<circle") == 5


def test_a_variant_at_thresholds_of_its_own(tmp_path: Path) -> None:
    """Shared metrics are compared, the others stand by themselves; the picture shows what all have."""
    scored = Scored(metrics={"single": {"R@1,IoU=0.3": 50.0, "mIoU": 30.0}}, tiou=[0.4, 0.2], queries=[1, 1])
    evaluation = {"evaluation": EVALUATION | {"tious": [0.3], "select_by": "R@1,IoU=0.3"}}
    own = result("own", 0, [0.4, 0.2], splits={"val": scored}, config=evaluation)
    markdown, _, picture = (path.read_text() for path in write_report([BASE[0], own, OTHER[0]], tmp_path))
    assert "| variant | R@1,IoU=0.5 | mIoU | R@1,IoU=0.3 |\n" in markdown
    assert "| base | 50.0 | 40.0 | - |\n| own | - | 30.0 | 50.0 |\n| other | 100.0 | 60.0 | - |\n" in markdown
    # Video by video, own gains 0.2 and loses 0.4 of tIoU on base, other 0.4 and 0.
    assert "| variant | mIoU | R@1,IoU=0.5 |\n" in markdown
    assert (
        "| own | -10.0 [-40.0, +20.0] | - |\n| other | +20.0 [+0.0, +40.0] | +50.0 [+0.0, +100.0] |\n" in markdown
    )
    assert "e: mIoU on val" in picture


def test_a_folder_of_runs(experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    """Of its seeds in order, 2 before 10, and not of a copy that somebody kept."""
    begun = BegunExperiment(**dict(experiment(name="e", reference="base", variants={"base": {}})))
    (tmp_path / EXPERIMENT_FILE).write_text(begun.model_dump_json())
    for name, seed in (("seed-10", 10), ("seed-2", 2), ("seed-2-old", 2)):
        (tmp_path / "base" / name).mkdir(parents=True)
        write_results(tmp_path / "base" / name / RESULT_FILE, [result("base", seed, [0.2, 0.6])])
    assert [one.seed for one in gather([tmp_path])] == [2, 10]
    empty = tmp_path / "base" / "seed-2" / RESULT_FILE
    empty.write_text("")
    with pytest.raises(
        DataError, match=r"seed-2/result.json: holds 0 results, where there is one: remove it, and run"
    ):
        gather([tmp_path])


def test_gathering_is_refused(tmp_path: Path) -> None:
    write_results(tmp_path / "e.jsonl", BASE)
    write_results(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError, match="base of e with seed 0 is there twice; give each result once"):
        gather([tmp_path / "e.jsonl", tmp_path / "e.jsonl"])
    with pytest.raises(DataError, match="no run is finished yet"):
        gather([tmp_path / "empty.jsonl"])
    with pytest.raises(DataError, match=r"no folder of an experiment \(.*experiment.json: cannot be read"):
        gather([tmp_path])
