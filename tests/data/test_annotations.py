"""Every annotation format, read into records value for value, and the text of every error."""

import json
from pathlib import Path
from typing import Any

import pytest

from mrnet.data.annotations import Durations, read_annotations
from mrnet.errors import DataError
from mrnet.types import Query, Span, VideoRecord


def _json(tmp_path: Path, content: Any) -> Path:
    return _text(tmp_path / "ann.json", json.dumps(content))


def _jsonl(tmp_path: Path, *rows: Any) -> Path:
    return _text(tmp_path / "ann.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


def _text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def _error(path: Path, durations: Durations | None = None) -> str:
    """The message, without the path that it starts with."""
    with pytest.raises(DataError) as caught:
        read_annotations(path, durations=durations)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


class TestByVideo:
    def test_seconds(self, tmp_path: Path) -> None:
        path = _json(
            tmp_path,
            {
                "v_b": {
                    "duration": 20.5,
                    "timestamps": [[5, 9.5], [0, 21], [5.0, 6], [-1, 2]],
                    "sentences": ["later", " whole ", "later too", "first"],
                },
                "v_a": {"duration": 3, "timestamps": [[1, 2]], "sentences": ["ü"]},
            },
        )
        assert read_annotations(path) == [
            VideoRecord(
                "v_b",
                20.5,
                (
                    Query(" whole ", (Span(0.0, 20.5),), "v_b#1"),  # as it is written
                    Query("first", (Span(0.0, 2.0),), "v_b#3"),
                    Query("later", (Span(5.0, 9.5),), "v_b#0"),
                    Query("later too", (Span(5.0, 6.0),), "v_b#2"),
                ),
            ),
            VideoRecord("v_a", 3.0, (Query("ü", (Span(1.0, 2.0),), "v_a#0"),)),
        ]

    def test_frames_and_audios(self, tmp_path: Path) -> None:
        path = _json(
            tmp_path,
            {
                "s1.avi": {
                    "num_frames": 100,
                    "fps": 25,
                    "timestamps": [[50, 75], [25, 110]],
                    "sentences": ["one", "two"],
                    "audios": ["s1_1.wav", "s1_2.wav"],
                    "speaker": "someone",
                }
            },
        )
        assert read_annotations(path) == [
            VideoRecord(
                "s1.avi",
                4.0,
                (
                    Query("two", (Span(1.0, 4.0),), "s1.avi#1", "s1_2.wav"),
                    Query("one", (Span(2.0, 3.0),), "s1.avi#0", "s1_1.wav"),
                ),
            )
        ]

    def test_odd_moments_are_read_as_published(self, tmp_path: Path) -> None:
        moments = [[6, 2], [4, 4], [12, 15]]
        path = _json(
            tmp_path, {"v": {"duration": 10, "timestamps": moments, "sentences": ["reversed", "nil", "out"]}}
        )
        assert [query.moments for query in read_annotations(path)[0].queries] == [
            (Span(2.0, 6.0),),
            (Span(4.0, 4.0),),
            (Span(10.0, 10.0),),
        ]

    def test_video_without_queries_is_left_out(self, tmp_path: Path) -> None:
        record = {"duration": 10, "timestamps": [[0, 1]], "sentences": ["x"]}
        path = _json(tmp_path, {"a": record, "b": {"duration": 10, "timestamps": [], "sentences": []}})
        assert [video.video_id for video in read_annotations(path)] == ["a"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"duration": float("nan")},
                'video "v", query 0: `duration` of "v" is NaN; it should be seconds, above 0',
            ),
            ({"duration": 0}, 'video "v", query 0: `duration` of "v" is 0; it should be seconds, above 0'),
            (
                {"duration": "10"},
                'video "v", query 0: `duration` of "v" is "10"; it should be seconds, above 0',
            ),
            (
                {"duration": None},
                'video "v", query 0: the length of "v" is unknown; give its `duration` in seconds',
            ),
            (
                {"duration": None, "num_frames": 10},
                'video "v": `num_frames` is 10 and `fps` 0.0; give both, as numbers above 0',
            ),
            (
                {"duration": None, "num_frames": 10, "fps": float("nan")},
                'video "v": `num_frames` is 10 and `fps` NaN; give both, as numbers above 0',
            ),
            (
                {"sentences": ["a", "b"]},
                'video "v": 1 `timestamps` but 2 `sentences`; give one for every query',
            ),
            ({"audios": []}, 'video "v": 1 `timestamps` but 0 `audios`; give one for every query'),
            (
                {"timestamps": None},
                'video "v": `timestamps` is null; it should be a list, an item for every query',
            ),
            (
                {"timestamps": [[0, float("nan")]]},
                'video "v", query 0: `timestamps[0]` is [0, NaN]; '
                "it should be a start and an end, two finite numbers",
            ),
            (
                {"timestamps": [["0", 1]]},
                'video "v", query 0: `timestamps[0]` is ["0", 1]; '
                "it should be a start and an end, two finite numbers",
            ),
            (
                {"timestamps": [7]},
                'video "v", query 0: `timestamps[0]` is 7; it should be a start and an end, two finite numbers',
            ),
            ({"sentences": [" "]}, 'video "v", query 0: the sentence is " "; write one'),
            ({"sentences": [None]}, 'video "v", query 0: the sentence is null; write one'),
            (
                {"audios": [3]},
                'video "v", query 0: `audios` holds 3; it should be the name of a sound file',
            ),
        ],
    )
    def test_malformed_record(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        record = {"duration": 10, "timestamps": [[0, 1]], "sentences": ["a"]} | change
        assert _error(_json(tmp_path, {"v": record})) == message

    def test_other_json(self, tmp_path: Path) -> None:
        assert _error(_json(tmp_path, [1])) == "is a JSON list; it should be an object, video id -> record"
        assert _error(_json(tmp_path, {"v": [1]})) == (
            'video "v": is [1]; it should be an object with timestamps and sentences'
        )
        assert _error(_json(tmp_path, {})) == "holds no queries; give a file with at least one"

    def test_truncated(self, tmp_path: Path) -> None:
        path = _text(tmp_path / "ann.json", '{"v": {"duration": 10,\n "timestamps": [[0, 1]')
        assert _error(path) == (
            "line 2, column 23: not JSON (Expecting ',' delimiter); get a whole copy, "
            "or name the file .jsonl if every line is an object of its own"
        )

    def test_video_twice(self, tmp_path: Path) -> None:
        record = '{"duration": 10, "timestamps": [[0, 1]], "sentences": ["a"]}'
        path = _text(tmp_path / "ann.json", f'{{"v": {record}, "v": {record}}}')
        assert _error(path) == 'key "v": there more than once in one object; merge or remove it'


class TestCharadesLines:
    def test_lines(self, tmp_path: Path) -> None:
        path = _text(tmp_path / "sta.txt", "AO8RW 0.5 6.9##a person##s book.\n\nAO8RW 0.0 40##sits.\nB 1 2##x\n")
        lengths = {"AO8RW": 33.67, "B": 5.0}
        assert read_annotations(path, durations=lengths.get) == [
            VideoRecord(
                "AO8RW",
                33.67,
                (
                    Query("sits.", (Span(0.0, 33.67),), "AO8RW#1"),
                    Query("a person##s book.", (Span(0.5, 6.9),), "AO8RW#0"),
                ),
            ),
            VideoRecord("B", 5.0, (Query("x", (Span(1.0, 2.0),), "B#0"),)),
        ]

    def test_no_length(self, tmp_path: Path) -> None:
        path = _text(tmp_path / "sta.txt", "A 0.5 6.9##a\n")
        message = 'line 1: the length of "A" is unknown; give its `duration` in seconds'
        assert _error(path) == message
        assert _error(path, durations=lambda _: None) == message
        assert _error(path, durations=lambda _: -1.0) == (
            'line 1: `duration` of "A" is -1.0; it should be seconds, above 0'
        )

    @pytest.mark.parametrize("line", ["A 0.5 6.9 a", "A 0.5##a", "A B 0.5 6.9##a"])
    def test_other_line(self, tmp_path: Path, line: str) -> None:
        path = _text(tmp_path / "sta.txt", f"\n{line}\n")
        assert _error(path) == f'line 2: is "{line}"; it should read VIDEO start end##sentence'

    def test_time_that_is_no_number(self, tmp_path: Path) -> None:
        path = _text(tmp_path / "sta.txt", "A 0.5 end##a\n")
        assert _error(path, durations=lambda _: 9.0) == (
            'line 1: `timestamps` is [0.5, "end"]; it should be a start and an end, two finite numbers'
        )


class TestQVHighlights:
    ROW: dict[str, Any] = {  # noqa: RUF012
        "qid": 7,
        "query": "eggs",
        "vid": "x_60.0_210.0",
        "duration": 150,
        "relevant_windows": [[10, 14], [20, 22]],
        "relevant_clip_ids": [5, 6, 10],
        "saliency_scores": [[4, 4, 3], [3, 3, 1], [2, 1, 0]],
    }

    RATED: dict[str, Any] = {  # noqa: RUF012
        "relevant_clips": (5, 6, 10),
        "saliency": ((4, 4, 3), (3, 3, 1), (2, 1, 0)),
    }

    def test_windows_and_saliency(self, tmp_path: Path) -> None:
        other = self.ROW | {"qid": 8, "query": "pan", "relevant_windows": [[2, 4]]}
        assert read_annotations(_jsonl(tmp_path, self.ROW, other)) == [
            VideoRecord(
                "x_60.0_210.0",
                150.0,
                (
                    Query("pan", (Span(2.0, 4.0),), "8", **self.RATED),
                    Query("eggs", (Span(10.0, 14.0), Span(20.0, 22.0)), "7", **self.RATED),
                ),
            )
        ]

    def test_test_split_has_no_moments(self, tmp_path: Path) -> None:
        row = {"qid": 1, "query": "q", "duration": 128, "vid": "a"}
        assert read_annotations(_jsonl(tmp_path, row)) == [
            VideoRecord("a", 128.0, (Query("q", (), "1"),)),
        ]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"qid": None}, "line 2: has no `qid`; QVHighlights rows need one"),
            ({"qid": 1.5}, "line 2: `qid` is 1.5; it should be a number or a name"),
            (
                {"qid": 7},
                'line 2: qid "7" was used before, for the sentence "eggs"; give every query its own',
            ),
            (
                {"qid": 7, "vid": "y"},
                'line 2: qid "7" was used before, for video "x_60.0_210.0"; give every query its own',
            ),
            ({"vid": 3}, "line 2: the video id is 3; it should be a name"),
            (
                {"duration": 120},
                "line 2: `duration` is 120, but 150 in the first row of this video; make them the same",
            ),
            (
                {"relevant_windows": 3},
                "line 2: `relevant_windows` is 3; it should be a list of [start, end]",
            ),
            (
                {"relevant_windows": [[0, 1], [9, 5]]},
                "line 2: `relevant_windows` is [9, 5]: it ends before it starts; correct it",
            ),
            (
                {"relevant_clip_ids": [1.5]},
                "line 2: `relevant_clip_ids` is [1.5]; it should be a list of clip numbers, from 0 on",
            ),
            (
                {"saliency_scores": [3]},
                "line 2: `saliency_scores` is [3]; it should be a list of lists of 3 ratings, each from 0 to 4",
            ),
            (
                {"relevant_clip_ids": [1, -1, 2]},
                "line 2: `relevant_clip_ids` is [1, -1, 2]; it should be a list of clip numbers, from 0 on",
            ),
            (
                {"relevant_clip_ids": [1, 2, 1]},
                "line 2: `relevant_clip_ids` is [1, 2, 1]; it should be a list of clip numbers, from 0 on",
            ),
            *(
                (
                    {"saliency_scores": [[1, 2, 3], [1, 2, 3], wrong]},
                    f"line 2: `saliency_scores` is [[1, 2, 3], [1, 2, 3], {wrong}]; it should be a list of lists of 3 "
                    "ratings, each from 0 to 4",
                )
                for wrong in ([1], [], [1, 2, 3, 4], [1, 2, -5], [1, 2, 5])
            ),
            (
                {"query": "a dog \ud83d"},
                'line 2: the sentence "a dog \ud83d" holds half a character; write it anew',
            ),
            (
                {"vid": "y", "duration": 1e11},
                'line 2: `duration` of "y" is 100000000000.0; it should be seconds, above 0 and at most 1e+07',
            ),
            (
                {"saliency_scores": []},
                "line 2: 3 `relevant_clip_ids` but 0 `saliency_scores`; give a list of ratings for every clip",
            ),
        ],
    )
    def test_malformed_row(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        assert _error(_jsonl(tmp_path, self.ROW, self.ROW | {"qid": 8} | change)) == message


class TestOwnRows:
    RECORDS = [  # noqa: RUF012
        VideoRecord(
            "cat",
            30.0,
            (
                Query("a cat, asleep", (Span(1.0, 2.5),), "cat#1"),
                Query("it jumps", (Span(4.0, 5.0), Span(9.0, 30.0)), "j"),
            ),
        ),
        VideoRecord("dog.run", 12.0, (Query("a dog", (Span(0.0, 3.0),), "dog.run#0"),)),
    ]

    def test_csv(self, tmp_path: Path) -> None:
        path = _text(
            tmp_path / "own.csv",
            "\ufeffvideo,start,end,query,duration,qid\r\n"
            "cat.mp4,4,5,it jumps,30,j\r\n"
            'cat.mp4,1,2.5,"a cat, asleep",30.0,\r\n'
            "cat.mp4,9,31,it jumps,,j\r\n"
            "dog.run.MKV,0,3,a dog,12,\r\n",
        )
        assert read_annotations(path) == self.RECORDS

    def test_jsonl(self, tmp_path: Path) -> None:
        path = _jsonl(
            tmp_path,
            {"video": "cat", "start": 4, "end": 5, "query": "it jumps", "duration": 30, "qid": "j"},
            {"video": "cat", "start": 1, "end": 2.5, "query": "a cat, asleep"},
            {"video": "cat", "start": 9, "end": 31, "query": "it jumps", "qid": "j"},
            {"video": "dog.run", "start": 0, "end": 3, "query": "a dog"},
        )
        assert read_annotations(path, durations={"dog.run": 12.0}.get) == self.RECORDS

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (
                "a,5,4,x,10,",
                "line 2: `start, end` is [5.0, 4.0]: it ends before it starts; correct it",
            ),
            ("a,5,5,x,10,", "line 2: `start, end` is [5.0, 5.0]: it has no length; correct it"),
            (
                "a,141,354,x,10,",
                "line 2: `start, end` is [141.0, 354.0]: no part of it is within the 10 s of the video; "
                "are these seconds?",
            ),
            (
                "a,nan,4,x,10,",
                'line 2: `start, end` is ["nan", 4.0]; it should be a start and an end, two finite numbers',
            ),
            (
                "a,1_0,4,x,10,",
                'line 2: `start, end` is ["1_0", 4.0]; it should be a start and an end, two finite numbers',
            ),
            ("a,1,4,x,1e4000,", 'line 2: `duration` of "a" is "1e4000"; it should be seconds, above 0'),
            (
                "a,0:05,4,x,10,",
                'line 2: `start, end` is ["0:05", 4.0]; it should be a start and an end, two finite numbers',
            ),
            ("a,1,4,x,ten,", 'line 2: `duration` of "a" is "ten"; it should be seconds, above 0'),
            ("a,1,4,x,,", 'line 2: the length of "a" is unknown; give its `duration` in seconds'),
            ("a,1,4,,10,", 'line 2: the sentence is ""; write one'),
            (",1,,x,10,", "line 2: no `video`, `end`; a row needs video, start, end and query"),
            (".mp4,1,4,x,10,", 'line 2: the video id is ""; it should be a name'),
            (
                "a,1,4,x, y,10,",
                "line 2: not 6 cells as in the header; put quotes round a sentence with commas",
            ),
            ("a,1,4", "line 2: not 6 cells as in the header; put quotes round a sentence with commas"),
            ('a,1,4,"x"y,10,', "line 2: not CSV (',' expected after '\"'); check its quotes"),
        ],
    )
    def test_malformed_csv_row(self, tmp_path: Path, row: str, message: str) -> None:
        path = _text(tmp_path / "own.csv", f"video,start,end,query,duration,qid\n{row}\n")
        assert _error(path) == message

    def test_csv_header(self, tmp_path: Path) -> None:
        path = _text(tmp_path / "own.csv", "video;start;end;query\na;1;2;x\n")
        assert _error(path) == (
            'line 1: no column video, start, end, query in the header "video;start;end;query"; '
            "the first line should read video,start,end,query"
        )
        assert "no column video, start" in _error(_text(tmp_path / "empty.csv", ""))
        path = _text(tmp_path / "twice.csv", "video,start,end,query,start\na,1,2,x,3\n")
        assert _error(path) == 'line 1: column "start" is there twice; keep one of them'

    def test_malformed_jsonl_row(self, tmp_path: Path) -> None:
        row = {"video": "a", "start": 1, "end": 2, "query": "x", "duration": 9, "qid": "q"}
        assert _error(_text(tmp_path / "a.jsonl", f'{json.dumps(row)}\n{{"video": "a", "st')) == (
            "line 2: column 16: not JSON (Unterminated string starting at); a line should be one whole object"
        )
        assert _error(_text(tmp_path / "a.jsonl", "3\n")) == "line 1: is 3; a line should be an object"
        (record,) = read_annotations(_jsonl(tmp_path, row, row | {"query": " x"}))  # the same but for blanks
        assert record.queries == (Query("x", (Span(1, 2), Span(1, 2)), "q"),)
        assert _error(_jsonl(tmp_path, row, row | {"query": "y"})) == (
            'line 2: qid "q" was used before, for the sentence "x"; give every query its own'
        )
        assert _error(_jsonl(tmp_path, row | {"start": True})) == (
            "line 1: `start, end` is [true, 2]; it should be a start and an end, two finite numbers"
        )


class TestFile:
    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "none.json"
        assert _error(path) == "cannot be read (No such file or directory); give the annotation file"

    def test_unknown_format(self, tmp_path: Path) -> None:
        assert _error(tmp_path / "a.xml") == 'unknown format ".xml"; name it .json, .jsonl, .csv, .txt, .vtt, .eaf'

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "own.csv"
        path.write_bytes("video,start,end,query\na,1,2,caf\u00e9\n".encode("latin-1"))
        assert _error(path) == "line 2: not UTF-8 text; save the file as UTF-8"

    def test_utf16(self, tmp_path: Path) -> None:
        path = tmp_path / "own.csv"
        path.write_bytes("video,start,end,query,duration\na,1,2,caf\u00e9,5\n".encode("utf-16"))
        assert read_annotations(path) == [VideoRecord("a", 5.0, (Query("caf\u00e9", (Span(1.0, 2.0),), "a#0"),))]
        path.write_bytes(path.read_bytes()[:-1])
        assert _error(path) == "line 2: not UTF-8 text; save the file as UTF-8"

    def test_long_values_are_shortened(self, tmp_path: Path) -> None:
        path = _json(tmp_path, {"v": ["x" * 100]})
        assert _error(path) == (
            f'video "v": is ["{"x" * 55}…; it should be an object with timestamps and sentences'
        )


class TestSeveralFiles:
    ROW: dict[str, Any] = {"video": "a", "start": 1, "end": 2, "query": "x", "duration": 9}  # noqa: RUF012

    def test_read_as_one(self, tmp_path: Path) -> None:
        rows = _jsonl(tmp_path, self.ROW | {"qid": "q"})
        cells = _text(tmp_path / "own.csv", "video,start,end,query,qid\na,3,4,x,q\na,0,1,y,\n")
        assert read_annotations([rows, cells]) == [
            VideoRecord(
                "a",
                9.0,
                (
                    Query("y", (Span(0.0, 1.0),), "a#1"),
                    Query("x", (Span(1.0, 2.0), Span(3.0, 4.0)), "q"),
                ),
            )
        ]

    def test_faults_name_the_file(self, tmp_path: Path) -> None:
        rows = _jsonl(tmp_path, self.ROW | {"qid": "q"})
        other = _text(tmp_path / "own.csv", "video,start,end,query,duration,qid\nb,3,4,y,9,q\n")
        with pytest.raises(DataError) as caught:
            read_annotations([rows, other])
        assert str(caught.value) == (
            f'{other}: line 2: qid "q" was used before, for video "a"; give every query its own'
        )

    def test_no_queries(self, tmp_path: Path) -> None:
        empty = _text(tmp_path / "own.csv", "video,start,end,query\n")
        with pytest.raises(DataError) as caught:
            read_annotations([empty, empty])
        assert str(caught.value) == "2 annotation files hold no queries; give a file with at least one"
