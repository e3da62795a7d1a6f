"""Every layout features come in, read back value for value, and the text of every error."""

import json
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mrnet.errors import FeatureError
from mrnet.features.store.reader import FeatureStore, find_close, open_store
from mrnet.provenance import Provenance

ROWS = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.5]], dtype=np.float32)
PROVENANCE = Provenance(backbone="c3d", dim=3, rows_per_s=2.0, details={"frames": "16"})


def _hdf5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def _error(store: FeatureStore, feature_id: str) -> str:
    with pytest.raises(FeatureError) as caught:
        store.read(feature_id)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _open_error(path: Path) -> str:
    with pytest.raises(FeatureError) as caught:
        open_store(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestLayouts:
    def test_one_hdf5_of_groups(self, tmp_path: Path) -> None:
        store = open_store(_hdf5(tmp_path / "sub.hdf5", v_b__c3d_features=ROWS, v_a__c3d_features=ROWS[:1]))
        assert store.ids() == ["v_a", "v_b"]
        assert "v_a" in store
        assert "v_c" not in store
        assert store.provenance is None
        assert store.path == tmp_path / "sub.hdf5"
        np.testing.assert_array_equal(store.read("v_b"), ROWS)
        assert store.read("v_b").dtype == np.float32

    def test_one_hdf5_of_datasets_in_double_precision(self, tmp_path: Path) -> None:
        rows = open_store(_hdf5(tmp_path / "f.h5", a=ROWS.astype(np.float64))).read("a")
        np.testing.assert_array_equal(rows, ROWS)
        assert rows.dtype == np.float32

    def test_folder_of_hdf5(self, tmp_path: Path) -> None:
        _hdf5(tmp_path / "v_a.h5", feature=ROWS, other=np.zeros(2))
        _hdf5(tmp_path / "v_b.h5", anything=ROWS[:1])
        store = open_store(tmp_path)
        assert store.ids() == ["v_a", "v_b"]
        np.testing.assert_array_equal(store.read("v_a"), ROWS)
        np.testing.assert_array_equal(store.read("v_b"), ROWS[:1])

    def test_folder_of_npy_and_pt(self, tmp_path: Path) -> None:
        np.save(tmp_path / "AO8RW.npy", ROWS.reshape(2, 1, 1, 3))
        np.save(tmp_path / "one.npy", ROWS[0])
        np.save(tmp_path / "s30-d52.avi.npy", np.array([[1, 2]]))
        torch.save(torch.from_numpy(ROWS[:1]).requires_grad_(), tmp_path / "AO8RW_train_1.pt")
        torch.save(torch.tensor([[1.5, 2.0]], dtype=torch.bfloat16), tmp_path / "half.pt")
        (tmp_path / "._AO8RW.npy").write_bytes(b"left by a file manager")
        (tmp_path / "README.txt").write_text("not features")
        store = open_store(tmp_path)
        assert store.ids() == ["AO8RW", "AO8RW_train_1", "half", "one", "s30-d52.avi"]
        np.testing.assert_array_equal(store.read("AO8RW"), ROWS)
        np.testing.assert_array_equal(store.read("one"), ROWS[:1])
        np.testing.assert_array_equal(store.read("s30-d52.avi"), [[1.0, 2.0]])
        np.testing.assert_array_equal(store.read("AO8RW_train_1"), ROWS[:1])
        np.testing.assert_array_equal(store.read("half"), [[1.5, 2.0]])

    def test_provenance_of_a_folder(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", ROWS)
        (tmp_path / "provenance.json").write_text(PROVENANCE.model_dump_json())
        assert open_store(tmp_path).provenance == PROVENANCE

    def test_a_row_of_one_and_a_single_clip_keep_their_axes(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones((1, 1, 1)))
        assert open_store(tmp_path).read("a").shape == (1, 1)


class TestProcesses:
    def test_pickled_store_reads(self, tmp_path: Path) -> None:
        store = open_store(_hdf5(tmp_path / "f.h5", a=ROWS))
        store.read("a")
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read("a"), ROWS)

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
    def test_forked_process_opens_the_file_anew(self, tmp_path: Path) -> None:
        store = open_store(_hdf5(tmp_path / "f.h5", a=ROWS, b=ROWS[:1]))
        store.read("a")
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(send, store.read("b").tobytes())
            finally:
                os._exit(0)
        os.close(send)
        os.waitpid(child, 0)
        with os.fdopen(receive, "rb") as pipe:
            assert pipe.read() == ROWS[:1].tobytes()
        np.testing.assert_array_equal(store.read("b"), ROWS[:1])


class TestOpening:
    def test_nothing_there(self, tmp_path: Path) -> None:
        path = tmp_path / "none.h5"
        assert _open_error(path) == f"{path}: no such file or folder; give the path of the features"

    def test_folder_without_features(self, tmp_path: Path) -> None:
        assert _open_error(tmp_path) == (
            f"{tmp_path}: no feature files in this folder; it should hold ID.h5, ID.npy or ID.pt"
        )

    def test_not_hdf5(self, tmp_path: Path) -> None:
        path = tmp_path / "f.h5"
        path.write_bytes(b"<html>moved</html>")
        assert _open_error(path) == f"{path}: not an HDF5 file; copy or extract the features again"

    def test_truncated_hdf5(self, tmp_path: Path) -> None:
        path = _hdf5(tmp_path / "f.h5", a=np.zeros((100, 3)))
        path.write_bytes(path.read_bytes()[:1200])
        assert _open_error(path) == f"{path}: truncated or damaged; copy or extract the features again"

    def test_malformed_provenance(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", ROWS)
        path = tmp_path / "provenance.json"
        path.write_text('{"backbone": "c3d", "dim": "many"}')
        assert _open_error(tmp_path).startswith(f"{path}: malformed provenance (`dim`: Input should be")
        path.write_text("{")
        assert _open_error(tmp_path).startswith(f"{path}: malformed provenance (Invalid JSON")


class TestReading:
    def test_missing_id(self, tmp_path: Path) -> None:
        store = open_store(_hdf5(tmp_path / "f.h5", v_abcd=ROWS, other=ROWS))
        assert _error(store, "v_abce") == (
            f'{tmp_path / "f.h5"}: no features for "v_abce" among its 2 ids (close: "v_abcd"); '
            "extract them, or correct the id"
        )
        assert "close" not in _error(store, "zzz")
        assert "no features" in _error(store, "")

    @pytest.mark.parametrize("shape", [(), (2, 4, 3), (1, 2, 3), (2, 0)])
    def test_wrong_rank(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        path = tmp_path / "a.npy"
        np.save(path, np.zeros(shape))
        assert _error(open_store(tmp_path), "a") == (
            f"{path}: shape {shape}; it should be (n, C), a row per moment of time"
        )

    def test_no_rows(self, tmp_path: Path) -> None:
        store = open_store(_hdf5(tmp_path / "f.h5", a=np.zeros((0, 3))))
        assert _error(store, "a") == f'{tmp_path / "f.h5"}, "a": has no rows; extract its features again'
        assert store.read_unchecked("a").shape == (0, 3)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
    def test_not_finite_names_the_first_row(self, tmp_path: Path, value: float) -> None:
        rows = np.zeros((5, 3))
        rows[3, 1] = rows[4, 0] = value
        path = tmp_path / "a.npy"
        np.save(path, rows)
        assert _error(open_store(tmp_path), "a") == (
            f"{path}: row 3 holds NaN or infinity; extract its features again"
        )

    def test_text_instead_of_numbers(self, tmp_path: Path) -> None:
        store = open_store(_hdf5(tmp_path / "f.h5", a=np.array([[b"x"]])))
        assert _error(store, "a") == f'{tmp_path / "f.h5"}, "a": values of type |S1; they should be float32'
        store = open_store(_hdf5(tmp_path / "g.h5", a="words"))
        assert _error(store, "a") == (f'{tmp_path / "g.h5"}, "a": holds a bytes; it should be an (n, C) array')

    def test_objects_are_not_unpickled(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        np.save(path, np.array([{"c3d": 1}], dtype=object))
        assert _error(open_store(tmp_path), "a") == (
            f"{path}: Python objects that need unpickling, which can run code and is not done; "
            "save the rows alone, as a float32 array"
        )

    def test_pt_is_not_unpickled(self, tmp_path: Path) -> None:
        torch.save(_Trap(tmp_path / "sprung"), tmp_path / "a.pt")
        assert _error(open_store(tmp_path), "a") == (
            f"{tmp_path / 'a.pt'}: damaged, or it needs unpickling, which can run code and is not done; "
            "save the tensor alone, with torch.save(tensor, path)"
        )
        assert not (tmp_path / "sprung").exists()

    def test_pt_of_something_else(self, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(1, 3)}, tmp_path / "a.pt")
        assert _error(open_store(tmp_path), "a") == (
            f"{tmp_path / 'a.pt'}: holds a dict; it should be an (n, C) array"
        )

    @pytest.mark.parametrize("suffix", [".npy", ".pt"])
    @pytest.mark.parametrize("kept", [0, 100])
    def test_truncated_file_of_a_folder(self, tmp_path: Path, suffix: str, kept: int) -> None:
        path = tmp_path / f"a{suffix}"
        if suffix == ".npy":
            np.save(path, np.zeros((50, 3)))
        else:
            torch.save(torch.zeros(50, 3), path)
        path.write_bytes(path.read_bytes()[:kept])
        message = _error(open_store(tmp_path), "a")
        assert message == f"{path}: cannot be read; the file may be truncated, get it again"

    def test_hdf5_of_a_folder_is_not_hdf5(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        path.write_bytes(b"")
        assert _error(open_store(tmp_path), "a") == (
            f"{path}: not an HDF5 file; copy or extract the features again"
        )

    def test_file_of_many_ids_taken_for_one(self, tmp_path: Path) -> None:
        path = _hdf5(tmp_path / "a.h5", v1=ROWS, v2=ROWS, v3=ROWS, v4=ROWS)
        assert _error(open_store(tmp_path), "a") == (
            f"{path}: holds 4 entries (v1, v2, v3, …) where one dataset `feature` was expected; "
            "give a file of many ids by its own path"
        )

    def test_two_files_of_one_id(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", ROWS)
        torch.save(torch.zeros(1, 3), tmp_path / "a.pt")
        store = open_store(tmp_path)
        assert store.ids() == ["a"]
        assert store.duplicates() == {"a": ("a.npy", "a.pt")}
        assert _error(store, "a") == f'{tmp_path}: "a" has 2 files (a.npy, a.pt); keep one'


def test_find_close() -> None:
    assert find_close("v_ab1", ["v_ab2", "xyz"]) == ' (close: "v_ab2")'
    assert find_close("v_ab1", ["xyz"]) == ""


class _Trap:
    """Makes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def _npy(path: Path, shape: str, dtype: str = "<f4", content: bytes = b"\0" * 64) -> Path:
    """A file whose header claims anything."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (63 - (len(header) + 10) % 64) + "\n"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content)
    return path.parent


class TestHostile:
    """Files made to hurt: one line, at once, and nothing of another file."""

    @pytest.mark.parametrize(
        "shape",
        ["(10000000, 1000)", "(1000000000000, 4)", "(2, True)", "(99999999999999999999, 4)", "(" * 3000, "x"],
    )
    def test_odd_headers(self, tmp_path: Path, shape: str) -> None:
        store = open_store(_npy(tmp_path / "f" / "a.npy", shape))
        assert _error(store, "a").endswith("a.npy: cannot be read; the file may be truncated, get it again")

    def test_headers_that_claim_more_than_there_is(self, tmp_path: Path) -> None:
        store = open_store(_npy(tmp_path / "f" / "a.npy", "(5000000000, 0)"))
        assert "should be (n, C)" in _error(store, "a")

    @pytest.mark.parametrize("rows", [10**7, 10**9, 10**12])
    def test_rows_that_are_not_there(self, tmp_path: Path, rows: int) -> None:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file.create_dataset("a", shape=(rows, 10), dtype="f4", chunks=(1000, 10))
        assert _error(open_store(tmp_path / "f.h5"), "a") == (
            f'{tmp_path / "f.h5"}, "a": claims {rows}0 values, far more than it holds; get it again'
        )

    def test_rows_that_compress_well_are_there(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file.create_dataset(
                "a", data=np.ones((10_000, 10), np.float32), compression="gzip", compression_opts=9
            )
        assert open_store(tmp_path / "f.h5").read("a").shape == (10_000, 10)

    @pytest.mark.parametrize("rows", [10**8, 10**12])
    def test_tensors_of_one_value(self, tmp_path: Path, rows: int) -> None:
        torch.save(torch.ones(1).expand(rows, 4), tmp_path / "a.pt")
        assert f"claims {4 * rows} values, far more than it holds" in _error(open_store(tmp_path), "a")

    @pytest.mark.parametrize("kind", ["sparse", "csr", "meta", "quantised", "nested"])
    @pytest.mark.filterwarnings("ignore")
    def test_tensors_of_special_kinds(self, tmp_path: Path, kind: str) -> None:
        ones = torch.ones(3, 4)
        make: dict[str, Any] = {
            "sparse": ones.to_sparse,
            "csr": ones.to_sparse_csr,
            "meta": lambda: ones.to("meta"),
            "quantised": lambda: torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8),
            "nested": lambda: torch.nested.nested_tensor([ones, ones]),
        }
        torch.save(make[kind](), tmp_path / "a.pt")
        message = _error(open_store(tmp_path), "a")
        assert "holds a tensor of a special kind" in message or "cannot be read" in message

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.bool])
    def test_tensors_of_other_values(self, tmp_path: Path, dtype: torch.dtype) -> None:
        torch.save(torch.ones(3, 4, dtype=dtype), tmp_path / "a.pt")
        assert _error(open_store(tmp_path), "a").endswith(f"a.pt: values of type {dtype}; they should be float32")

    def test_named_types(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["a"] = np.dtype("f4")
        assert "holds no values" in _error(open_store(tmp_path / "f.h5"), "a")

    def test_nothing_of_another_file(self, tmp_path: Path) -> None:
        _hdf5(tmp_path / "secret.h5", a=ROWS)
        (tmp_path / "secret").write_bytes(ROWS.tobytes())
        virtual = h5py.VirtualLayout(ROWS.shape, "f4")
        virtual[:] = h5py.VirtualSource(tmp_path / "secret.h5", "a", ROWS.shape)
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["link"] = h5py.ExternalLink(tmp_path / "secret.h5", "a")
            file["soft"] = h5py.SoftLink("/link")
            file.create_group("group")["feature"] = h5py.ExternalLink(tmp_path / "secret.h5", "a")
            file.create_dataset(
                "raw", shape=ROWS.shape, dtype="f4", external=[(tmp_path / "secret", 0, ROWS.nbytes)]
            )
            file.create_virtual_dataset("virtual", virtual)
        store = open_store(tmp_path / "f.h5")
        for feature_id in ("link", "soft"):
            assert "is a link, which may lead to other files" in _error(store, feature_id)
        assert "holds 1 entries" in _error(store, "group")
        for feature_id in ("raw", "virtual"):
            assert "its values lie in another file" in _error(store, feature_id)

    @pytest.mark.parametrize(
        "change", [{"rows_per_s": 0}, {"rows_per_s": -1}, {"rows_per_s": 1e308}, {"dim": 0}, {"dim": 10**12}]
    )
    def test_impossible_provenance(self, tmp_path: Path, change: dict[str, Any]) -> None:
        with h5py.File(_hdf5(tmp_path / "f.h5", a=ROWS), "r+") as file:
            file.attrs["provenance"] = json.dumps({"backbone": "x", "dim": 3} | change)
        assert f"malformed provenance (`{next(iter(change))}`: " in _open_error(tmp_path / "f.h5")
