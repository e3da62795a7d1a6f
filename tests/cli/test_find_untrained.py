"""``mrnet find`` with no training and no checkpoint, on a rendered video: that it runs, not that it is right."""

import csv
import io
import json
from pathlib import Path

import pytest

from mrnet.features.cache import FOLDER_VARIABLE
from mrnet.retrieval.aligned import ClassBridge
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))


def show_from(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """How likely what an encoder makes of a rendered video is says nothing: it is decided here what is shown."""
    calibration = ClassBridge.calibration
    assert calibration is not None
    monkeypatch.setattr(ClassBridge, "calibration", calibration.model_copy(update={"threshold": threshold}))


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for counts as found."""
    show_from(0.0, monkeypatch)


@pytest.fixture
def unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as found."""
    show_from(1.0, monkeypatch)


@pytest.mark.usefixtures("unsure")
def test_json_and_the_cache(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = command("find", video, "when does the dog jump?", "--json")
    assert status == 0, err
    document = json.loads(out)
    assert set(document) == {
        "video", "duration_s", "query", "kind", "moments", "best_guess", "note", "answered_by",
        "calibrated_on",
    }  # fmt: skip
    assert (document["query"], document["kind"], document["duration_s"]) == (
        "when does the dog jump?",
        "text",
        4.0,
    )
    assert document["moments"] == []  # "not in this video" is an answer
    assert document["best_guess"].keys() == {"start_s", "end_s", "probability"}
    assert 0 < document["best_guess"]["probability"] < 1
    assert document["answered_by"] == "efficientnet-lite0 and minilm-l6-v2, without training"
    assert [entry.name for entry in Path("kept").iterdir()]
    monkeypatch.setattr("mrnet.predictor.encode_all", lambda *_, **__: pytest.fail("encoded again"))
    assert command("find", video, "when does the dog jump?", "--json")[1] == out


def test_nothing_is_kept_unless_wanted(command: Command, video: Path) -> None:
    assert command("find", video, "a dog", "--no-cache")[0] == 0
    assert not Path("kept").exists()


@pytest.mark.usefixtures("sure")
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


@pytest.mark.usefixtures("unsure")
def test_not_in_this_video(command: Command, video: Path) -> None:
    status, out, err = command("find", video, "a dog", "--cut", "clips", "--plot", "a.png")
    assert status == 0
    assert out.startswith("not in this video, as far as can be told\nbest guess:\n")
    assert out.splitlines()[2].split() == ["start", "end", "probability"]
    assert err.splitlines()[-2:] == [
        "--cut: nothing is written, as no moment is likely enough to be meant",
        "written: a.png",
    ]
    assert not Path("clips").exists()


@pytest.mark.usefixtures("sure")
def test_every_moment_that_is_likely_enough(
    command: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probabilities() -> list[float]:
        document = json.loads(command("find", video, "a dog", "--all", "--json")[1])
        assert document["best_guess"] is None
        return [moment["probability"] for moment in document["moments"]]

    several = probabilities()
    assert len(several) == 2
    assert ClassBridge.calibration is not None
    between = {"threshold": sum(several) / 2}
    monkeypatch.setattr(ClassBridge, "calibration", ClassBridge.calibration.model_copy(update=between))
    assert probabilities() == [max(several)]
    assert command.refuses("find", video, "a dog", "--all", "-k", "2").startswith("mrnet find: error: argument -k")


@pytest.mark.usefixtures("sure")
def test_what_becomes_of_moments(command: Command, video: Path) -> None:
    words = ["--cut", "clips", "--subtitles", "a.vtt", "--edl", "a.otio", "--plot", "a.png", "-k", "1"]
    status, out, err = command("find", video, "a dog", *words)
    assert status == 0, err
    assert len([line for line in err.splitlines() if line.startswith("written: ")]) == 4
    assert len(list(Path("clips").iterdir())) == 1
    assert Path("a.vtt").read_text().startswith("WEBVTT")
    assert out.splitlines()[-1] == (
        "answered by efficientnet-lite0 and minilm-l6-v2, without training; probabilities from real clips joined by "
        "cuts, and short real videos"
    )


def test_refusals(command: Command, video: Path) -> None:
    assert command.refuses("find", video, "a dog", "--exact") == (
        "mrnet: error: --exact says how --cut cuts: give --cut DIR too"
    )
    assert command.refuses("find", video, "a dog", "--backbone", "color-hog-motion").startswith(
        "mrnet: error: the video backbone color-hog-motion has no sentences to compare with"
    )
    assert command.refuses("find", video, "--speech", "a.wav").startswith(
        "mrnet: error: without a checkpoint that hears, a recording must be turned into a sentence: name a recogniser"
    )
    assert command.refuses("find", video, "a dog", "--recogniser", "hf:x") == (
        "mrnet: error: --recogniser says what hears --speech: give --speech FILE too"
    )
