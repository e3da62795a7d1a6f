"""PCA of feature stores: exact, fitted on whom one says, and known by its hash."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mrnet.errors import FeatureError, FeatureShapeError, OutputError
from mrnet.features.store.pca import Pca, project_store
from mrnet.features.store.reader import Rows, open_store
from mrnet.features.store.writer import write_store
from tests.features.store.mixed import SOURCE, exact, make_videos


class TestFit:
    @pytest.mark.parametrize("offset", [0.0, 1e5])
    def test_is_that_of_all_rows_at_once(self, offset: float) -> None:
        videos = make_videos(offset=offset)
        pca = Pca.fit(videos.items(), 3, SOURCE, "these")
        rows = np.concatenate(list(videos.values()))
        mean, components, variance = exact(rows, 3)
        np.testing.assert_allclose(pca.mean, mean, rtol=1e-12)
        np.testing.assert_allclose(pca.components, components, atol=1e-9)
        np.testing.assert_allclose(pca.explained_variance, variance, rtol=1e-9)
        _, _, all_variance = exact(rows, 5)
        assert pca.record.variance_kept == pytest.approx(variance.sum() / all_variance.sum(), rel=1e-9)
        assert (pca.record.rows, pca.record.videos, pca.record.fitted_on) == (75, 6, "these")
        applied = pca.apply(videos["v1"])
        assert applied.dtype == np.float32
        np.testing.assert_allclose(applied, (videos["v1"] - mean) @ components.T, atol=1e-5)

    def test_as_sklearn(self) -> None:
        decomposition = pytest.importorskip("sklearn.decomposition")
        rows = np.concatenate(list(make_videos().values()))
        other = decomposition.PCA(n_components=3).fit(rows.astype(np.float64))
        pca = Pca.fit(make_videos().items(), 3, SOURCE, "these")
        signs = np.sign((pca.components * other.components_).sum(axis=1))[:, None]
        np.testing.assert_allclose(pca.components, other.components_ * signs, atol=1e-9)
        np.testing.assert_allclose(pca.explained_variance, other.explained_variance_, rtol=1e-9)
        assert pca.record.variance_kept == pytest.approx(other.explained_variance_ratio_.sum())

    def test_holds_one_video_at_a_time(self) -> None:
        earlier: list[weakref.ref[Rows]] = []

        def features() -> Iterator[tuple[str, Rows]]:
            for i in range(9):
                assert all(rows() is None for rows in earlier[:-1])
                rows = np.random.default_rng(i).standard_normal((4, 5)).astype(np.float32)
                earlier.append(weakref.ref(rows))
                yield f"v{i}", rows

        assert Pca.fit(features(), 2, SOURCE, "x").record.rows == 36

    @pytest.mark.parametrize(
        ("rows", "dim", "message"),
        [
            (np.eye(5), 6, "rows of width 5 cannot be reduced to 6: give a --dim of 5 at most"),
            (np.eye(5)[:3], 3, "3 rows allow 2 components at most, not 3: give more videos"),
            (np.ones((9, 5)), 2, "all 9 rows are the same: there is nothing to keep of them"),
            (np.eye(4), 2, '"v" has rows of width 4, the others of 5'),
        ],
    )
    def test_refuses(self, rows: np.ndarray, dim: int, message: str) -> None:
        with pytest.raises(FeatureError) as caught:
            Pca.fit([("v", rows.astype(np.float32))], dim, SOURCE, "x")
        assert str(caught.value) == message

    def test_as_many_components_as_there_can_be(self) -> None:
        rows = np.eye(5, dtype=np.float32)
        assert Pca.fit([("v", rows)], 4, SOURCE, "x").record.variance_kept == pytest.approx(1.0)


class TestFile:
    def test_round_trip(self, tmp_path: Path) -> None:
        pca = Pca.fit(make_videos().items(), 3, SOURCE, "these")
        path = tmp_path / "new" / "a.pca.safetensors"
        pca.save(path)
        assert [item.name for item in path.parent.iterdir()] == [path.name]
        arrays = load_file(path)
        assert {name: array.shape for name, array in arrays.items()} == {
            "mean": (5,),
            "components": (3, 5),
            "explained_variance": (3,),
        }
        loaded = Pca.load(path)
        assert loaded.record == pca.record
        np.testing.assert_array_equal(loaded.components, pca.components)
        np.testing.assert_array_equal(loaded.apply(make_videos()["v0"]), pca.apply(make_videos()["v0"]))

    def test_same_features_same_bytes(self, tmp_path: Path) -> None:
        for name in "ab":
            Pca.fit(make_videos().items(), 3, SOURCE, "these").save(tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_not_a_pca(self, tmp_path: Path) -> None:
        hint = "give the .pca.safetensors file that `mrnet features pca` wrote"
        path = tmp_path / "a.pca.safetensors"

        def refused() -> str:
            with pytest.raises(FeatureError) as caught:
                Pca.load(path)
            return str(caught.value)

        assert refused().startswith(f"{path}: cannot be read (")
        path.write_bytes(b"x" * 100)
        assert refused() == f"{path}: damaged, or no PCA; {hint}"
        save_file({"mean": np.zeros(5)}, path)
        assert refused() == f"{path}: damaged, or no PCA; {hint}"
        pca = Pca.fit(make_videos().items(), 3, SOURCE, "these")
        pca.save(path)
        path.write_bytes(path.read_bytes()[:-8])
        assert refused() == f"{path}: damaged, or no PCA; {hint}"
        Pca(pca.mean[:4], pca.components, pca.explained_variance, pca.record).save(path)
        assert refused() == f"{path}: its arrays do not fit together; {hint}"

    def test_not_writable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match=r"cannot be written .*; choose another place"):
            Pca.fit(make_videos().items(), 3, SOURCE, "x").save(tmp_path / "file" / "a")


class TestStores:
    def test_features_of_another_encoder(self, tmp_path: Path) -> None:
        pca_file = tmp_path / "s.pca.safetensors"
        Pca.fit(make_videos().items(), 2, SOURCE, "these").save(pca_file)
        write_store(tmp_path / "b.h5", make_videos().items(), SOURCE.model_copy(update={"revision": "2"}))
        with pytest.raises(FeatureShapeError) as caught:
            project_store(open_store(tmp_path / "b.h5"), pca_file, tmp_path / "t.h5")
        assert str(caught.value) == (
            f"{tmp_path / 'b.h5'}: features of 'c3d' revision 2, but {pca_file} was fitted on 'c3d' revision 1: fit "
            "a PCA on these"
        )
        narrow = {name: rows[:, :4] for name, rows in make_videos(2).items()}
        write_store(tmp_path / "n.h5", narrow.items(), SOURCE.model_copy(update={"dim": 4}))
        with pytest.raises(FeatureError) as caught_too:
            project_store(open_store(tmp_path / "n.h5"), pca_file, tmp_path / "t.h5")
        assert str(caught_too.value) == (
            f"{tmp_path / 'n.h5'}: none of its 2 videos can be reduced; the first: "
            '"v0": rows of width 4, but the PCA is of rows of width 5'
        )
        assert not (tmp_path / "t.h5").exists()
