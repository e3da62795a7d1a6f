"""``mrnet find`` with no training and no checkpoint, on a rendered video: that it runs, not that it is right."""

import csv
import io
import json
from pathlib import Path

import pytest

from mrnet.features.cache import FOLDER_VARIABLE
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))


def test_json_and_the_cache(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = command("find", video, "when does the dog jump?", "--json")
    assert status == 0, err
    document = json.loads(out)
    assert set(document) == {
        "video", "duration_s", "query", "kind", "moments", "best_guess", "note", "answered_by",
    }  # fmt: skip
    assert (document["query"], document["kind"], document["duration_s"]) == (
        "when does the dog jump?",
        "text",
        4.0,
    )
    assert document["answered_by"] == "efficientnet-lite0 and minilm-l6-v2, without training"
    assert [entry.name for entry in Path("kept").iterdir()]
    monkeypatch.setattr("mrnet.predictor.encode_all", lambda *_, **__: pytest.fail("encoded again"))
    assert command("find", video, "when does the dog jump?", "--json")[1] == out


def test_nothing_is_kept_unless_wanted(command: Command, video: Path) -> None:
    assert command("find", video, "a dog", "--no-cache")[0] == 0
    assert not Path("kept").exists()


def test_many_queries(command: Command, video: Path) -> None:
    Path("q.txt").write_text("a dog\n\na cat, asleep\n")
    status, out, _ = command("find", video, "--queries", "q.txt", "--csv", "-k", "1")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0
    assert [row["query"] for row in rows] == ["a dog", "a cat, asleep"]
    assert command.refuses("find", video, "--queries", "q.txt", "--plot", "p.png") == (
        "mrnet: error: --plot is for the moments of one query: give it alone, not --queries"
    )
    Path("q.txt").write_text("\n")
    assert command.refuses("find", video, "--queries", "q.txt") == (
        "mrnet: error: q.txt: holds no query; write one a line"
    )


def test_what_becomes_of_moments(command: Command, video: Path) -> None:
    words = ["--cut", "clips", "--subtitles", "a.vtt", "--edl", "a.otio", "--plot", "a.png", "-k", "1"]
    status, out, err = command("find", video, "a dog", *words)
    assert status == 0, err
    assert len([line for line in err.splitlines() if line.startswith("written: ")]) == 4
    assert len(list(Path("clips").iterdir())) == 1
    assert Path("a.vtt").read_text().startswith("WEBVTT")
    assert out.splitlines()[-1] == "answered by efficientnet-lite0 and minilm-l6-v2, without training"


def test_refusals(command: Command, video: Path) -> None:
    assert command.refuses("find", video, "a dog", "--exact") == (
        "mrnet: error: --exact says how --cut cuts: give --cut DIR too"
    )
    assert command.refuses("find", video, "a dog", "--backbone", "color-hog-motion").startswith(
        "mrnet: error: the video backbone color-hog-motion has no sentences to compare with"
    )
    assert command.refuses("find", video, "--speech", "a.wav").startswith(
        "mrnet: error: the model was trained on text queries and cannot be asked speech ones"
    )
