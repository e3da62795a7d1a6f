"""``mrnet search`` with the packaged encoders, on a rendered video: that it runs, not that it is right."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_find_untrained import show_from


@pytest.fixture
def indexed(command: Command, video: Path) -> Path:
    """The video, in the library ``lib``."""
    video.with_suffix(".srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nLook at the sea, it is calm.\n")
    assert command("index", video.parent, "--library", "lib")[0] == 0
    return video


def test_json(command: Command, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show_from(0.0, monkeypatch)
    status, out, err = command("search", "a dog", "--library", "lib", "--json", "-k", "2", "--name", "*.mp4")
    assert status == 0, err
    document = json.loads(out)
    assert document.keys() == {"query", "hits", "best_guess", "library", "note", "answered_by", "calibrated_on"}
    assert document["library"] == {"uri": "lib", "num_videos": 1, "num_searched": 1, "exact": True}
    hit = document["hits"][0]
    assert hit.keys() == {"rank", "video", "duration_s", "start_s", "end_s", "probability", "source", "words"}
    assert (hit["rank"], hit["video"], hit["source"]) == (1, str(indexed), "seen")
    found = json.loads(command("find", indexed, "a dog", "--json", "-k", "2")[1])
    assert [moment | {"video": str(indexed), "duration_s": 4.0} for moment in found["moments"]] == document["hits"]


@pytest.mark.usefixtures("indexed")
def test_json_where_the_output_lacks_letters(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrnet.cli.common.output_encoding", lambda: "latin-1")
    out = command("search", "un \U0001f415 brûlé", "--library", "lib", "--json")[1]
    assert out.isascii()
    assert json.loads(out)["query"] == "un \U0001f415 brûlé"


def test_nobodys_home(command: Command) -> None:
    line = "mrnet: error: ~no-one-here/lib: there is no such user; name another folder, or a URI"
    assert command.refuses("search", "a dog", "--library", "~no-one-here/lib") == line
    Path("films").mkdir()
    assert command.refuses("index", "films", "--library", "~no-one-here/lib") == line


def test_table(command: Command, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = command("search", '"look at the sea"', "--library", "lib")
    assert (status, err) == (0, "")
    first, last = out.splitlines()
    assert first == f'1.  0:00:01.0 - 0:00:02.0  said  {indexed}  "Look at the sea, it is calm."'
    assert last.startswith("searched 1 of 1 videos; answered by efficientnet-lite0 and minilm-l6-v2")
    show_from(1.0, monkeypatch)
    lines = command("search", "a dog", "--library", "lib")[1].splitlines()
    assert lines[:2] == ["not in these videos, as far as can be told", "best guess:"]
    assert lines[2].endswith(str(indexed))


@pytest.mark.skipif(os.name == "nt", reason="no such names")
def test_names_and_words_do_not_steer_the_terminal(command: Command, video: Path) -> None:
    film = video.rename(video.with_name("\x1b[2Jb\n1.  mine\t.mp4"))
    film.with_suffix(".srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nLook at the sea\x9b2J\x1b[2J.\n")
    film.with_name("\x1b[31mno.mp4").write_text("not a video")
    status, out, err = command("index", film.parent, "--library", "lib")
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"{film.parent}/\\x1b[31mno.mp4: ")
    assert out.removesuffix("\n").isprintable()
    status, out, err = command("search", '"look at the sea"', "--library", "lib")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == (
        f'1.  0:00:01.0 - 0:00:02.0  said  {film.parent}/\\x1b[2Jb\\n1.  mine\\t.mp4  "Look at the sea\\x9b2J\\x1b[2J."'
    )
    document = json.loads(command("search", '"look at the sea"', "--library", "lib", "--json")[1])
    assert document["hits"][0]["video"] == str(film)
    found = command("find", film, '"look at the sea"')[1]
    assert found.splitlines()[1].endswith('"Look at the sea\\x9b2J\\x1b[2J."')
    film.rename(film.with_name("\x1b[32mc.mp4"))
    err = command("index", film.parent, "--library", "lib")[2]
    assert f"{film.parent}/\\x1b[2Jb\\n1.  mine\\t.mp4: is now {film.parent}/\\x1b[32mc.mp4\n" in err


@pytest.mark.usefixtures("indexed")
def test_what_is_refused(command: Command) -> None:
    assert command.refuses("search", "a dog", "--library", "nowhere").endswith(
        "nowhere: there is no library yet; make one: mrnet index DIR --library URI"
    )
    assert "is no date" in command.refuses("search", "a dog", "--library", "lib", "--since", "yesterday")
    assert "the query is empty" in command.refuses("search", " ", "--library", "lib")
    assert "0 is not at least 1" in command.refuses("search", "a dog", "--library", "lib", "-k", "0")
    assert command("search", "a dog", "--library", "lib", "--name", "b*")[2] == (
        "no video of the library passes the filters\n"
    )
