"""A library of which the end of a file is missing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mrnet.errors import LibraryError
from mrnet.library import mend
from mrnet.library.library import Library
from mrnet.library.store import Store
from tests.library.conftest import paint
from tests.library.test_update import content, leaves_nothing, only, told


def cut_off(table: Path) -> None:
    """The file that came last, as a full disk left one that LanceDB had taken for whole."""
    newest = max((table / "data").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-42])


@pytest.mark.parametrize("table", ["videos", "rows", "said", "passages"])
def test_what_is_cut_off_comes_anew(
    table: str, library: Library, open_library: Callable[[], Library], videos: Path, tmp_path: Path
) -> None:
    (videos / "b.srt").write_text("1\n00:00:02,000 --> 00:00:04,000\nLook at the sea, it is so calm!\n")
    paint(videos / "d.mp4", "white", "red")
    library.update(videos)
    expected = content(library)
    cut_off(tmp_path / "library" / f"{table}.lance")
    with pytest.raises(LibraryError, match="cannot be read or written"):
        content(open_library())
    open_library().update(videos)
    assert content(open_library()) == expected
    assert leaves_nothing(open_library())
    assert told(open_library().update(videos)) == only(unchanged=4)


def test_what_an_update_that_fails_leaves_can_be_read(
    library: Library,
    open_library: Callable[[], Library],
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Store) -> None:
        cut_off(tmp_path / "library" / "videos.lance")
        raise LibraryError("the disk is full")

    before = content(library)
    paint(videos / "d.mp4", "white", "red")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "compact", fail)
        with pytest.raises(LibraryError, match="the disk is full"):
            library.update(videos)
    assert content(open_library()) == before
    assert told(open_library().update(videos)) == only(added=["d.mp4"], unchanged=3)


def test_what_could_never_be_read_is_told(
    library: Library, open_library: Callable[[], Library], videos: Path, tmp_path: Path
) -> None:
    library.update(videos)
    versions = tmp_path / "library" / "videos.lance" / "_versions"
    for file in versions.iterdir():
        file.write_bytes(file.read_bytes()[:-42])
    cut = {file: file.read_bytes() for file in versions.iterdir()}
    with pytest.raises(LibraryError, match=r"cannot be read or written .*; free or mend its place"):
        open_library().update(videos)
    assert {file: file.read_bytes() for file in versions.iterdir()} == cut


def test_an_error_that_passes_takes_nothing_back(
    library: Library, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.update(videos)
    store = Store(tmp_path / "library")
    versions = {name: store.version(name) for name in mend._SEEN_BY}
    passing = [LibraryError("too many open files")]
    reads = mend._error
    monkeypatch.setattr(mend, "_error", lambda *asked: passing.pop() if passing else reads(*asked))
    with store.updating():
        mend.mend(store)
    assert not passing
    assert {name: store.version(name) for name in mend._SEEN_BY} == versions
