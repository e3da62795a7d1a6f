"""Subtitles, read back."""

import re
from fractions import Fraction
from pathlib import Path

import av
import pytest

from mrnet.data.formats import PARSERS
from mrnet.errors import OutputError
from mrnet.export.subtitles import is_label, write_subtitles
from mrnet.types import Moment

MOMENTS = [Moment(12.3456, 19.0, 0.821), Moment(3661.0004, 7322.9996, 0.5), Moment(0.0, 0.0001, 0.044)]


def test_webvtt(tmp_path: Path) -> None:
    write_subtitles(tmp_path / "a.vtt", MOMENTS, "a dog & <b>cats</b> --> run\n away")
    assert (tmp_path / "a.vtt").read_text() == (
        "WEBVTT\n"
        "\n"
        "00:00:00.000 --> 00:00:00.001\n"
        "3. a dog &amp; &lt;b&gt;cats&lt;/b&gt; --&gt; run away (4%)\n"
        "\n"
        "00:00:12.346 --> 00:00:19.000\n"
        "1. a dog &amp; &lt;b&gt;cats&lt;/b&gt; --&gt; run away (82%)\n"
        "\n"
        "01:01:01.000 --> 02:02:03.000\n"
        "2. a dog &amp; &lt;b&gt;cats&lt;/b&gt; --&gt; run away (50%)\n"
    )


def test_webvtt_is_read_back_to_the_millisecond(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    write_subtitles(path, MOMENTS, "a dog & <b>cats</b> --> run\n away", "score")

    def fail(*fault: object) -> None:
        raise AssertionError(fault)

    rows = list(PARSERS[".vtt"](path.read_text(), path, fail))
    assert [(row.moments, row.text) for row in rows] == [
        ([[0.0, 0.001]], "3. a dog & <b>cats</b> --> run away (0.04)"),
        ([[12.346, 19.0]], "1. a dog & <b>cats</b> --> run away (0.82)"),
        ([[3661.0, 7323.0]], "2. a dog & <b>cats</b> --> run away (0.50)"),
    ]


def test_subrip(tmp_path: Path) -> None:
    path = tmp_path / "a.SRT"
    write_subtitles(path, MOMENTS, "Ein Hund springt --> über")
    assert path.read_text(encoding="utf-8").split("\n\n")[1] == (
        "2\n00:00:12,346 --> 00:00:19,000\n1. Ein Hund springt -> über (82%)"
    )
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        cues_ms = [(packet.pts, packet.duration) for packet in packets]
        assert container.streams[0].time_base == Fraction(1, 1000)
    assert cues_ms == [(0, 1), (12_346, 6_654), (3_661_000, 3_662_000)]
    assert [re.sub(r"^\d. ", "", bytes(packet).decode()) for packet in packets] == [
        f"Ein Hund springt -> über ({percent}%)" for percent in (4, 82, 50)
    ]


@pytest.mark.parametrize(("suffix", "text"), [(".vtt", "WEBVTT\n"), (".srt", "")])
def test_no_moments(tmp_path: Path, suffix: str, text: str) -> None:
    write_subtitles(tmp_path / f"a{suffix}", [], "a dog")
    assert (tmp_path / f"a{suffix}").read_text() == text


def test_other_suffixes(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_subtitles(tmp_path / "a.txt", MOMENTS, "a dog")
    assert str(caught.value) == (
        f"{tmp_path / 'a.txt'}: subtitles are written as .vtt (WebVTT) or .srt (SubRip); name such a file"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_known_again() -> None:
    for label in ("1. a dog (82%)", "12. 50% off (sale) (0.44)", "3. a dog (-0.10)", "3. to be (said)"):
        assert is_label(label)
    for speech in ("1. a dog", "a dog (82%)", "1. a dog (82)", "1. a dog (said) again"):
        assert not is_label(speech)


def test_moments_that_were_said(tmp_path: Path) -> None:
    write_subtitles(tmp_path / "a.srt", [Moment(1, 2, 0.7, "said", "Look, a dog!")], "a dog")
    assert (tmp_path / "a.srt").read_text() == "1\n00:00:01,000 --> 00:00:02,000\n1. a dog (said)\n"


@pytest.mark.parametrize("name", ["a.vtt", "a.srt"])
def test_subtitles_of_a_video_are_not_written_over(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    moments = [Moment(1.0, 2.0, 0.5), Moment(3.0, 4.0, 0.25)]
    write_subtitles(path, moments, "a <dog> & --> a cat")
    write_subtitles(path, moments[:1], "a dog")  # moments give way to moments
    assert "a dog" in path.read_text()
    spoken = path.read_text() + "\n00:00:05.000 --> 00:00:06.000\nwhat somebody says\n"
    for content in (spoken, "\xff"):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(OutputError) as caught:
            write_subtitles(path, moments, "a dog")
        assert str(caught.value) == (
            f"{path}: holds subtitles of another kind, which are not written over; choose another place"
        )
        assert path.read_text(encoding="latin-1") == content
