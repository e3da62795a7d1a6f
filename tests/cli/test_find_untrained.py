"""``mrnet find`` with no training and no checkpoint, on a rendered video: that it runs, not that it is right."""

import csv
import io
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mrnet.answer import Answer
from mrnet.media.audio import SAMPLE_RATE, read_audio, write_audio
from mrnet.retrieval.aligned import ClassBridge
from tests.cli.conftest import Command
from tests.media.test_microphone import Microphone


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
    assert document["best_guess"].keys() == {"start_s", "end_s", "probability", "source", "words"}
    assert 0 < document["best_guess"]["probability"] < 1
    assert document["answered_by"] == "efficientnet-lite0 and minilm-l6-v2, without training"
    assert [entry.name for entry in Path("kept").iterdir()]
    monkeypatch.setattr("mrnet.ready.encode_all", lambda *_, **__: pytest.fail("encoded again"))
    assert command("find", video, "when does the dog jump?", "--json")[1] == out


def test_how_far_the_encoding_has_come_is_told(
    command: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mrnet.progress.EVERY_S", 0.0)
    status, _, err = command("find", video, "a dog jumps")
    assert status == 0
    assert "encoding: 4 of 4 seconds" in err
    Path("queries.txt").write_text("a dog jumps\na cat\n")
    status, _, err = command("find", video, "--queries", "queries.txt", "--no-cache")
    assert status == 0
    assert "encoding: 4 of 4 seconds" in err
    assert "asking: 2 of 2 lines" in err


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


def test_as_many_queries_as_one_likes(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked some at a time, and an answer is let go before those of the next are made."""
    monkeypatch.setattr("mrnet.predictor._QUERIES_AT_ONCE", 4)
    alive: weakref.WeakSet[Answer] = weakref.WeakSet()
    most = 0

    class Counted(Answer):
        __hash__ = object.__hash__

        def __init__(self, *values: Any, **named: Any) -> None:
            nonlocal most
            super().__init__(*values, **named)
            alive.add(self)
            most = max(most, len(alive))

    monkeypatch.setattr("mrnet.answering.Answer", Counted)
    queries = [f"{count} dogs" for count in range(40)]
    Path("q.txt").write_text("\n".join(queries))
    for form in ("--json", "--csv", "-k1"):
        most = 0
        status, out, err = command("find", video, "--queries", "q.txt", form)
        assert (status, err) == (0, "")
        assert 4 <= most <= 10
    assert [line for line in out.splitlines() if line in queries] == queries
    documents = json.loads(command("find", video, "--queries", "q.txt", "--json")[1])
    assert [document["query"] for document in documents] == queries
    Path("q.txt").write_text("\n".join([*queries, "dog " * 300]))
    assert "the query has 302 tokens" in command.refuses("find", video, "--queries", "q.txt", "--json")


def test_a_video_that_ends_early(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "cut.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(160):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = Path("cut.mp4").read_bytes()
    Path("cut.mp4").write_bytes(data[: len(data) // 2])
    for _ in range(2):  # the second time out of the cache
        status, out, err = command("find", "cut.mp4", "a dog", "--json")
        assert status == 0
        document = json.loads(out)
        assert 9 <= document["duration_s"] <= 10.5
        assert document["best_guess"]["end_s"] <= document["duration_s"]
        assert err == (
            f"the video ends at {document['duration_s']:.1f} s of 20.0 s: the file is incomplete; nothing in this "
            "video changes enough for this encoder to tell its moments apart\n"
        )
        assert document["note"] == err.removesuffix("\n")
    Path("cut.mp4").write_bytes(data[:4000])
    assert command.refuses("find", "cut.mp4", "a dog").startswith("mrnet: error: cut.mp4: ")


def test_a_language_that_the_encoder_does_not_know(command: Command, video: Path) -> None:
    note = "the query seems not to be in English, which is all that minilm-l6-v2 knows: write it in English"
    status, out, err = command("find", video, "ein Hund springt ins Wasser", "--json")
    assert (status, err) == (0, note + "\n")
    assert json.loads(out)["note"] == note
    Path("q.txt").write_text("собака прыгает в воду\na dog\n犬\n")
    status, out, err = command("find", video, "--queries", "q.txt", "--csv")
    assert (status, err) == (0, note + " (2 of 3 queries)\n")


def test_a_recording_of_nothing(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mrnet.predictor.make_recogniser", lambda *_: lambda path: f"{len(read_audio(path))} bells"
    )
    write_audio("a.wav", np.zeros(16_000, np.float32))
    silent = "mrnet: error: a.wav: is silent; record it again"
    assert command.refuses("find", video, "--speech", "a.wav", "--recogniser", "hf:x") == silent
    write_audio("a.wav", np.full(16_000, 0.1, np.float32))
    out = command("find", video, "--speech", "a.wav", "--recogniser", "hf:x", "--json")[1]
    assert json.loads(out)["note"] == "heard: 16000 bells"


@pytest.mark.usefixtures("unsure")
def test_not_in_this_video(command: Command, video: Path) -> None:
    status, out, err = command("find", video, "a dog", "--cut", "clips", "--edl", "a.edl", "--plot", "a.png")
    assert status == 0
    assert out.startswith("not in this video, as far as can be told\nbest guess:\n")
    assert out.splitlines()[2].split() == ["start", "end", "probability"]
    assert err.splitlines()[-3:] == [
        "written: a.png",
        "--cut: nothing is written, as no moment is likely enough to be meant",
        "--edl: nothing is written, as no moment is likely enough to be meant",
    ]
    assert not Path("clips").exists()
    assert not Path("a.edl").exists()


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


@pytest.mark.usefixtures("unsure")
def test_what_is_said(command: Command, video: Path) -> None:
    Path("a.srt").write_text("1\n00:00:01,000 --> 00:00:02,500\nThe battery's dead.\n")
    status, out, err = command("find", video, "he says that the battery is dead")
    assert (status, err) == (0, "")
    assert out.splitlines()[1] == (
        '1.  0:00:01.0 - 0:00:02.5  said         ··········███████████████···············  "The battery\'s dead."'
    )
    assert ", and what is said by a.srt; probabilities from real clips" in out
    document = json.loads(command("find", video, '"battery\'s dead"', "--json")[1])
    assert document["moments"] == [
        {"rank": 1, "start_s": 1.0, "end_s": 2.5, "score": 1.0, "source": "said", "words": "The battery's dead."}
    ]
    out = command("find", video, "he says that the battery is dead", "--no-subtitles")[1]
    assert out.startswith("not in this video")


@pytest.mark.usefixtures("sure")
def test_queries_of_which_some_are_in_quotes(command: Command, video: Path) -> None:
    Path("a.srt").write_text("1\n00:00:01,000 --> 00:00:02,500\nThe battery's dead.\n")
    Path("q.txt").write_text('"battery\'s dead"\na dog jumps\n"dead"\n')
    out = command("find", video, "--queries", "q.txt", "-k", "1")[1]
    by, probable = (
        "efficientnet-lite0 and minilm-l6-v2, without training",
        "real clips joined by cuts, and short real videos",
    )
    assert out.splitlines()[-2:] == [
        "answered by the words of a.srt",
        f"answered by {by}, and what is said by a.srt; probabilities from {probable}",
    ]
    out = command("find", video, "--queries", "q.txt", "--csv", "-k", "1")[1]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["source"] for row in rows] == ["said", "seen", "said"]
    assert [bool(row["probability"]) for row in rows] == [False, True, False]


def test_moments_that_were_said_go_every_way(command: Command, video: Path) -> None:
    """And what was written beside the video is no speech of the next time."""
    Path("a.srt").write_text("1\n00:00:01,000 --> 00:00:02,500\nThe battery's dead.\n")
    words = ["--cut", "clips", "--subtitles", "a.vtt", "--edl", "a.edl", "--plot", "a.png"]
    status, _, err = command("find", video, '"battery\'s dead"', *words)
    assert status == 0, err
    assert [path.name for path in Path("clips").iterdir()] == ["a_01_0m01s-0m02s.mp4"]
    assert Path("a.vtt").read_text().endswith("""1. "battery's dead" (said)\n""")
    assert '* COMMENT: 1. "battery\'s dead" (said)' in Path("a.edl").read_text()
    Path("a.srt").unlink()
    document = json.loads(command("find", video, '"battery\'s dead"', "--json")[1])
    assert document["note"].startswith("no subtitles say what is said in this video")


def test_subtitles_that_cannot_be_read(command: Command, video: Path) -> None:
    Path("a.en.srt").write_text("nothing of the kind\n")
    status, out, err = command("find", video, "a dog")
    assert status == 0
    assert out.startswith("not in this video")
    assert err.splitlines() == [
        f"{video.with_name('a.en.srt')}: the subtitles cannot be read (invalid data found when processing input); "
        "mend or remove them"
    ]


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
        "mrnet: error: --recogniser says what hears a query: give --speech FILE or --record too"
    )
    assert command.refuses("find", video, "--record").startswith(
        "mrnet: error: without a checkpoint that hears, a recording must be turned into a sentence: name a recogniser"
    )
    for other in (["--speech", "a.wav"], ["--queries", "q.txt"]):
        assert "not allowed with argument" in command.refuses("find", video, "--record", *other)
    assert "not allowed with argument" in command.refuses("find", video, "a dog", "--record")
    one_thing = "mrnet: error: ask one thing: a sentence in quotes, --queries FILE, --speech FILE or --record"
    assert command.refuses("find", video, "--record", "a dog") == one_thing
    assert command.refuses("find", video, "--json") == one_thing
    assert command.refuses("find", video, "--json", "a dog", "a cat").startswith(
        "mrnet find: error: unrecognized arguments: a dog a cat"
    )


def test_what_would_not_be_written_is_refused_before_the_video_is_looked_at(command: Command) -> None:
    Path("film.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nLook!\n")
    Path("taken").touch()
    for option, target, reason in (
        ("--plot", "a.jpg", "the picture is written as .png"),
        ("--subtitles", "film.srt", "holds subtitles of another kind"),
        ("--edl", "a.xml", "edits are written as .edl"),
        ("--cut", "taken", "is a file, where a folder of clips should be"),
    ):
        line = command.refuses("find", "no such film.mp4", "a dog", option, target)
        assert line.startswith(f"mrnet: error: {target}: {reason}")


@pytest.mark.parametrize("words", [["find", "--csv", "VIDEO", "a dog"], ["find", "VIDEO", "--csv", "a dog"]])
def test_options_may_come_anywhere(words: list[str], command: Command, video: Path) -> None:
    status, out, err = command(*[str(video) if word == "VIDEO" else word for word in words])
    assert (status, out) == (0, "rank,start_s,end_s,probability,source,words,video,query\n"), err


@pytest.fixture
def recogniser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says how long a recording is."""
    monkeypatch.setattr(
        "mrnet.predictor.make_recogniser",
        lambda *_: lambda path: f"a dog that barks for {len(read_audio(path)) / SAMPLE_RATE:.0f} s",
    )


@pytest.mark.usefixtures("recogniser")
def test_record(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone(rate=16_000))
    status, out, err = command("find", video, "--record", "--recogniser", "hf:x", "--json")
    assert status == 0, err
    assert json.loads(out)["query"] == "a dog that barks for 5 s"
    assert json.loads(out)["note"] == "heard: a dog that barks for 5 s"
    assert err.startswith("recording: ")


@pytest.mark.usefixtures("recogniser")
def test_record_where_nothing_can(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--record", "--recogniser", "hf:x"]
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert command.refuses("find", video, *words) == (
        "mrnet: error: recording needs sounddevice, which is not installed: pip install 'mrnet[microphone]'"
    )
    assert command.refuses("find", "none.mp4", *words) == (
        "mrnet: error: none.mp4: no such file; check the path of the video"  # before anyone has spoken
    )


@pytest.mark.usefixtures("recogniser")
def test_a_recording_that_is_interrupted(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Microphone):
        def read(self, count: int) -> tuple[np.ndarray, bool]:  # noqa: ARG002
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "sounddevice", Interrupted())
    status, out, err = command("find", video, "--record", "--recogniser", "hf:x")
    assert (status, out) == (130, "")
    assert err.splitlines()[1:] == ["mrnet: interrupted"]
