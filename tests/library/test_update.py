import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mrnet.errors import DataError, LibraryError
from mrnet.library.library import Library
from mrnet.library.update import UpdateReport
from mrnet.media.subtitles import SUBTITLE_SUFFIXES
from tests.library.conftest import Colours, paint
from tests.media.test_video import noise, write_faststart


def told(report: UpdateReport) -> dict[str, Any]:
    """What happened, with names in place of paths."""
    return {
        "added": sorted(Path(path).name for path in report.added),
        "changed": sorted(Path(path).name for path in report.changed),
        "moved": sorted((Path(before).name, Path(now).name) for before, now in report.moved),
        "deleted": sorted(Path(path).name for path in report.deleted),
        "failed": {Path(path).name: reason for path, reason in report.failed.items()},
        "unchanged": report.unchanged,
    }


def only(**changes: Any) -> dict[str, Any]:
    nothing = {"added": [], "changed": [], "moved": [], "deleted": [], "failed": {}, "unchanged": 0}
    return nothing | changes


def content(library: Library) -> dict[str, Any]:
    """All that a library holds, by name of file."""
    store, found = library._store, {}
    for video in library.videos():
        rows, said = store.rows_of(video), store.said_of(video)
        assert rows is not None
        spoken = None if said is None else (said.name, said.cues, said.words, said.vectors.tolist())
        found[Path(video.path).name] = (video.duration_s, rows.tolist(), spoken)
    return found


def leaves_nothing(library: Library) -> bool:
    """Whether every row and subtitle belongs to a file."""
    store, videos = library._store, library.videos()
    rows = {video.content: video.num_rows for video in videos}
    return store.counts("rows") == rows and set(store.counts("said")) == {
        v.said for v in videos if v.said is not None
    }


def test_what_is_new_changed_moved_and_deleted(
    open_library: Callable[[], Library], videos: Path, encoder: Colours
) -> None:
    library, seen = open_library(), []
    report = library.update(videos, lambda done, total: seen.append((done, total)))
    assert told(report) == only(added=["a.mp4", "b.mp4", "c.mp4"])
    assert report.media_s == pytest.approx(28.0)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    encoder.prepared.clear()
    assert told(library.update(videos)) == only(unchanged=3)

    (videos / "a.mp4").rename(videos / "trip" / "moved.mp4")
    (videos / "b.mp4").unlink()
    paint(videos / "trip" / "c.mp4", "green", "red")
    paint(videos / "new.mp4", "yellow")
    report = library.update(videos)
    assert told(report) == only(
        added=["new.mp4"], changed=["c.mp4"], moved=[("a.mp4", "moved.mp4")], deleted=["b.mp4"]
    )
    assert report.to_dict()["moved"] == [{"from": str(videos / "a.mp4"), "to": str(videos / "trip" / "moved.mp4")}]
    assert sorted(encoder.prepared) == ["c.mp4", "new.mp4"]
    assert content(library).keys() == {"c.mp4", "moved.mp4", "new.mp4"}
    assert Path(library.search("green", k=1)[0].video).name in ("c.mp4", "moved.mp4")
    assert leaves_nothing(library)


def test_a_touched_file_is_unchanged(library: Library, videos: Path, encoder: Colours) -> None:
    encoder.prepared.clear()
    os.utime(videos / "a.mp4", (1, 1))
    assert told(library.update(videos)) == only(unchanged=3)
    assert encoder.prepared == []


def test_folders_are_apart(library: Library, videos: Path, tmp_path: Path) -> None:
    paint(tmp_path / "more" / "d.mp4", "yellow")
    assert told(library.update(tmp_path / "more")) == only(added=["d.mp4"])
    (videos / "trip" / "c.mp4").rename(tmp_path / "more" / "c.mp4")
    assert told(library.update(tmp_path / "more")) == only(moved=[("c.mp4", "c.mp4")], unchanged=1)
    assert told(library.update(videos)) == only(unchanged=2)


def test_an_empty_folder_deletes_nothing(library: Library, videos: Path) -> None:
    shutil.rmtree(videos)
    with pytest.raises(DataError, match="no such folder; give a folder of videos"):
        library.update(videos)
    videos.mkdir()
    with pytest.raises(DataError, match="holds no videos, of the 3 that the library has from there"):
        library.update(videos)
    assert len(library.videos()) == 3
    paint(videos.parent / "other.mp4", "red")
    assert told(library.update(videos.parent)) == only(added=["other.mp4"], deleted=["a.mp4", "b.mp4", "c.mp4"])
    assert leaves_nothing(library)


def test_a_lost_table_comes_anew_and_a_wrong_one_is_refused(
    library: Library, open_library: Callable[[], Library], videos: Path, tmp_path: Path
) -> None:
    expected, tables = content(library), tmp_path / "library"
    shutil.rmtree(tables / "rows.lance")
    assert told(open_library().update(videos)) == only(unchanged=3)
    assert content(open_library()) == expected
    shutil.rmtree(tables / "said.lance")
    shutil.copytree(tables / "rows.lance", tables / "said.lance")
    with pytest.raises(LibraryError, match=r"cannot be read or written \(.*[Ss]chema"):
        open_library().update(videos)


def test_a_refused_folder_makes_no_library(open_library: Callable[[], Library], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no videos; give a folder of videos"):
        open_library().update(tmp_path / "empty")
    assert not (tmp_path / "library").exists()


def test_what_cannot_be_taken_in(open_library: Callable[[], Library], videos: Path) -> None:
    (videos / "broken.mp4").write_bytes((videos / "a.mp4").read_bytes() + b"x")
    (videos / "text.mp4").write_text("not a video")
    library = open_library()
    report = library.update(videos)
    assert told(report)["failed"].keys() == {"broken.mp4", "text.mp4"}
    assert report.failed[str(videos / "broken.mp4")] == "is broken"
    assert "cannot be opened as a video file" in report.failed[str(videos / "text.mp4")]
    assert len(report.added) == 3
    (videos / "a.mp4").write_text("no longer a video")
    report = library.update(videos)
    assert told(report)["failed"].keys() == {"a.mp4", "broken.mp4", "text.mp4"}
    assert content(library).keys() == {"b.mp4", "c.mp4"}
    assert leaves_nothing(library)


def test_a_file_that_breaks_off_is_taken_as_far_as_it_goes(library: Library, videos: Path) -> None:
    write_faststart(videos / "cut.mp4", noise(80))
    (videos / "cut.mp4").write_bytes((videos / "cut.mp4").read_bytes()[: (videos / "cut.mp4").stat().st_size // 2])
    assert told(library.update(videos)) == only(added=["cut.mp4"], unchanged=3)
    [video] = [video for video in library.videos() if video.path.endswith("cut.mp4")]
    assert video.note == f"the video ends at {video.duration_s:.1f} s of 10.0 s: the file is incomplete"
    assert library.search("red", name="cut.*").note == f"{video.path}: {video.note}"


@pytest.mark.parametrize("suffix", SUBTITLE_SUFFIXES[:2])
def test_subtitles_come_and_go(library: Library, videos: Path, encoder: Colours, suffix: str) -> None:
    encoder.prepared.clear()
    head, point = ("WEBVTT\n\n", ".") if suffix == ".vtt" else ("", ",")
    subtitles = videos / f"a.en{suffix}"
    subtitles.write_text(f"{head}1\n00:00:01{point}000 --> 00:00:02{point}000\nhello\n")
    assert told(library.update(videos)) == only(changed=["a.mp4"], unchanged=2)
    assert content(library)["a.mp4"][2][2] == " hello "
    subtitles = subtitles.rename(videos / f"a.de{suffix}")
    assert told(library.update(videos)) == only(changed=["a.mp4"], unchanged=2)  # of another language
    assert content(library)["a.mp4"][2][:1] == (f"a.de{suffix}",)
    subtitles = subtitles.rename(videos / f"a-old{suffix}")  # no longer this video's
    assert told(library.update(videos)) == only(changed=["a.mp4"], unchanged=2)
    assert content(library)["a.mp4"][2] is None
    subtitles.unlink()
    assert told(library.update(videos)) == only(unchanged=3)
    assert encoder.prepared == []
    assert leaves_nothing(library)


def test_interrupted_it_keeps_what_is_finished(open_library: Callable[[], Library], videos: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_library().update(videos, interrupt)
    assert told(open_library().update(videos)) | {"added": 0} == only(added=0, unchanged=1)


def test_rows_written_twice_are_mended(library: Library, videos: Path, encoder: Colours) -> None:
    """As two processes may, in a place without locks."""
    expected = content(library)
    store, video = library._store, library.videos()[0]
    rows = store.rows_of(video)
    assert rows is not None
    store.add_rows([(video.content, rows, torch.from_numpy(rows))])
    assert content(library) == expected
    encoder.prepared.clear()
    library.update(videos)
    assert encoder.prepared == ["a.mp4"]
    assert content(library) == expected
    assert leaves_nothing(library)
