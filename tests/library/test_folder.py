import os
from pathlib import Path

import pytest

from mrnet.errors import DataError
from mrnet.library.folder import is_below, list_videos


def test_videos_at_any_depth(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.txt", ".c.mp4", "trip/d.MKV", ".hidden/e.mp4", "trip/deep/f.webm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listing = list_videos(tmp_path)
    assert sorted(listing.files) == [str(tmp_path / name) for name in ("a.mp4", "trip/d.MKV", "trip/deep/f.webm")]
    assert listing.failed == {}


def test_the_stamp_tells_of_the_file_and_its_subtitles(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")

    def stamp() -> str:
        return list_videos(tmp_path).files[str(path)].stamp

    stamps = [stamp()]
    (tmp_path / "other.srt").write_text("x")
    assert stamp() == stamps[0]
    (tmp_path / "a.en.srt").write_text("x")
    stamps.append(stamp())
    (tmp_path / "a.en.srt").write_text("xy")
    stamps.append(stamp())
    (tmp_path / "a.en.srt").rename(tmp_path / "a.de.srt")
    stamps.append(stamp())
    os.utime(path, (5, 5))
    stamps.append(stamp())
    path.write_bytes(b"xy")
    stamps.append(stamp())
    assert len(set(stamps)) == len(stamps)


def test_what_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder; give a folder of videos"):
        list_videos(tmp_path / "nowhere")
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match="is a file; give a folder of videos"):
        list_videos(tmp_path / "a.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / os.fsdecode(b"\xff.mp4")).write_bytes(b"x")
    listing = list_videos(tmp_path)
    assert listing.files.keys() == {str(tmp_path / "a.mp4")}
    assert listing.failed == {
        str(tmp_path / "gone.mp4"): "cannot be read (No such file or directory)",
        str(tmp_path / "\\udcff.mp4"): "its name is not UTF-8; rename it",
    }


def test_is_below() -> None:
    assert is_below("/a/b/c.mp4", Path("/a/b"))
    assert is_below("/a/b", "/a/b")
    assert not is_below("/a/bc/d.mp4", Path("/a/b"))


def test_what_is_no_file_is_told_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / "nowhere.mp4").symlink_to("nothing")
    assert list_videos(tmp_path).failed == {
        str(tmp_path / "pipe.mp4"): "is no file",
        str(tmp_path / "device.mp4"): "is no file",
        str(tmp_path / "nowhere.mp4"): "cannot be read (No such file or directory)",
    }
