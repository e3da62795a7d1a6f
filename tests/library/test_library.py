import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mrnet.config.spec import Calibration
from mrnet.errors import ConfigError, DataError, LibraryError
from mrnet.library.library import Library
from mrnet.predictor import Predictor
from tests.library.conftest import Colours, paint


def names(library: Library, query: str, **how: object) -> list[str]:
    return [Path(hit.video).name for hit in library.search(query, **how)]  # type: ignore[arg-type]


def test_each_colour_is_found_where_it_is(library: Library, videos: Path) -> None:
    answer = library.search("green", k=1)
    assert [(hit.video, hit.duration_s) for hit in answer] == [(str(videos / "a.mp4"), 8.0)]
    assert answer[0].moment[:2] == pytest.approx((3.75, 8.0))
    assert (answer.num_videos, answer.num_searched, answer.exact) == (3, 3, True)
    assert names(library, "yellow", k=1) == ["b.mp4"]
    assert names(library, "white", k=1) == ["c.mp4"]


def test_moments_are_those_of_find(library: Library, predictor: Predictor) -> None:
    for hit in library.search("blue", k=2):
        assert hit.moment == predictor.find(hit.video, "blue", k=1)[0]


def test_scores_that_do_not_compare_are_taken_in_turn(library: Library) -> None:
    found = names(library, "red", k=4)
    assert sorted(found[:2]) == ["a.mp4", "b.mp4"] or sorted(found[:3]) == ["a.mp4", "b.mp4", "c.mp4"]


def test_equal_scores_are_in_order_of_paths(library: Library, videos: Path) -> None:
    """Whichever came into the library first."""
    for name, other in (("z.mp4", "red"), ("0.mp4", "white"), ("n.mp4", "green")):
        paint(videos / name, other, "yellow")
        library.update(videos)
    assert names(library, "yellow", k=4) == ["0.mp4", "b.mp4", "n.mp4", "z.mp4"]


def calibrate(predictor: Predictor, threshold: float) -> None:
    predictor.engine.calibration = Calibration(  # type: ignore[misc]
        bias=0.0, weights=(1, 0, 0, 0, 0), threshold=threshold, footage="paint"
    )


def test_the_best_moments_of_all_videos_come_first(library: Library, predictor: Predictor) -> None:
    calibrate(predictor, 0.0)
    answer = library.search("green", k=20)
    found = [Path(hit.video).name for hit in answer]
    assert (found[0], sorted(found[:3])) == ("a.mp4", ["a.mp4", "b.mp4", "c.mp4"])
    assert (answer.score_name, answer.calibrated_on) == ("probability", "paint")


def test_what_is_unlikely_is_a_guess(library: Library, predictor: Predictor) -> None:
    calibrate(predictor, 1.0)
    answer = library.search("green")
    assert len(answer) == 0
    assert answer.best_guess is not None
    assert Path(answer.best_guess.video).name == "a.mp4"


def test_filters(library: Library, videos: Path) -> None:
    old, day = time.mktime((2020, 5, 17, 23, 0, 0, 0, 0, -1)), "2020-05-17"
    os.utime(videos / "b.mp4", (old, old))
    library.update(videos)
    assert set(names(library, "blue", folder=videos / "trip")) == {"c.mp4"}
    assert set(names(library, "blue", name="B.*")) == {"b.mp4"}
    assert set(names(library, "blue", until=day)) == {"b.mp4"}
    assert set(names(library, "blue", since=day, until="2020-05-17T23:30")) == {"b.mp4"}
    assert set(names(library, "blue", since="2020-05-18")) == {"a.mp4", "c.mp4"}
    answer = library.search("blue", name="nothing*")
    assert (len(answer), answer.best_guess, answer.num_searched) == (0, None, 0)
    assert answer.note == "no video of the library passes the filters"


def test_what_is_refused(library: Library, tmp_path: Path, predictor: Predictor) -> None:
    with pytest.raises(DataError, match="k is 0: ask for at least 1 moment"):
        library.search("red", k=0)
    for folder in ("a\0b", "a\ud800b", "~nobody-of-this-name/x"):
        with pytest.raises(DataError, match="is the name of no folder; give another"):
            library.search("red", folder=folder)
    with pytest.raises(DataError, match="'soon' is no date: write one as 2026-11-26"):
        library.search("red", since="soon")
    with pytest.raises(DataError, match="the query is empty"):
        library.search(" ")
    missing = Library.open(tmp_path / "missing", predictor)
    with pytest.raises(LibraryError, match="there is no library yet; make one: mrnet index"):
        missing.search("red")
    assert not (tmp_path / "missing").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    with pytest.raises(LibraryError, match="is no library; name another place"):
        Library.open(tmp_path / "taken", predictor).search("red")
    with pytest.raises(LibraryError, match="is a file; name a folder"):
        Library.open(tmp_path / "taken" / "notes.txt", predictor).search("red")


def test_another_encoder_is_refused(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Colours, "revision", "2")
    with pytest.raises(
        LibraryError, match="is of 'colours' revision 1 rows, which 'colours' revision 2 does not make"
    ):
        library.search("red")


def test_a_trained_model_is_refused(tmp_path: Path, predictor: Predictor) -> None:
    predictor.engine = object()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="not by a trained model"):
        Library.open(tmp_path / "library", predictor)


def test_what_is_said_is_searched(library: Library, videos: Path) -> None:
    answer = library.search('"look at the sea"')
    assert (len(answer), answer.note) == (
        0,
        "no video here has subtitles, in which the words in quotes could be found",
    )
    (videos / "b.srt").write_text("1\n00:00:02,000 --> 00:00:04,000\nLook at the sea, it is so calm!\n")
    (videos / "trip" / "c.srt").write_text("1\n00:00:01,000 --> 00:00:03,000\nThe train was late again.\n")
    assert sorted(Path(path).name for path in library.update(videos).changed) == ["b.mp4", "c.mp4"]
    for query in ('"look at the sea"', "look at the sea"):
        hit = library.search(query)[0]
        assert (Path(hit.video).name, hit.moment.source, hit.score) == ("b.mp4", "said", 1.0)
        assert hit.moment[:2] == (2.0, 4.0)
    document = library.search("the train came too late").to_dict()
    [said] = [hit for hit in document["hits"] if hit["source"] == "said"]
    assert (Path(said["video"]).name, said["words"]) == ("c.mp4", "The train was late again.")
    assert 0.6 <= said["score"] < 1
    assert document["answered_by"] == "colours, without training, and what is said by subtitles"


def test_copies_count_once(library: Library, videos: Path) -> None:
    (videos / "copy.mp4").write_bytes((videos / "a.mp4").read_bytes())
    assert library.update(videos).added == [str(videos / "copy.mp4")]
    assert names(library, "green", k=1) == ["a.mp4"]
    assert names(library, "green", k=1, name="copy*") == ["copy.mp4"]
    assert sorted(set(names(library, "green", k=100))) == ["a.mp4", "b.mp4", "c.mp4"]


def test_an_open_library_sees_what_others_write(
    library: Library, open_library: Callable[[], Library], videos: Path
) -> None:
    assert names(library, "white", k=1) == ["c.mp4"]
    paint(videos / "d.mp4", "white", "red", "white")
    (videos / "trip" / "c.mp4").unlink()
    open_library().update(videos)
    assert names(library, "white", k=1) == ["d.mp4"]
    assert [Path(video.path).name for video in library.videos()] == ["a.mp4", "b.mp4", "d.mp4"]


def test_the_encoder_of_the_library_is_taken(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(
        Predictor, "auto", classmethod(lambda _cls, name, **_: made.append(name) or library.predictor)
    )
    Library.open(tmp_path / "library").search("red")
    assert made == ["colours"]
