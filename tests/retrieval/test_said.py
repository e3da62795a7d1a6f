"""What is said, found by its meaning and by its words."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.export.subtitles import write_subtitles
from mrnet.features.backbone import Rows
from mrnet.features.cache import FeatureCache
from mrnet.media.subtitles import Cue, Track
from mrnet.media.video import write_video
from mrnet.provenance import Provenance
from mrnet.retrieval import said as module
from mrnet.retrieval.said import (
    LEAST_COSINE,
    Said,
    Subtitles,
    interleave,
    is_quoted,
    passages,
    reads_as_english,
)
from mrnet.types import Moment

CUES = [
    Cue(1.0, 2.0, "Look at that little"),
    Cue(2.1, 3.0, "monkey, up there!"),
    Cue(3.1, 5.0, "To be, or not to be:"),
    Cue(9.0, 10.0, "that is the question."),
    Cue(11.0, 12.0, "I'm off. To be"),
    Cue(12.5, 13.0, "or NOT, to be"),
]


class Directions:
    """An encoder whose vectors the test chooses, by the start of a sentence."""

    kind = "text"
    name = "directions"
    dim = 2
    rate = None
    revision = "1"
    batch_size = 8

    def __init__(self, angles: dict[str, float]) -> None:
        self.angles = angles
        self.encoded: list[str] = []

    def prepare(self, source: str | Path) -> Sequence[str]:
        return [str(source)]

    def encode(self, inputs: Sequence[str]) -> list[Rows]:
        self.encoded += inputs
        angles = [next((a for start, a in self.angles.items() if text.startswith(start)), 0.0) for text in inputs]
        return [np.array([[np.cos(a), np.sin(a)]], np.float32) for a in angles]

    def provenance(self) -> Provenance:
        return Provenance(backbone=self.name, dim=2, revision=self.revision)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    write_video(tmp_path / "a.mp4", (np.full((64, 64, 3), 8 * i, np.uint8) for i in range(20)), fps=5)
    return tmp_path / "a.mp4"


def write_srt(path: Path, cues: Sequence[Cue]) -> None:
    path.write_text(
        "\n".join(
            f"{n}\n00:00:{start:06.3f} --> 00:00:{end:06.3f}\n{text}\n"
            for n, (start, end, text) in enumerate(cues, 1)
        )
    )


def spoken(cues: Sequence[Cue], angles: Sequence[float] = ()) -> Said:
    """Of cues whose passages have these directions, the last ones 0."""
    parts = passages(cues)
    given = torch.zeros(len(parts))
    given[: len(angles)] = torch.tensor(angles)
    return module.Said.of("said.srt", cues, torch.stack([given.cos(), given.sin()], dim=1))


def times(moments: Sequence[Moment]) -> list[tuple[float, float]]:
    return [moment[:2] for moment in moments]


def test_sentences_go_over_cues_but_not_over_pauses() -> None:
    assert passages(CUES) == [
        Cue(1.0, 3.0, "Look at that little monkey, up there!"),
        CUES[2],
        CUES[3],
        Cue(11.0, 13.0, "I'm off. To be or NOT, to be"),
        CUES[0], CUES[1], CUES[4], CUES[5],
    ]  # fmt: skip


@pytest.mark.parametrize("end", [".", "!", "?", '."', "?!", "。"])
def test_a_mark_ends_a_sentence(end: str) -> None:
    assert len(passages([Cue(0, 1, f"one{end}"), Cue(1, 2, "two")])) == 2
    assert passages([Cue(0, 1, f"one{end}"), Cue(1, 2, "two")])[0].text == f"one{end}"


@pytest.mark.parametrize("end", ["", ",", "...", "…", ":"])
def test_a_sentence_goes_on(end: str) -> None:
    assert passages([Cue(0, 1, f"one{end}"), Cue(1, 2, "two")])[0] == Cue(0, 2, f"one{end} two")


def test_speech_without_marks_is_cut_into_pieces() -> None:
    cues = [Cue(n, n + 1, "five words without a mark") for n in range(13)]
    assert [(p.start_s, p.end_s) for p in passages(cues)][:3] == [(0, 6), (6, 12), (12, 13)]


def test_the_very_words() -> None:
    find = Subtitles(Directions({"": 3.0})).find  # whose meaning is opposite to all that is said
    said = spoken(CUES)

    def words(query: str) -> list[tuple[float, float]]:
        [moments] = find(said, [query], 100.0)
        assert all((moment.score, moment.source) == (1.0, "said") for moment in moments)
        return times(moments)

    assert words('"to be or not to be"') == [(3.1, 5.0), (11.0, 13.0)]
    assert words("To be or not to be?") == [(3.1, 5.0), (11.0, 13.0)]
    assert words("“that little monkey”") == [(1.0, 3.0)]  # over two cues
    assert words('"i’m off"') == [(11.0, 12.0)]
    assert words('"to be that is"') == []  # over a pause of four seconds
    assert words('"onkey"') == []  # words, not letters
    assert words('"monkey"') == [(2.1, 3.0)]
    assert words("monkey up there") == []  # of three words without quotes the meaning counts alone
    assert words("little monkey up there") == [(1.0, 3.0)]
    [[moment]] = find(said, ['"little monkey"'], 100.0)
    assert moment.words == "Look at that little monkey, up there!"


def test_words_of_a_script_without_spaces() -> None:
    said = spoken([Cue(0, 1, "海はどこですか。"), Cue(2, 3, "山です")])
    [moments] = Subtitles(Directions({})).find(said, ['"どこですか"'], 9.0)
    assert times(moments) == [(0, 1)]


def test_meaning() -> None:
    """By the cosine, from the least one on; a passage that overlaps a better one is left out."""
    near, far = float(np.arccos(LEAST_COSINE)) - 0.01, float(np.arccos(LEAST_COSINE)) + 0.01
    #                       sentence, to be, question, off/not, look at, monkey, off, or not
    said = spoken(CUES, [0.3, near, far, 0.9, 0.5, 0.1, 2.0, 2.0])
    [moments] = Subtitles(Directions({"": 0.0})).find(said, ["an animal"], 12.5)
    assert times(moments) == [(2.1, 3.0), (1.0, 2.0), (11.0, 12.5), (3.1, 5.0)]  # to the end of the video
    assert [moment.score for moment in moments] == pytest.approx(np.cos([0.1, 0.5, 0.9, near]), abs=1e-6)
    assert moments[0].words == "monkey, up there!"
    assert Subtitles(Directions({"": 0.0})).find(said, ["an animal"], 1.0) == [[]]  # after its end


def test_queries_are_put_as_captions_and_answered_in_order() -> None:
    encoder = Directions({"the dog jumps": 0.0, "": 3.0})
    said = spoken(CUES[:1], [0.0])
    found = Subtitles(encoder).find(said, ["a cat", '"look at"', "when does the dog jump?", '"cat"'], 9.0)
    assert [len(moments) for moments in found] == [0, 1, 1, 0]
    assert encoder.encoded == ["a cat", "the dog jumps"]


@pytest.mark.parametrize(
    ("query", "quoted"),
    [('"a dog"', True), (" “a dog” ", True), ("„ein Hund“", True), ("« un chien »", True), ("a dog", False),
     ('he says "hi"', False), ('"hi" and "ho"', False), ('""', False), ('"?!"', False)],
)  # fmt: skip
def test_quotes(query: str, quoted: bool) -> None:
    assert is_quoted(query) == quoted


def test_in_turn() -> None:
    seen = [Moment(n, n + 1, 0.9 - n / 10) for n in range(3)]
    heard = [Moment(n, n + 1, 0.7, "said", "w") for n in range(2)]
    very = heard[0]._replace(score=1.0)
    assert interleave(seen, heard) == [seen[0], heard[0], seen[1], heard[1], seen[2]]
    assert interleave(seen[:1], [very, heard[1]]) == [very, seen[0], heard[1]]
    assert interleave([], heard) == heard
    assert interleave(seen, []) == seen


def test_what_was_read_is_kept(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_srt(tmp_path / "a.srt", CUES)
    cache = FeatureCache(tmp_path / "cache")
    encoder = Directions({"To be": 1.0})
    first = Subtitles(encoder, cache).read(video)
    assert first is not None
    assert (first.name, list(first.cues), len(encoder.encoded)) == ("a.srt", CUES, 8)
    assert [entry.name for entry in cache.entries()] == ["a.srt"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_cues", lambda _: pytest.fail("read again"))
        again = Subtitles(encoder, cache).read(video)
    assert again is not None
    assert (again.cues, again.passages, again.words, again.word_cues) == (
        first.cues, first.passages, first.words, first.word_cues,
    )  # fmt: skip
    torch.testing.assert_close(again.vectors, first.vectors)
    write_srt(tmp_path / "a.srt", CUES[:1])
    changed = Subtitles(encoder, cache).read(video)
    assert changed is not None
    assert list(changed.cues) == CUES[:1]


def test_subtitles_that_hold_no_speech(video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Moments that were written beside a video are not what is said in it; what is no file of subtitles is told."""
    assert Subtitles().read(video) is None
    (tmp_path / "a.en.srt").write_text("no subtitles at all\n")
    write_subtitles(tmp_path / "a.vtt", [Moment(1, 2, 0.8), Moment(2, 3, 0.7, "said", "hi")], "a dog & <b>")
    assert Subtitles(Directions({})).read(video) is None
    assert [message.split(": ", 1)[1] for message in caplog.messages] == [
        "the subtitles cannot be read (invalid data found when processing input); mend or remove them"
    ]
    (tmp_path / "a.de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHallo.\n")
    caplog.set_level(logging.ERROR)
    found = Subtitles(Directions({})).read(video)
    assert found is not None
    assert (found.name, found.words) == ("a.de.srt", " hallo ")


def test_another_language(video: Path, tmp_path: Path) -> None:
    """All its sentences are alike to an encoder that does not know it, so the very words count alone."""
    german = [Cue(1, 2, "Das ist der Hund von Frau Berger."), Cue(2, 3, "Er springt nie ins Wasser.")]
    write_srt(tmp_path / "a.srt", german)
    encoder, cache = Directions({}), FeatureCache(tmp_path / "cache")
    for _ in range(2):  # the second time, as it was kept
        said = Subtitles(encoder, cache).read(video)
        assert said is not None
        assert (said.passages, len(said.vectors), list(said.cues)) == ((), 0, german)
        found = Subtitles(encoder).find(said, ["Ein Hund", '"nie ins Wasser"', "von Frau Berger er"], 9.0)
        assert [times(moments) for moments in found] == [[], [(2, 3)], [(1, 3)]]
    (tmp_path / "a.srt").rename(tmp_path / "a.en.srt")  # if the file says so
    said = Subtitles(encoder).read(video)
    assert said is not None
    assert len(said.passages) == 2
    write_srt(tmp_path / "b.srt", CUES)
    (tmp_path / "a.en.srt").unlink()
    (tmp_path / "b.srt").rename(tmp_path / "a.de.srt")
    said = Subtitles(encoder).read(video)
    assert said is not None
    assert said.passages == ()


def test_what_reads_as_english() -> None:
    assert reads_as_english(CUES)
    assert reads_as_english([Cue(0, 1, "The battery's dead.")])
    assert not reads_as_english([Cue(0, 1, "Was ist das? Die Batterie ist so leer, in der Tat.")])
    assert not reads_as_english([Cue(0, 1, "Où est la plage ? Je ne sais pas.")])
    assert not reads_as_english([Cue(0, 1, "海はどこですか")])


def test_a_cue_too_long_for_the_encoder(video: Path, tmp_path: Path) -> None:
    """With the packaged encoder, which refuses more than 256 tokens."""
    write_srt(tmp_path / "a.srt", [Cue(1, 2, "🙈 " * 2000), Cue(2, 3, "The battery's dead.")])
    subtitles = Subtitles()
    said = subtitles.read(video)
    assert said is not None
    [[moment]] = subtitles.find(said, ["he says that the battery is dead"], 4.0)
    assert moment[:2] == (2, 3)
    assert 0.75 < moment.score < 0.9


def test_track_names() -> None:
    assert Track(Path("x/a.srt")).name == "a.srt"
    assert Track(Path("x/a.mkv"), 2).name == "the subtitles in a.mkv"
