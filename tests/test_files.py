"""Files and folders: whole or not at all, through no link of others, one writer at a time."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrnet import files
from mrnet.errors import OutputError
from mrnet.files import (
    alone_in,
    check_new,
    lock,
    make_directory,
    new_directory,
    remove_left_in,
    replacing,
    write_bytes,
    write_hdf5,
    write_text,
    write_together,
)

ROWS = np.array([[1.0, 2.0]], np.float32)


def write_rows(path: Path) -> None:
    write_hdf5(path, {}, [("a", ROWS, {})])


WRITERS = {
    "text": lambda path: write_text(path, "new"),
    "bytes": lambda path: write_bytes(path, b"new"),
    "hdf5": write_rows,
    "together": lambda path: write_together(path.parent, {path.name: "new"}),
}
Writer = Callable[[Path], None]


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Writer:
    writer: Writer = WRITERS[request.param]
    return writer


def tree(folder: Path) -> dict[str, str | None]:
    """What is in a folder: path -> text, ``None`` for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_text()
        for path in sorted(folder.rglob("*"))
    }


def refusal(write: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(OutputError) as caught:
        write(path)
    return str(caught.value)


class TestFile:
    def test_text_is_utf8_in_a_new_folder(self, tmp_path: Path) -> None:
        write_text(tmp_path / "a" / "b.txt", "é\n")
        assert (tmp_path / "a" / "b.txt").read_bytes() == b"\xc3\xa9\n"
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]

    def test_takes_the_place_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("old")
        with (tmp_path / "f").open() as reader:
            write_text(tmp_path / "f", "new")
            assert reader.read() == "old"
        assert tree(tmp_path) == {"f": "new"}

    def test_hdf5(self, tmp_path: Path) -> None:
        write_hdf5(tmp_path / "f.h5", {"of": "file"}, [("a", ROWS, {"of": "a"})])
        with h5py.File(tmp_path / "f.h5") as file:
            assert dict(file.attrs) == {"of": "file"}
            assert dict(file["a"].attrs) == {"of": "a"}
            np.testing.assert_array_equal(file["a"][()], ROWS)

    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
    def test_who_may_read_it_is_left_to_the_umask(
        self, tmp_path: Path, write: Writer, umask: int, mode: int
    ) -> None:
        before = os.umask(umask)
        try:
            write(tmp_path / "f")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode

    def test_of_a_link_its_file_is_replaced(self, tmp_path: Path, write: Writer) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "f").write_text("old")
        (tmp_path / "link").symlink_to("there/f")
        write(tmp_path / "link")
        assert (tmp_path / "link").readlink() == Path("there/f")
        assert (tmp_path / "there" / "f").read_bytes() != b"old"
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["f", "link", "there"]

    def test_a_link_to_nothing_leads_to_the_new_file(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("new")
        write_text(tmp_path / "link", "x")
        assert (tmp_path / "link").is_symlink()
        assert tree(tmp_path) == {"link": "x", "new": "x"}

    def test_folders_are_not_replaced(self, tmp_path: Path, write: Writer) -> None:
        (tmp_path / "f").mkdir()
        assert refusal(write, tmp_path / "f") == (
            f"{tmp_path / 'f'}: is a folder, where a file should be written; choose another place"
        )
        assert tree(tmp_path) == {"f": None}

    def test_pipes_and_devices_are_not_replaced(self, tmp_path: Path, write: Writer) -> None:
        os.mkfifo(tmp_path / "f")
        (tmp_path / "null").symlink_to("/dev/null")
        for path in (tmp_path / "f", tmp_path / "null"):
            assert refusal(write, path) == (
                f"{path}: is no regular file, where a file should be written; choose another place"
            )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "null"]
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "f"
        for write in (WRITERS["text"], write_rows):
            assert refusal(write, path) == f"{path}: cannot be written (File exists); choose another place"

    def test_half_a_character(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("old")
        assert refusal(lambda path: write_text(path, "a\udcff"), tmp_path / "f") == (
            f"{tmp_path / 'f'}: its text holds '\\udcff', half a character; write that anew"
        )
        assert tree(tmp_path) == {"f": "old"}


class TestReplacing:
    def test_a_hidden_empty_file_of_the_same_suffix(self, tmp_path: Path) -> None:
        with replacing(tmp_path / "f.mp4") as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.startswith(".")
            assert temporary.suffix == ".mp4"
            assert temporary.read_bytes() == b""
            temporary.write_text("new")
            assert not (tmp_path / "f.mp4").exists()
        assert tree(tmp_path) == {"f.mp4": "new"}

    @pytest.mark.parametrize(
        ("stop", "raised"), [(KeyboardInterrupt, KeyboardInterrupt), (OSError("full"), OutputError)]
    )
    def test_on_any_error_the_old_file_stays(
        self, tmp_path: Path, stop: BaseException, raised: type[BaseException]
    ) -> None:
        def interrupted() -> None:
            with replacing(tmp_path / "f") as temporary:
                temporary.write_text("half")
                raise stop

        (tmp_path / "f").write_text("old")
        with pytest.raises(raised):
            interrupted()
        assert tree(tmp_path) == {"f": "old"}

    def test_an_error_of_the_system_is_one_line(self, tmp_path: Path) -> None:
        def full(path: Path) -> None:
            with replacing(path):
                raise OSError(28, "No space left on device")

        path = tmp_path / "f"
        assert refusal(full, path) == f"{path}: cannot be written (No space left on device); choose another place"

    @pytest.mark.parametrize("there", ["victim", "nothing"])
    def test_a_link_under_the_hidden_name_is_not_written_through(
        self, tmp_path: Path, write: Writer, there: str
    ) -> None:
        with replacing(tmp_path / "f") as temporary:
            pass
        victim = tmp_path / "victim"
        victim.write_text("precious")
        temporary.symlink_to(there)
        write(tmp_path / "f")
        assert victim.read_text() == "precious"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "victim"]

    def test_a_second_name_of_a_file_is_not_written_through(self, tmp_path: Path, write: Writer) -> None:
        with replacing(tmp_path / "f") as temporary:
            pass
        (tmp_path / "victim").write_text("precious")
        temporary.hardlink_to(tmp_path / "victim")
        write(tmp_path / "f")
        assert (tmp_path / "victim").read_text() == "precious"

    def test_what_a_kill_left_goes(self, tmp_path: Path, write: Writer) -> None:
        code = (
            "import os, sys; from pathlib import Path; from mrnet.files import replacing\n"
            "with replacing(Path(sys.argv[1])) as temporary:\n"
            "    temporary.write_text('half'); os._exit(9)"
        )
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], check=False).returncode == 9
        assert [path.read_text() for path in tmp_path.iterdir()] == ["half"]
        write(tmp_path / "f")
        assert [path.name for path in tmp_path.iterdir()] == ["f"]

    def test_a_second_writer_is_refused(self, tmp_path: Path, write: Writer) -> None:
        with replacing(tmp_path / "f") as temporary:
            temporary.write_text("first")
            assert refusal(write, tmp_path / "f").endswith(
                ": another process is writing here; wait for it, or choose another place"
            )
        assert tree(tmp_path) == {"f": "first"}

    def test_without_locks_what_may_be_of_another_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "_lock", lambda handle: False)  # noqa: ARG005
        with replacing(tmp_path / "f") as temporary:
            assert refusal(WRITERS["text"], tmp_path / "f") == (
                f"{temporary}: is being written, or was left by a killed process: wait, or remove it"
            )
        assert tree(tmp_path) == {"f": ""}


class TestTogether:
    def test_all(self, tmp_path: Path) -> None:
        write_together(tmp_path / "new", {"a": "1", "b": "2"})
        assert tree(tmp_path / "new") == {"a": "1", "b": "2"}

    @pytest.mark.parametrize("bad", ["a", "b", "last"])
    def test_none_where_one_cannot_be_written(self, tmp_path: Path, bad: str) -> None:
        for name in ("a", "b", "last"):
            (tmp_path / name).write_text("old")
        texts = {name: "\udcff" if name == bad else "new" for name in ("a", "b", "last")}
        assert refusal(lambda path: write_together(path, texts), tmp_path).startswith(
            f"{tmp_path / bad}: its text holds"
        )
        assert tree(tmp_path) == {"a": "old", "b": "old", "last": "old"}

    def test_none_where_something_else_is_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        refusal(lambda path: write_together(path, {"a": "1", "b": "2", "last": "3"}), tmp_path)
        assert tree(tmp_path) == {"b": None}

    def test_the_last_is_not_there_while_others_are_replaced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace = Path.replace
        order = []

        def watched(path: Path, target: Path) -> Path:
            order.append((target.name, (tmp_path / "last").exists()))
            return replace(path, target)

        (tmp_path / "last").write_text("old")
        monkeypatch.setattr(Path, "replace", watched)
        write_together(tmp_path, {"a": "1", "b": "2", "last": "3"})
        assert order == [("a", False), ("b", False), ("last", False)]
        assert tree(tmp_path) == {"a": "1", "b": "2", "last": "3"}


class TestHdf5:
    @pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError, ValueError])
    def test_an_exception_of_its_datasets_passes_and_leaves_the_old_file(
        self, tmp_path: Path, stop: type[BaseException]
    ) -> None:
        write_rows(tmp_path / "f.h5")

        def datasets() -> Iterator[files.Dataset]:
            yield "new", ROWS, {}
            raise stop

        with pytest.raises(stop):
            write_hdf5(tmp_path / "f.h5", {}, datasets())
        with h5py.File(tmp_path / "f.h5") as file:
            assert list(file) == ["a"]
        assert [path.name for path in tmp_path.iterdir()] == ["f.h5"]


class TestLock:
    def test_one_writer_until_the_file_is_closed(self, tmp_path: Path) -> None:
        first, second = (tmp_path / "f").open("ab"), (tmp_path / "f").open("ab")
        with first, second:
            lock(first, Path("its name"))
            assert refusal(lambda path: lock(second, path), Path("its name")) == (
                "its name: another process is writing here; wait for it, or choose another place"
            )
            first.close()
            lock(second, Path("its name"))


class TestNewDirectory:
    def test_appears_at_the_end(self, tmp_path: Path) -> None:
        with new_directory(tmp_path / "a" / "new") as temporary:
            (temporary / "file").write_text("x")
            assert temporary.parent == tmp_path / "a"
            assert not (tmp_path / "a" / "new").exists()
        assert tree(tmp_path) == {"a": None, "a/new": None, "a/new/file": "x"}

    def test_takes_the_place_of_an_empty_one(self, tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "link").symlink_to("new")
        with new_directory(tmp_path / "link") as temporary:
            (temporary / "file").write_text("x")
        assert (tmp_path / "link").is_symlink()
        assert tree(tmp_path / "new") == {"file": "x"}

    @pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
    def test_on_any_error_it_goes(self, tmp_path: Path, stop: BaseException) -> None:
        def interrupted(path: Path) -> None:
            with new_directory(path) as temporary:
                (temporary / "file").write_text("half")
                raise stop

        if isinstance(stop, OSError):
            assert refusal(interrupted, tmp_path / "new") == (
                f"{tmp_path / 'new'}: cannot be written (No space left on device); choose another place"
            )
        else:
            with pytest.raises(KeyboardInterrupt):
                interrupted(tmp_path / "new")
        assert tree(tmp_path) == {}

    def test_taken_meanwhile(self, tmp_path: Path) -> None:
        def write(path: Path) -> None:
            with new_directory(path) as temporary:
                (temporary / "file").write_text("x")
                path.mkdir()
                (path / "other").write_text("y")

        assert refusal(write, tmp_path / "new") == (
            f"{tmp_path / 'new'}: cannot be written (Directory not empty); choose another place"
        )
        assert tree(tmp_path) == {"new": None, "new/other": "y"}

    def test_what_a_kill_left_goes(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; from pathlib import Path; from mrnet.files import new_directory\n"
            "with new_directory(Path(sys.argv[1])) as temporary:\n"
            "    (temporary / 'half').write_text('x'); os._exit(9)"
        )
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "new")], check=False).returncode == 9
        assert len(list(tmp_path.iterdir())) == 1
        with new_directory(tmp_path / "new"):
            pass
        assert tree(tmp_path) == {"new": None}

    def test_a_second_maker_is_refused(self, tmp_path: Path) -> None:
        def make(path: Path) -> None:
            with new_directory(path):
                pass

        with new_directory(tmp_path / "new") as temporary:
            (temporary / "file").write_text("x")
            assert refusal(make, tmp_path / "new") == (
                f"{tmp_path / 'new'}: another process is writing here; wait for it, or choose another place"
            )
        assert tree(tmp_path / "new") == {"file": "x"}

    def test_a_link_under_the_hidden_name_is_not_written_through(self, tmp_path: Path) -> None:
        with new_directory(tmp_path / "new") as temporary:
            pass
        (tmp_path / "new").rmdir()
        (tmp_path / "victim").mkdir()
        (tmp_path / "victim" / "file").write_text("precious")
        temporary.symlink_to("victim")
        with new_directory(tmp_path / "new") as again:
            (again / "file").write_text("x")
        assert tree(tmp_path) == {"new": None, "new/file": "x", "victim": None, "victim/file": "precious"}

    def test_never_the_working_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

        def make(path: Path) -> None:
            with new_directory(path):
                pass

        assert refusal(make, Path()) == ".: is the working folder, which cannot be replaced: name a new folder"


def test_check_new(tmp_path: Path) -> None:
    check_new(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_new(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file"):
        assert refusal(check_new, path) == (
            f"{path} already exists and is not empty: choose another place or remove it"
        )


def test_make_directory(tmp_path: Path) -> None:
    assert make_directory(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert make_directory(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    assert refusal(make_directory, tmp_path / "file") == (
        f"{tmp_path / 'file'}: cannot be written (File exists); choose another place"
    )


class TestAlone:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        (tmp_path / "f").mkdir()
        with alone_in(tmp_path / "f"), pytest.raises(OutputError) as caught, alone_in(tmp_path / "f"):
            pass
        assert str(caught.value) == (
            f"{tmp_path / 'f'}: another process is writing here; wait for it, or choose another place"
        )
        with alone_in(tmp_path / "f"):
            pass
        assert (tmp_path / "f").is_dir()

    def test_a_folder_without_anything_in_it_goes_again(self, tmp_path: Path) -> None:
        with alone_in(tmp_path / "f"):
            assert (tmp_path / "f").is_dir()
        assert not (tmp_path / "f").exists()
        with alone_in(tmp_path / "f"):
            (tmp_path / "f" / "x").touch()
        assert tree(tmp_path) == {"f": None, "f/x": ""}

    def test_what_the_killed_left(self, tmp_path: Path) -> None:
        for name in (".a.mrnet-tmp.json", ".b.mrnet-tmp", "a.json", ".hidden"):
            (tmp_path / name).write_text("")
        remove_left_in(tmp_path)
        assert sorted(tree(tmp_path)) == [".hidden", "a.json"]
