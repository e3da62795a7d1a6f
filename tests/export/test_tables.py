"""Tables to look at and to compute with."""

import csv
import io

import pytest

from mrnet.export.tables import to_csv, to_table
from mrnet.types import Moment

MOMENTS = [Moment(12.34, 19.04, 0.821), Moment(0.0, 3.0, 0.5), Moment(3599.96, 3600.0, 0.044)]


def test_csv() -> None:
    text = to_csv([('a "big" dog, jumps', MOMENTS[:2]), ("none", []), ("été\nfin", MOMENTS[2:])], "my video.mp4")
    assert text == (
        "rank,start_s,end_s,probability,source,words,video,query\n"
        '1,12.340,19.040,0.8210,seen,,my video.mp4,"a ""big"" dog, jumps"\n'
        '2,0.000,3.000,0.5000,seen,,my video.mp4,"a ""big"" dog, jumps"\n'
        '1,3599.960,3600.000,0.0440,seen,,my video.mp4,"été\nfin"\n'
    )
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["query"] for row in rows] == ['a "big" dog, jumps', 'a "big" dog, jumps', "été\nfin"]


def test_csv_of_scores() -> None:
    assert to_csv([], "a.mp4", "score") == "rank,start_s,end_s,score,source,words,video,query\n"


def test_what_was_said_has_no_probability() -> None:
    said = Moment(1.0, 2.0, 0.71, "said", 'No, "you" jump!')
    assert to_csv([("q", [said])], "a.mp4").splitlines()[1] == '1,1.000,2.000,,said,"No, ""you"" jump!",a.mp4,q'
    assert to_csv([("q", [said])], "a.mp4", "score").splitlines()[1].startswith("1,1.000,2.000,0.7100,said,")
    long = said._replace(words="and " * 100)
    assert to_table([MOMENTS[0], said, long], 40.0, "score", "ascii").splitlines()[2:] == [
        '2.  0:00:01.0 - 0:00:02.0  said   -#--------------------------------------  "No, "you" jump!"',
        '3.  0:00:01.0 - 0:00:02.0  said   -#--------------------------------------  "' + "and " * 19 + '..."',
    ]


def test_table() -> None:
    assert to_table(MOMENTS, 40.0).splitlines()[:3] == [
        "    start       end        probability",
        "1.  0:00:12.3 - 0:00:19.0  82%          ············███████·····················",
        "2.  0:00:00.0 - 0:00:03.0  50%          ███·····································",
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", None, "no such encoding"])
def test_table_without_blocks(encoding: str | None) -> None:
    assert to_table(MOMENTS, 3600.0, "score", encoding) == (
        "    start       end        score\n"
        "1.  0:00:12.3 - 0:00:19.0  0.82   #---------------------------------------\n"
        "2.  0:00:00.0 - 0:00:03.0  0.50   #---------------------------------------\n"
        "3.  1:00:00.0 - 1:00:00.0  0.04   ---------------------------------------#"
    )


def test_ten_moments_and_more_stay_in_line() -> None:
    lines = to_table([MOMENTS[0]] * 10, 40.0).splitlines()
    assert [line.index("0:00:12.3") for line in lines[1:]] == [5] * 10
    assert lines[0].index("start") == 5
    assert lines[10].startswith("10.  ")


def test_bars_stay_within_the_video() -> None:
    """Of moments that reach beyond its length, which may be a little off."""
    assert to_table([Moment(39.99, 41.0, 0.5), Moment(41.0, 42.0, 0.5)], 40.0, encoding="ascii").splitlines()[
        1:
    ] == [
        "1.  0:00:40.0 - 0:00:41.0  50%          ---------------------------------------#",
        "2.  0:00:41.0 - 0:00:42.0  50%          ---------------------------------------#",
    ]
