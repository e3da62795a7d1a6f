"""Stores written a source at a time: what is there at the end, after a kill, and after a refusal."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mrnet.errors import FeatureError, OutputError
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import Layout, StoreWriter, check_id, check_rows, open_writer, write_store
from mrnet.provenance import Projection, Provenance

ROWS = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.5]], dtype=np.float32)
OURS = Provenance(backbone="eyes", dim=3, rows_per_s=2.0, revision="1", libraries={"av": "18"})
LAYOUTS: list[tuple[Layout, str]] = [("hdf5", "f.h5"), ("npy", "f"), ("pt", "f")]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def written(path: Path, layout: Layout, rows: dict[str, np.ndarray], origin: str = "o") -> StoreWriter:
    """A writer that has written and neither finished nor abandoned: what a kill leaves."""
    writer = open_writer(path, OURS, layout)
    writer.begin()
    for feature_id, array in rows.items():
        writer.write(feature_id, array, origin)
    return writer


def contents(path: Path) -> dict[str, list[list[float]]]:
    store = open_store(path)
    return {feature_id: store.read(feature_id).tolist() for feature_id in store.ids()}


def refusal(path: Path, provenance: Provenance = OURS, layout: Layout | None = None) -> str:
    """Why a writer is refused, which leaves everything as it was."""
    before = {name: (path.parent / name).stat().st_mtime_ns for name in names(path.parent)}
    with pytest.raises(FeatureError) as caught:
        open_writer(path, provenance, layout)
    assert {name: (path.parent / name).stat().st_mtime_ns for name in names(path.parent)} == before
    return str(caught.value)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file can be written beyond a size, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestLayouts:
    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    def test_comes_back_as_written(self, tmp_path: Path, layout: Layout, name: str) -> None:
        path = tmp_path / "new" / name
        written(path, layout, {"v.avi": ROWS, "b": ROWS[:1]}).finish()
        assert contents(path) == {"b": [[0, 1, 2]], "v.avi": [[0, 1, 2], [3, 4, 5.5]]}
        assert open_store(path).provenance == OURS
        files = [f"f/b.{layout}", f"f/v.avi.{layout}", "f/origins.jsonl", "f/provenance.json"]
        assert names(path.parent) == (["f.h5"] if layout == "hdf5" else sorted(["f", *files]))

    def test_released_layout_is_a_tensor_a_file(self, tmp_path: Path) -> None:
        written(tmp_path / "f", "pt", {"AO8RW": ROWS[:1]}).finish()
        tensor = torch.load(tmp_path / "f" / "AO8RW.pt", weights_only=True)
        torch.testing.assert_close(tensor, torch.tensor([[0.0, 1.0, 2.0]]), rtol=0, atol=0)

    @pytest.mark.parametrize(("name", "files"), [("a.h5", False), ("a.HDF5", False), ("a", True), ("a.b", True)])
    def test_by_ending(self, tmp_path: Path, name: str, files: bool) -> None:
        writer = open_writer(tmp_path / name, OURS)
        writer.begin()
        writer.write("v", ROWS, "o")
        writer.finish()
        assert (tmp_path / name / "v.npy").exists() == files

    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    def test_nothing_stored_leaves_nothing(self, tmp_path: Path, layout: Layout, name: str) -> None:
        written(tmp_path / name, layout, {}).finish()
        written(tmp_path / name, layout, {}).abandon()
        assert names(tmp_path) == []

    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    def test_nothing_begun_touches_nothing(self, tmp_path: Path, layout: Layout, name: str) -> None:
        written(tmp_path / name, layout, {"a": ROWS}).finish()
        tmp_path.chmod(0o500)
        before = {path: (tmp_path / path).stat().st_mtime_ns for path in names(tmp_path)}
        open_writer(tmp_path / name, OURS, layout).finish()
        assert {path: (tmp_path / path).stat().st_mtime_ns for path in names(tmp_path)} == before


class TestAtAStroke:
    def test_comes_back_as_written(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "f.h5"
        write_store(path, [("v.avi", ROWS), ("b", ROWS[:1].astype(np.float64))], OURS)
        store = open_store(path)
        assert store.ids() == ["b", "v.avi"]
        assert store.provenance == OURS
        np.testing.assert_array_equal(store.read("v.avi"), ROWS)
        np.testing.assert_array_equal(store.read("b"), ROWS[:1])
        with h5py.File(path) as file:
            assert file["b"].dtype == np.float32
        assert [file.name for file in path.parent.iterdir()] == ["f.h5"]

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
    def test_interrupted_leaves_the_old_file(self, tmp_path: Path, stop: type[BaseException]) -> None:
        path = tmp_path / "f.h5"
        write_store(path, [("old", ROWS)], OURS)

        def rows() -> Iterator[tuple[str, np.ndarray]]:
            yield "new", ROWS
            raise stop

        with pytest.raises(stop):
            write_store(path, rows(), OURS)
        assert open_store(path).ids() == ["old"]
        assert [file.name for file in tmp_path.iterdir()] == ["f.h5"]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([("a", ROWS), ("a", ROWS)], 'features of "a": the id comes twice; give every id once'),
            (
                [("x/a", ROWS)],
                'features of "x/a": this id cannot name a file or dataset; use one of up to 240 bytes, without '
                "slashes or a leading dot",
            ),
            (
                [("a", ROWS[:, :2])],
                'features of "a": shape (2, 2), but the provenance says rows of width 3',
            ),
            ([("a", ROWS[:0])], 'features of "a": shape (0, 3), but the provenance says rows of width 3'),
            ([("a", ROWS * np.nan)], 'features of "a": NaN or infinity in it; it is not written'),
            (
                [("a", np.zeros((2, 2, 3)))],
                'features of "a": shape (2, 2, 3); it should be (n, C), a row per moment of time',
            ),
        ],
    )
    def test_refuses(self, tmp_path: Path, rows: list[tuple[str, np.ndarray]], message: str) -> None:
        with pytest.raises(FeatureError) as caught:
            write_store(tmp_path / "f.h5", rows, OURS)
        assert str(caught.value) == message
        assert list(tmp_path.iterdir()) == []

    def test_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "f.h5"
        with pytest.raises(OutputError) as caught:
            write_store(path, [("a", ROWS)], OURS)
        assert str(caught.value).startswith(f"{path}: cannot be written (")
        assert str(caught.value).endswith("; choose another place")


class TestResuming:
    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    @pytest.mark.parametrize("end", ["kill", "abandon"])
    def test_what_was_written_is_there_for_the_next(
        self, tmp_path: Path, layout: Layout, name: str, end: str
    ) -> None:
        killed = written(tmp_path / name, layout, {"a": ROWS}, "first")
        if end == "abandon":
            killed.abandon()
        else:
            del killed  # which takes its lock with it
        writer = open_writer(tmp_path / name, OURS, layout)
        assert writer.stored == {"a": "first"}
        writer.begin()
        writer.write("b", ROWS[:1], "second")
        assert writer.stored == {"a": "first", "b": "second"}
        writer.finish()
        assert contents(tmp_path / name) == {"a": ROWS.tolist(), "b": ROWS[:1].tolist()}
        assert open_writer(tmp_path / name, OURS, layout).stored == {"a": "first", "b": "second"}
        assert not [name for name in names(tmp_path) if "partial" in name or "tmp" in name]

    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    def test_new_rows_take_the_place_of_old_ones(self, tmp_path: Path, layout: Layout, name: str) -> None:
        written(tmp_path / name, layout, {"a": ROWS, "b": ROWS}, "old").finish()
        written(tmp_path / name, layout, {"a": ROWS[1:]}, "new").finish()
        assert contents(tmp_path / name) == {"a": ROWS[1:].tolist(), "b": ROWS.tolist()}
        assert open_writer(tmp_path / name, OURS, layout).stored == {"a": "new", "b": "old"}

    def test_killed_before_the_end_and_nothing_more_to_do(self, tmp_path: Path) -> None:
        written(tmp_path / "f.h5", "hdf5", {"a": ROWS})
        (tmp_path / ".f.mrnet-tmp.h5").write_bytes(b"x" * 100_000)  # killed while it was completed
        open_writer(tmp_path / "f.h5", OURS).finish()
        assert names(tmp_path) == ["f.h5"]
        assert contents(tmp_path / "f.h5") == {"a": ROWS.tolist()}
        assert (tmp_path / "f.h5").stat().st_size < 20_000

    def test_killed_after_the_end_before_tidying(self, tmp_path: Path) -> None:
        written(tmp_path / "f.h5", "hdf5", {"a": ROWS})
        write_store(tmp_path / "f.h5", [("a", ROWS)], OURS)
        open_writer(tmp_path / "f.h5", OURS).finish()
        assert names(tmp_path) == ["f.h5"]

    def test_line_cut_off_is_not_believed(self, tmp_path: Path) -> None:
        written(tmp_path / "f", "npy", {"a": ROWS, "b": ROWS})
        journal = tmp_path / "f" / "origins.jsonl"
        journal.write_bytes(journal.read_bytes()[:-5])
        writer = written(tmp_path / "f", "npy", {"c": ROWS})
        assert writer.stored == {"a": "o", "c": "o"}
        writer.finish()
        assert open_writer(tmp_path / "f", OURS).stored == {"a": "o", "c": "o"}

    @pytest.mark.parametrize(
        "line",
        [
            "null",
            "[]",
            "{}",
            '"x"',
            '{"id": null, "origin": null}',
            '{"id": "a", "origin": {}}',
            "[" * 3000,
            "9" * 5000,
        ],
    )
    def test_lines_of_others_are_not_believed(self, tmp_path: Path, line: str) -> None:
        written(tmp_path / "f", "npy", {"a": ROWS}).abandon()
        (tmp_path / "f" / "origins.jsonl").write_text(f"{line}\n")
        assert open_writer(tmp_path / "f", OURS).stored == {}

    def test_the_journal_goes_through_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "f").mkdir()
        (tmp_path / "mine").write_text("mine")
        (tmp_path / "f" / "origins.jsonl").symlink_to(tmp_path / "mine")
        with pytest.raises(OutputError, match=r"origins\.jsonl: cannot be written"):
            open_writer(tmp_path / "f", OURS).begin()
        assert (tmp_path / "mine").read_text() == "mine"

    def test_a_store_with_links_is_not_added_to(self, tmp_path: Path) -> None:
        written(tmp_path / "f.h5", "hdf5", {"a": ROWS}).finish()
        with h5py.File(tmp_path / "f.h5", "r+") as file:
            file["b"] = h5py.ExternalLink("elsewhere.h5", "b")
        assert refusal(tmp_path / "f.h5") == (
            f'{tmp_path / "f.h5"}, "b": is a link, as no store has that is written here; remove it'
        )

    def test_line_without_its_file_is_not_believed(self, tmp_path: Path) -> None:
        written(tmp_path / "f", "npy", {"a": ROWS, "b": ROWS}).finish()
        (tmp_path / "f" / "a.npy").unlink()
        assert open_writer(tmp_path / "f", OURS).stored == {"b": "o"}

    def test_rows_of_unknown_origin(self, tmp_path: Path) -> None:
        write_store(tmp_path / "f.h5", [("a", ROWS)], OURS)
        assert open_writer(tmp_path / "f.h5", OURS).stored == {"a": ""}

    def test_origins_are_attributes_of_datasets(self, tmp_path: Path) -> None:
        written(tmp_path / "f.h5", "hdf5", {"a": ROWS}, "12 bytes").finish()
        with h5py.File(tmp_path / "f.h5") as file:
            assert dict(file["a"].attrs) == {"origin": "12 bytes"}


class TestOtherFeatures:
    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    @pytest.mark.parametrize("finished", [True, False])
    def test_same_encoder_other_libraries(self, tmp_path: Path, layout: Layout, name: str, finished: bool) -> None:
        writer = written(tmp_path / name, layout, {"a": ROWS})
        if finished:
            writer.finish()
        del writer
        theirs = OURS.model_copy(update={"libraries": {"av": "19"}})
        assert open_writer(tmp_path / name, theirs, layout).stored == {"a": "o"}

    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"revision": "2"}, "'eyes' revision 2 (3 wide, 2 rows/s)"),
            ({"backbone": "ears", "rows_per_s": None}, "'ears' revision 1 (3 wide)"),
            ({"rows_per_s": 4.0}, "'eyes' revision 1 (3 wide, 4 rows/s)"),
            ({"dim": 4}, "'eyes' revision 1 (4 wide, 2 rows/s)"),
            (
                {"projection": Projection(sha256="0123456789", dim=9, fitted_on="x")},
                "'eyes' revision 1 reduced to 3 by PCA 01234567 (3 wide, 2 rows/s)",
            ),
        ],
    )
    def test_other_backbone(
        self, tmp_path: Path, layout: Layout, name: str, change: dict[str, object], named: str
    ) -> None:
        path = tmp_path / name
        written(path, layout, {"a": ROWS}).finish()
        assert refusal(path, OURS.model_copy(update=change), layout) == (
            f"{path}: holds features of 'eyes' revision 1 (3 wide, 2 rows/s), not of {named}; choose another place"
        )

    def test_other_backbone_unfinished(self, tmp_path: Path) -> None:
        written(tmp_path / "f.h5", "hdf5", {"a": ROWS})
        message = refusal(tmp_path / "f.h5", OURS.model_copy(update={"revision": "2"}))
        assert message.startswith(f"{tmp_path / '.f.h5.partial'}: holds features of 'eyes' revision 1 (")

    @pytest.mark.parametrize("finished", [True, False])
    def test_replaced_where_wanted(self, tmp_path: Path, finished: bool) -> None:
        writer = written(tmp_path / "f.h5", "hdf5", {"a": ROWS, "b": ROWS})
        if finished:
            writer.finish()
        del writer
        theirs = OURS.model_copy(update={"revision": "2"})
        writer = open_writer(tmp_path / "f.h5", theirs, replace=True)
        assert writer.stored == {}
        writer.begin()
        writer.write("a", ROWS[:1], "o")
        writer.finish()
        assert contents(tmp_path / "f.h5") == {"a": ROWS[:1].tolist()}
        assert open_store(tmp_path / "f.h5").provenance == theirs
        assert names(tmp_path) == ["f.h5"]

    def test_same_features_are_kept_where_others_would_be_replaced(self, tmp_path: Path) -> None:
        written(tmp_path / "f.h5", "hdf5", {"a": ROWS}).finish()
        assert open_writer(tmp_path / "f.h5", OURS, replace=True).stored == {"a": "o"}

    def test_published_features(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["a"] = ROWS
        (tmp_path / "f").mkdir()
        np.save(tmp_path / "f" / "a.npy", ROWS)
        for path in (tmp_path / "f.h5", tmp_path / "f"):
            assert refusal(path) == (
                f"{path}: holds features that do not say how they were made; choose another place"
            )

    def test_other_layout(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        written(path, "npy", {"a": ROWS}).finish()
        assert refusal(path, layout="pt") == f"{path}: holds a.npy, not pt files; choose another folder"
        assert refusal(path, layout="hdf5") == (
            f"{path}: is a folder, where one HDF5 file should be; choose another place"
        )
        written(tmp_path / "f.h5", "hdf5", {"a": ROWS}).finish()
        assert refusal(tmp_path / "f.h5", layout="npy") == (
            f"{tmp_path / 'f.h5'}: is a file, where a folder of npy files should be; choose another place"
        )

    def test_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "f.h5").write_text("notes")
        assert refusal(tmp_path / "f.h5").startswith(f"{tmp_path / 'f.h5'}: not an HDF5 file")

    def test_pipes_and_devices(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "f.h5")
        for path in (tmp_path / "f.h5", Path("/dev/null")):
            with pytest.raises(FeatureError) as caught:
                open_writer(path, OURS, "hdf5")
            assert str(caught.value) == (
                f"{path}: is no regular file, where one HDF5 file should be; choose another place"
            )

    def test_published_features_are_not_replaced(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["a"] = ROWS
        with pytest.raises(FeatureError, match="holds features that do not say how they were made"):
            open_writer(tmp_path / "f.h5", OURS, replace=True)

    def test_unfinished_rows_go_through_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / ".f.h5.partial").symlink_to("elsewhere")
        assert refusal(tmp_path / "f.h5") == (
            f"{tmp_path / '.f.h5.partial'}: is a link, where this command makes a folder of its own; remove it"
        )

    def test_folder_with_other_things_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_text("film")
        written(tmp_path, "npy", {}).finish()
        assert names(tmp_path) == ["a.mp4"]
        written(tmp_path, "npy", {"a": ROWS}).finish()
        assert contents(tmp_path) == {"a": ROWS.tolist()}


class TestTrouble:
    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    def test_second_writer(self, tmp_path: Path, layout: Layout, name: str) -> None:
        first = written(tmp_path / name, layout, {})
        second = open_writer(tmp_path / name, OURS, layout)
        with pytest.raises(OutputError, match=r"another process is writing here; wait for it, or choose another"):
            second.begin()
        second.abandon()
        first.write("a", ROWS, "o")
        first.finish()
        assert contents(tmp_path / name) == {"a": ROWS.tolist()}

    def test_second_writer_with_nothing_to_do(self, tmp_path: Path) -> None:
        first = written(tmp_path / "f.h5", "hdf5", {"a": ROWS})
        with pytest.raises(OutputError, match="another process is writing here"):
            open_writer(tmp_path / "f.h5", OURS).finish()
        first.finish()
        assert contents(tmp_path / "f.h5") == {"a": ROWS.tolist()}

    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    def test_place_that_cannot_be_written(self, tmp_path: Path, layout: Layout, name: str) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError) as caught:
            open_writer(tmp_path / "file" / name, OURS, layout).begin()
        assert str(caught.value).startswith(f"{tmp_path}{os.sep}file")
        assert str(caught.value).endswith("; choose another place")
        assert "cannot be written (" in str(caught.value)

    @pytest.mark.parametrize(("layout", "name"), LAYOUTS)
    def test_full_disk_while_writing(self, tmp_path: Path, layout: Layout, name: str) -> None:
        writer = written(tmp_path / name, layout, {"a": ROWS})
        before = names(tmp_path)
        large = np.zeros((5000, 3), np.float32)
        with limited(10_000), pytest.raises(OutputError, match=r"cannot be written \(File too large\)"):
            writer.write("b", large, "o")
        assert names(tmp_path) == before
        writer.abandon()
        assert open_writer(tmp_path / name, OURS, layout).stored == {"a": "o"}

    def test_full_disk_while_completing(self, tmp_path: Path) -> None:
        arrays = {f"v{index}": np.full((500, 3), index, np.float32) for index in range(10)}
        writer = written(tmp_path / "f.h5", "hdf5", arrays)
        with limited(30_000), pytest.raises(OutputError) as caught:
            writer.finish()
        assert str(caught.value) == (
            f"{tmp_path / 'f.h5'}: cannot be written (File too large); choose another place"
        )
        assert [file.name for file in tmp_path.iterdir()] == [".f.h5.partial"]
        writer.finish()
        assert contents(tmp_path / "f.h5") == {name: array.tolist() for name, array in arrays.items()}


@pytest.mark.parametrize("feature_id", ["", ".", "..", ".a", "a/b", "a\\b", "a\0b", "x" * 241, "\udcff"])
def test_ids_that_name_no_file(feature_id: str) -> None:
    with pytest.raises(FeatureError) as caught:
        check_id(feature_id)
    assert str(caught.value) == (
        f"features of {json.dumps(feature_id)}: this id cannot name a file or dataset; use one of up to 240 bytes, "
        "without slashes or a leading dot"
    )


@pytest.mark.parametrize("feature_id", ["a", "v_ab-c 1.avi", "é" * 120, "video#0"])
@pytest.mark.parametrize(("layout", "name"), LAYOUTS)
def test_ids_that_do(tmp_path: Path, feature_id: str, layout: Layout, name: str) -> None:
    check_id(feature_id)
    written(tmp_path / name, layout, {feature_id: ROWS}).finish()
    assert contents(tmp_path / name) == {feature_id: ROWS.tolist()}


def test_rows_as_they_are_stored() -> None:
    rows = check_rows("a", np.array([1, 2, 3]), 3)
    assert rows.tolist() == [[1.0, 2.0, 3.0]]
    assert rows.dtype == np.float32
