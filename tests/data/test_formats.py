"""WebVTT and ELAN files, read into records value for value, and every fault that they can have."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mrnet.data.annotations import read_annotations, scan
from mrnet.data.check import check_dataset
from mrnet.errors import DataError
from mrnet.media.video import write_video
from mrnet.types import Query, Span, VideoRecord

SLOTS = (("ts1", "0"), ("ts2", "1500"), ("ts3", "4000"), ("ts4", None), ("ts5", "x"))


def _vtt(folder: Path, content: str, name: str = "talk.vtt") -> Path:
    path = folder / name
    path.write_bytes(content.encode())
    return path


def _eaf(
    tiers: str,
    media: Sequence[str] = ('MEDIA_URL="file:///C:/lab/my%20talk.mp4"',),
    slots: Sequence[tuple[str, str | None]] = SLOTS,
    encoding: str = "UTF-8",
) -> str:
    descriptors = "".join(f"<MEDIA_DESCRIPTOR {attributes}/>" for attributes in media)
    order = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"{"" if value is None else f" TIME_VALUE={value!r}"}/>'
        for name, value in slots
    )
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<ANNOTATION_DOCUMENT FORMAT="3.0">'
        f'<HEADER TIME_UNITS="milliseconds">{descriptors}</HEADER><TIME_ORDER>{order}</TIME_ORDER>'
        f"{tiers}</ANNOTATION_DOCUMENT>"
    )


def _tier(name: str, *annotations: str) -> str:
    inside = "".join(f"<ANNOTATION>{annotation}</ANNOTATION>" for annotation in annotations)
    return f'<TIER TIER_ID="{name}">{inside}</TIER>'


def _aligned(name: str, start: str, end: str, text: str) -> str:
    return (
        f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{start}" TIME_SLOT_REF2="{end}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>"
    )


def _ref(name: str, parent: str, text: str) -> str:
    return (
        f'<REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{parent}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></REF_ANNOTATION>"
    )


def _write(folder: Path, content: str, name: str = "lab.eaf", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content.encode(encoding))
    return path


def _read(path: Path) -> list[VideoRecord]:
    return read_annotations(path, durations=lambda _: 10.0)


def _faults(path: Path) -> list[tuple[str, str, str]]:
    """Fault, place and text of every fault of an entry."""
    found: list[tuple[str, str, str]] = []
    scan(path, lambda kind, _, where, text: found.append((kind.value, where, text)), lambda _: 10.0)
    return found


def _error(path: Path) -> str:
    """The message, without the path that it starts with."""
    with pytest.raises(DataError) as caught:
        _read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


class TestWebVtt:
    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    def test_cues(self, tmp_path: Path, newline: str) -> None:
        lines = [
            "\ufeffWEBVTT - a title",
            "Fault: captions",
            "",
            "NOTE not a cue,",
            "over two lines",
            "",
            "STYLE",
            "::cue { color: red }",
            "",
            "2",
            "00:00:04.250 --> 00:00:06.000 align:start position:0%",
            "<v Ann>salt &amp; pepper</v>,",
            "  then <00:00:05.000><c>oil</c>",
            "",
            " ",
            "00:01.000 --> 00:02.500",
            "she cuts an onion\u2028slowly",
            "",
            "01:00:00.000 --> 01:00:01.000",
            "an hour later",
        ]
        path = _vtt(tmp_path, newline.join(lines), "talk.mp4.vtt")
        assert read_annotations(path, durations={"talk": 4000.0}.get) == [
            VideoRecord(
                "talk",
                4000.0,
                (
                    Query("she cuts an onion slowly", (Span(1.0, 2.5),), "talk#1"),
                    Query("salt & pepper, then oil", (Span(4.25, 6.0),), "talk#0"),
                    Query("an hour later", (Span(3600.0, 3601.0),), "talk#2"),
                ),
            )
        ]

    def test_every_fault(self, tmp_path: Path) -> None:
        path = _vtt(
            tmp_path,
            "WEBVTT\n\n"
            "00:01.000 --> 00:02.000\n\n"  # line 3
            "the text of it\n\n"
            "00:03 --> 00:04\nseconds alone\n\n"  # line 7
            "0:00:05,000 --> 0:00:06,000\ncommas\n\n"
            "00:01.000 --> 00:02.000\ntwo\n00:02.000 --> 00:03.000\nin one\n\n"  # line 13
            "00:05.000 --> 00:04.000\nreversed\n\n"  # line 18
            "00:04.000 --> 00:04.000\nof no length\n\n"
            "00:14.000 --> 00:15.000\noutside\n\n"
            "00:09.000 --> 00:15.000\npartly outside\n\n"
            "00:09.000 --> 00:99.000\nno such second\n\n"  # line 30
            "00:07.000 --> 00:08.000\n<i> </i>\n",
        )
        assert _faults(path) == [
            ("empty sentence", "line 3", 'the sentence is ""; write one'),
            (
                "malformed entry",
                "line 5",
                '"the text of it" has no times; write 00:01.000 --> 00:02.500 above the text of a cue',
            ),
            *(
                (
                    "bad time",
                    where,
                    f'is "{line}"; a cue is one line of times (00:01.000 --> 00:02.500) and then text',
                )
                for where, line in [
                    ("line 7", "00:03 --> 00:04"),
                    ("line 10", "0:00:05,000 --> 0:00:06,000"),
                    ("line 13", "00:01.000 --> 00:02.000"),
                ]
            ),
            (
                "moment ends before it starts",
                "line 18",
                "`start, end` is [5.0, 4.0]: it ends before it starts; correct it",
            ),
            ("moment of no length", "line 21", "`start, end` is [4.0, 4.0]: it has no length; correct it"),
            (
                "moment outside the video",
                "line 24",
                "`start, end` is [14.0, 15.0]: no part of it is within the 10 s of the video; are these seconds?",
            ),
            (
                "moment outside the video",
                "line 27",
                "`start, end` is [9.0, 15.0]: it reaches out of the 10 s of the video and is cut to it",
            ),
            (
                "bad time",
                "line 30",
                'is "00:09.000 --> 00:99.000"; a cue is one line of times (00:01.000 --> 00:02.500) and then text',
            ),
            ("empty sentence", "line 33", 'the sentence is ""; write one'),
        ]

    @pytest.mark.parametrize("content", ["", "1\n00:00:01,000 --> 00:00:02,000\nan .srt\n", "WEBVTTX\n"])
    def test_other_file(self, tmp_path: Path, content: str) -> None:
        first = content.partition("\n")[0]
        assert _error(_vtt(tmp_path, content)) == f'line 1: is "{first}"; a WebVTT file begins with WEBVTT'

    def test_hours_beyond_all_use(self, tmp_path: Path) -> None:
        for hours in ("9" * 5000, "9999999"):
            path = _vtt(tmp_path, f"WEBVTT\n\n{hours}:00:01.000 --> {hours}:00:02.000\nx\n")
            assert "a cue is one line of times" in _error(path)

    def test_tags_and_entities(self, tmp_path: Path) -> None:
        """A bracket ends where the next one opens: looked for to the end, a hundred thousand would take a minute."""
        text = "<" * 100_000 + "<c>a &lt; b</c> &#x41;&#" + "9" * 5000 + ";"
        path = _vtt(tmp_path, f"WEBVTT\n\n00:01.000 --> 00:02.000\n{text}\n")
        [record] = read_annotations(path, durations=lambda _: 9.0)
        assert record.queries[0].text == "<" * 100_000 + "a < b A"

    def test_no_cues(self, tmp_path: Path) -> None:
        assert _error(_vtt(tmp_path, "WEBVTT\n")) == "holds no queries; give a file with at least one"

    def test_data_check(self, tmp_path: Path) -> None:
        path = _vtt(tmp_path, "WEBVTT\n\n00:01.000 --> 00:02.000\nx\n\n00:50.000 --> 00:51.000\ny\n")
        (tmp_path / "videos").mkdir()
        frames = (np.full((32, 32, 3), 10 * i, dtype=np.uint8) for i in range(20))
        write_video(tmp_path / "videos" / "talk.mp4", frames, fps=2)  # 10 s
        report = check_dataset(path, tmp_path / "videos")
        assert [(problem.kind, problem.severity) for problem in report.problems] == [
            ("moment outside the video", "error")
        ]
        assert (report.videos, report.queries) == (1, 1)


class TestElan:
    def test_tiers(self, tmp_path: Path) -> None:
        path = _write(
            tmp_path,
            _eaf(
                _tier("action", _aligned("a1", "ts2", "ts3", "cuts &lt;an&gt;\n onion"))
                + _tier("words", _ref("a2", "a1", "caf\u00e9"), _ref("a3", "a2", "refers to a reference"))
                + _tier("empty")
                + _tier("gaze", _aligned("a4", "ts1", "ts2", "looks up"))
            ),
        )
        assert _read(path) == [
            VideoRecord(
                "my talk",
                10.0,
                (
                    Query("looks up", (Span(0.0, 1.5),), "my talk#3"),
                    Query("cuts <an> onion", (Span(1.5, 4.0),), "my talk#0"),
                    Query("caf\u00e9", (Span(1.5, 4.0),), "my talk#1"),
                    Query("refers to a reference", (Span(1.5, 4.0),), "my talk#2"),
                ),
            )
        ]

    @pytest.mark.parametrize(
        ("media", "video_id"),
        [
            ([], "lab"),
            (['MEDIA_URL=""'], "lab"),
            (['MEDIA_URL="" RELATIVE_MEDIA_URL="./a/b.part.mp4"'], "b.part"),
            ([r'MEDIA_URL="C:\\lab\\b.MP4"'], "b"),
            (['MEDIA_URL="file:///x/sound.wav"', 'MEDIA_URL="file:///x/film.mkv"'], "film"),
            (['MEDIA_URL="file:///x/sound.wav"'], "sound"),
        ],
    )
    def test_video(self, tmp_path: Path, media: list[str], video_id: str) -> None:
        path = _write(tmp_path, _eaf(_tier("t", _aligned("a1", "ts1", "ts2", "x")), media))
        assert [record.video_id for record in _read(path)] == [video_id]

    def test_origin_of_the_video(self, tmp_path: Path) -> None:
        """TIME_ORIGIN says where in its media file the annotations begin to count; each file has its own."""
        media = ['MEDIA_URL="a.wav" TIME_ORIGIN="9000"', 'MEDIA_URL="a.mp4" TIME_ORIGIN="250"']
        tiers = _tier("t", _aligned("a1", "ts1", "ts2", "x"))
        (record,) = _read(_write(tmp_path, _eaf(tiers, media)))
        assert record.queries[0].moments == (Span(0.25, 1.75),)
        assert _error(_write(tmp_path, _eaf(tiers, ['MEDIA_URL="a.mp4" TIME_ORIGIN="soon"']))) == (
            '`TIME_ORIGIN` of "a.mp4" is "soon"; it should be milliseconds'
        )

    def test_every_fault(self, tmp_path: Path) -> None:
        path = _write(
            tmp_path,
            _eaf(
                _tier(
                    "t",
                    _aligned("a1", "ts1", "ts4", "no time"),
                    _aligned("a2", "ts5", "ts3", "not a time"),
                    _aligned("a3", "ts9", "ts3", "no such slot"),
                    _ref("a4", "a1", "of one without time"),
                    _ref("a5", "a9", "of none"),
                    _ref("a6", "a7", "in a circle"),
                    _ref("a7", "a6", "in a circle"),
                    _aligned("a8", "ts3", "ts2", "reversed"),
                    _aligned("a10", "ts1", "ts2", " "),
                    '<ALIGNABLE_ANNOTATION ANNOTATION_ID="a11" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"/>',
                    _aligned("a12", "ts1", "ts2", "sound"),
                )
            ),
        )
        untimed = "its start or its end has no time; align it in ELAN, or remove it"
        assert _faults(path) == [
            *(("bad time", f'tier "t", annotation "a{number}"', untimed) for number in range(1, 8)),
            (
                "moment ends before it starts",
                'tier "t", annotation "a8"',
                "`start, end` is [4.0, 1.5]: it ends before it starts; correct it",
            ),
            ("empty sentence", 'tier "t", annotation "a10"', 'the sentence is ""; write one'),
            ("empty sentence", 'tier "t", annotation "a11"', 'the sentence is ""; write one'),
        ]
        assert check_dataset(path, None).queries == 1

    def test_utf16(self, tmp_path: Path) -> None:
        content = _eaf(_tier("t", _aligned("a1", "ts1", "ts2", "caf\u00e9")), encoding="UTF-16")
        (record,) = _read(_write(tmp_path, content, encoding="utf-16"))
        assert record.queries[0].text == "caf\u00e9"

    def test_other_encoding(self, tmp_path: Path) -> None:
        content = _eaf(_tier("t", _aligned("a1", "ts1", "ts2", "caf\u00e9")), encoding="ISO-8859-1")
        assert _error(_write(tmp_path, content, encoding="latin-1")) == (
            "line 2: not UTF-8 text; save the file as UTF-8"
        )

    def test_entities_are_refused(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.txt"
        secret.write_text("secret")
        content = _eaf(_tier("t", _aligned("a1", "ts1", "ts2", "&x;"))).replace(
            "?>", f'?><!DOCTYPE d [<!ENTITY x SYSTEM "{secret.as_uri()}">]>', 1
        )
        for encoding in ("utf-8", "utf-16"):
            assert _error(_write(tmp_path, content, encoding=encoding)) == (
                "has a DOCTYPE, which ELAN never writes and which may draw in other files; save it from ELAN"
            )

    def test_not_elan(self, tmp_path: Path) -> None:
        assert _error(_write(tmp_path, "<TIER>")) == (
            "not XML (no element found: line 1, column 6); save it from ELAN again"
        )
        assert _error(_write(tmp_path, "<html/>")) == 'its first element is "html", not ELAN\'s; save it from ELAN'
        assert _error(_write(tmp_path, _eaf(""))) == "holds no queries; give a file with at least one"
