"""``mrnet index`` with the packaged encoders, on a rendered video: that it runs, not that it is right."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_index_and_index_again(command: Command, video: Path) -> None:
    folder = Path("videos")
    folder.mkdir()
    video.rename(folder / "a.mp4")
    (folder / "b.mp4").write_text("not a video")
    status, out, err = command("index", folder, "--library", "lib")
    assert status == 1
    assert out.startswith("1 added, 1 failed (")
    assert out.endswith("x real time): lib\n")
    assert err.startswith(f"{folder.resolve() / 'b.mp4'}: cannot be opened as a video file")
    (folder / "b.mp4").unlink()
    (folder / "a.mp4").rename(folder / "c.mp4")
    status, out, err = command("index", folder, "--library", "lib")
    assert (status, out) == (0, "1 moved: lib\n")
    assert err == f"{folder.resolve() / 'a.mp4'}: is now {folder.resolve() / 'c.mp4'}\n"
    assert command("index", folder, "--library", "lib") == (0, "1 unchanged: lib\n", "")


def test_what_is_refused(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("empty").mkdir()
    assert command.refuses("index", "nowhere", "--library", "lib").endswith(
        "nowhere: no such folder; give a folder of videos"
    )
    assert command.refuses("index", video, "--library", "lib").endswith("is a file; give a folder of videos")
    assert command.refuses("index", ".", "--library", "empty/../a.mp4").endswith("is a file; name a folder")
    assert "no sentences to compare with" in command.refuses("index", ".", "--backbone", "color-hog-motion")
    monkeypatch.setitem(__import__("sys").modules, "lancedb", None)
    assert command.refuses("index", ".", "--library", "lib").endswith("pip install 'mrnet[library]'")


def test_interrupted(command: Command, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mrnet.library.library.Update", interrupt)
    assert command("index", video.parent, "--library", "lib") == (
        130,
        "",
        "mrnet: what is finished is kept; the same command goes on from there\nmrnet: interrupted\n",
    )
