"""Subtitles beside videos and inside them, as the tests write them."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mrnet.errors import VideoError
from mrnet.media.subtitles import Cue, Track, find_tracks, read_cues

SRT = """\
1
00:00:01,000 --> 00:00:02,500
Hello,
world!

2
00:00:03,000 --> 00:00:03,750
Good night.
"""
CUES = [Cue(1.0, 2.5, "Hello, world!"), Cue(3.0, 3.75, "Good night.")]
VTT = """\
WEBVTT - a title

NOTE nothing of this is said

STYLE
::cue { color: red }

first
00:01.000 --> 00:02.500 align:start position:10%
<v Ann>Hello,</v>
<c.loud>world!</c>

00:00:03.000 --> 00:00:03.750
Good<00:00:03.400> night.
"""
ASS = """\
[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,Ann,0,0,0,,{\\i1}Hello,{\\i0}\\Nworld!
Dialogue: 0,0:00:02.60,0:00:02.90,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}
Dialogue: 0,0:00:03.00,0:00:03.75,Default,,0,0,0,,{\\pos(1,2)}Good\\hnight.
"""


def write_video(path: Path, *subtitles: tuple[str, Path], start_s: float = 0.0) -> Path:
    """Four seconds of video, with subtitles of these languages copied in from files."""
    with av.open(str(path), "w") as video:
        pictures = video.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=5)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        packets = []
        for language, source in subtitles:
            with av.open(str(source)) as file:
                template = file.streams.subtitles[0]
                if path.suffix == ".mp4":
                    stream = video.add_mux_stream("mov_text")
                else:
                    stream = video.add_stream_from_template(template)
                stream.metadata["language"] = language
                for packet in file.demux(template):
                    if packet.size:
                        if path.suffix == ".mp4":
                            text = bytes(packet)
                            boxed = av.Packet(struct.pack(">H", len(text)) + text)
                            boxed.pts = boxed.dts = packet.pts
                            boxed.duration, boxed.time_base = packet.duration, packet.time_base
                            packet = boxed
                        packet.pts += round(start_s / packet.time_base)
                        packet.dts = packet.pts
                        packet.stream = stream
                        packets.append(packet)
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * index, np.uint8), "rgb24")
            frame.pts, frame.time_base = index + round(start_s * 5), Fraction(1, 5)
            video.mux(pictures.encode(frame))
        video.mux(pictures.encode())
        for packet in packets:
            video.mux(packet)
    return path


def read_only(path: Path) -> list[Cue]:
    """The cues of the one track of a video."""
    [track] = find_tracks(path)
    return read_cues(track)


@pytest.mark.parametrize(("suffix", "text"), [(".srt", SRT), (".VTT", VTT), (".ass", ASS)])
def test_a_file_of_its_own(suffix: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(text)
    assert read_cues(Track(path)) == CUES


@pytest.mark.parametrize(
    ("container", "suffix", "text", "codec"),
    [
        ("a.mp4", ".srt", SRT, "mov_text"),
        ("a.mkv", ".srt", SRT, "srt"),
        ("a.mkv", ".ass", ASS, "ssa"),
        ("a.webm", ".vtt", VTT, "webvtt"),
    ],
)
@pytest.mark.parametrize("start_s", [0.0, 3.0])
def test_a_stream_of_a_video(
    container: str, suffix: str, text: str, codec: str, start_s: float, tmp_path: Path
) -> None:
    """Times are those of the pictures, wherever the clock of the file starts."""
    (tmp_path / f"said{suffix}").write_text(text)
    video = write_video(tmp_path / container, ("eng", tmp_path / f"said{suffix}"), start_s=start_s)
    with av.open(str(video)) as opened:
        assert opened.streams.subtitles[0].codec_context.name == codec
        assert float(opened.streams.video[0].start_time * opened.streams.video[0].time_base) == start_s
    [track] = find_tracks(video)
    assert (track.language, track.forced, track.name) == ("eng", False, f"the subtitles in {container}")
    assert read_cues(track) == CUES


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("utf-8", "Où est la plage ?"),
        ("utf-8-sig", "海はどこですか"),
        ("utf-16", "Где море?"),
        ("cp1252", "Où est la plage ?"),
    ],
)
def test_encodings(encoding: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(f"1\r\n00:00:01,000 --> 00:00:02,000\r\n{line}\r\n".encode(encoding))
    assert read_cues(Track(path)) == [Cue(1.0, 2.0, line)]


def test_what_is_no_speech_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    shown = ["♪ la la ♪", "♪♪", "- Who?\n- <b>Me</b> &amp; you.", "{\\an8}Up", "   ", "a < b"]
    path.write_text(
        "\n".join(f"{n}\n00:00:{n:02d},000 --> 00:00:{n:02d},500\n{text}\n" for n, text in enumerate(shown, 1))
    )
    assert [cue.text for cue in read_cues(Track(path))] == ["la la", "Who? Me & you.", "Up", "a < b"]


def test_bad_cues(tmp_path: Path) -> None:
    """Out of order, of no length or a negative one, without an end to the one before: what can be told is kept."""
    path = tmp_path / "a.srt"
    path.write_text(
        "1\n00:00:09,000 --> 00:00:04,000\nends first\n\n"
        "2\n00:00:05,000 --> 00:00:05,000\nno length\n\n"
        "3\n00:00:01,000 --> 00:00:02,000\nearly\n\n"
        "x\n00:00:06 --> 00:00:07\nbroken\n"
    )
    cues = read_cues(Track(path))
    assert cues[0] == Cue(1.0, 2.0, "early x broken")
    assert cues[1:] == [Cue(5.0, 7.0, "no length"), Cue(9.0, 11.0, "ends first")]


def test_captions_that_roll_up(tmp_path: Path) -> None:
    """A line is said once, though the next cue shows it again; one that comes back later is said again."""
    path = tmp_path / "a.vtt"
    path.write_text(
        "WEBVTT\n\n00:01.000 --> 00:03.000\nso today we\n\n00:03.000 --> 00:03.010\nso today we\n\n"
        "00:03.010 --> 00:05.000\nso today we\nbake bread\n\n00:05.000 --> 00:05.010\nbake bread\n\n"
        "00:09.000 --> 00:10.000\nbake bread\n"
    )
    assert read_cues(Track(path)) == [
        Cue(1.0, 3.0, "so today we"),
        Cue(3.01, 5.0, "bake bread"),
        Cue(9.0, 10.0, "bake bread"),
    ]


def test_which_come_first(tmp_path: Path) -> None:
    for name in (
        "talk.srt", "talk.en.srt", "talk.en-GB.vtt", "talk.de.srt", "talk.en.forced.srt", "talk.eng.sdh.ass",
        "talk.part2.srt", "talk.de.en.srt", "talks.srt", "other.srt", "talk.txt", "talk",
    ):  # fmt: skip
        (tmp_path / name).write_text(SRT)
    (tmp_path / "talk.it.srt").mkdir()
    video = write_video(tmp_path / "talk.mkv", ("ger", tmp_path / "talk.srt"), ("eng", tmp_path / "talk.srt"))
    assert [track.name for track in find_tracks(video)] == [
        "talk.en-GB.vtt", "talk.en.srt", "talk.eng.sdh.ass", "the subtitles in talk.mkv", "talk.srt", "talk.de.srt",
        "the subtitles in talk.mkv", "talk.en.forced.srt",
    ]  # fmt: skip
    inside = [track for track in find_tracks(video) if track.stream is not None]
    assert [(track.stream, track.language) for track in inside] == [(2, "eng"), (1, "ger")]


def test_what_is_said_of_the_language() -> None:
    languages = {"en": True, "eng": True, "": None, "und": None, "de": False, "enm": False}
    assert {name: Track(Path("a.srt"), None, name).english for name in languages} == languages


def test_letters_that_a_pattern_would_mind(tmp_path: Path) -> None:
    video = write_video(tmp_path / "talk [1]*.mkv")
    assert find_tracks(video) == []
    (tmp_path / "talk [1]*.srt").write_text(SRT)
    assert read_only(video) == CUES


@pytest.mark.parametrize("content", [b"", b"no subtitles at all\n", b"\x89PNG\r\n\x1a\n" + bytes(500)])
def test_no_subtitles_in_the_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(content)
    with pytest.raises(VideoError) as caught:
        read_cues(Track(path))
    assert str(caught.value) == (
        f"{path}: the subtitles cannot be read (invalid data found when processing input); mend or remove them"
    )


def test_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        find_tracks(tmp_path / "none.mp4")
    assert str(caught.value) == f"{tmp_path / 'none.mp4'}: no such file; check the path of the video"


@pytest.mark.parametrize(
    ("letters", "shown"),
    [
        ("<" * 100_000 + "<c>words</c>", "<" * 100_000 + "words"),
        ("{" * 100_000 + "{c}words", "{" * 100_000 + "words"),
        ("words&#" + "9" * 5000 + ";", "words"),
    ],
)
def test_letters_that_never_close(letters: str, shown: str, tmp_path: Path) -> None:
    """A bracket ends where the next one opens: looked for to the end, a hundred thousand would take a minute."""
    (tmp_path / "a.ass").write_text(
        "[Script Info]\nScriptType: v4.00+\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        f"Dialogue: 0,0:00:00.00,0:00:02.00,Default,,0,0,0,,{letters}\n"
    )
    [cue] = read_cues(Track(tmp_path / "a.ass"))
    assert cue.text == shown
