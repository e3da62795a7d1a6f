"""``mrnet experiment``"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Command, sets
from tests.experiments.conftest import QUICK


@pytest.fixture
def data(dataset_files: dict[str, str]) -> list[str]:
    return sets(*(f"data.{key}={path}" for key, path in dataset_files.items()))


def write(**changes: Any) -> str:
    tree = {
        "name": "tiny", "recipe": "demo", "settings": QUICK, "seeds": [0], "reference": "plain",
        "variants": {"plain": {}},
    }  # fmt: skip
    Path("tiny.yaml").write_text(yaml.safe_dump(tree | changes))
    return "tiny.yaml"


def test_from_a_file_to_tables(command: Command, data: list[str]) -> None:
    path = write()
    status, out, err = command("experiment", "run", path, "--out", "runs", "--jobs", "1", *data)
    assert (status, out) == (0, "results: runs\n"), err
    assert "1/1  plain/seed-0: val R@1,IoU=0.3 " in err
    status, out, _ = command("experiment", "run", path, "--out", "runs", *data)
    assert status == 0
    assert command("experiment", "report", "runs", "--results", "tiny.jsonl") == (0, "3 results: tiny.jsonl\n", "")
    variants = [json.loads(line)["variant"] for line in Path("tiny.jsonl").read_text().splitlines()]
    assert variants == ["constant", "rank-only", "plain"]
    made = command("experiment", "report", "tiny.jsonl", "--out", "evidence")
    assert made == (0, "evidence/tiny.md\nevidence/tiny.csv\nevidence/tiny.svg\n", "")
    assert "| plain | 1 |" in Path("evidence/tiny.md").read_text()


def test_refusals(command: Command, data: list[str]) -> None:
    path = write()
    said = command.refuses("experiment", "run", "no.yaml", "--out", "runs")
    assert (
        said
        == "mrnet: error: no.yaml: cannot be read (No such file or directory); give the YAML file of an experiment"
    )
    said = command.refuses("experiment", "run", path, "--out", "runs", "--only", "other", *data)
    assert said == "mrnet: error: there is no variant 'other': choose of plain"
    said = command.refuses("experiment", "run", path, "--out", "runs", *data, "--set", "train.lr=-1")
    assert said.startswith("mrnet: error: variant plain of tiny: ")
    said = command.refuses("experiment", "report", "tiny.yaml")
    assert said.startswith("mrnet: error: say what to make: --results FILE.jsonl")
    assert "no result of `mrnet experiment`" in command.refuses("experiment", "report", path, "--out", "x")


def test_exit_status_of_a_run_that_failed(
    command: Command, data: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mrnet.experiments.run.run_experiment", lambda *_, **__: ["plain/seed-0: not finite"])
    status, out, err = command("experiment", "run", write(), "--out", "runs", *data)
    assert (status, out, err) == (1, "results: runs\n", "failed: plain/seed-0: not finite\n")
