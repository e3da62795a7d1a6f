"""``mrnet features pca``: whose rows it is fitted on, what it writes, and what it leaves alone."""

import argparse
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from mrnet.cli import features_pca
from mrnet.errors import ConfigError, DataError, FeatureError, MRNetError, OutputError
from mrnet.features.store.pca import Pca
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import write_store
from mrnet.provenance import Projection
from tests.features.store.mixed import SOURCE, exact, make_videos


def _run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    features_pca.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["pca", *map(str, words)])
    status: int = arguments.run(arguments)
    return status


def _refused(error: type[MRNetError], *words: str | Path) -> str:
    with pytest.raises(error) as caught:
        _run(*words)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _annotate(path: Path, *videos: str) -> Path:
    record = {"duration": 5, "timestamps": [[0, 1]], "sentences": ["x"]}
    path.write_text(json.dumps(dict.fromkeys(videos, record)))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(tmp_path / "full.h5", make_videos().items(), SOURCE)
    return tmp_path / "full.h5"


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return _annotate(tmp_path / "train.json", "v0", "v2", "v3")


class TestCommand:
    def test_train_then_apply(
        self,
        tmp_path: Path,
        store: Path,
        train: Path,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        _annotate(train, "v0", "v2", "v3", "v99")
        assert _run(store, "--dim", "2", "--train", train, "--out", tmp_path / "small.h5") == 0
        assert caplog.messages == ["1 of 4 videos of train.json have no features"]
        videos = make_videos()
        chosen = np.concatenate([videos[name] for name in ("v0", "v2", "v3")])
        mean, components, variance = exact(chosen, 2)
        _, _, total = exact(chosen, 5)
        small, pca_file = open_store(tmp_path / "small.h5"), tmp_path / "small.pca.safetensors"
        assert small.ids() == sorted(videos)
        for name, rows in videos.items():
            np.testing.assert_allclose(small.read(name), (rows - mean) @ components.T, atol=1e-4)
        digest = hashlib.sha256(pca_file.read_bytes()).hexdigest()
        fitted_on = "3 of 4 videos of train.json"
        projection = Projection(sha256=digest, dim=5, fitted_on=fitted_on)
        assert small.provenance == SOURCE.model_copy(update={"dim": 2, "projection": projection})
        assert Pca.load(pca_file).record.source == SOURCE
        assert capsys.readouterr().out == (
            f"5 -> 2 dimensions, which keep {variance.sum() / total.sum():.2%} of the variance of 35 rows: "
            f"{fitted_on}\nPCA:      {pca_file}\nfeatures: {tmp_path / 'small.h5'}\n"
        )

        new = tmp_path / "new"
        new.mkdir()
        np.save(new / "w.npy", videos["v1"])
        words = ["--apply", pca_file, "--out", tmp_path / "w.h5"]
        assert _run(new, *words) == 0  # a folder that does not say how it was made
        applied = open_store(tmp_path / "w.h5")
        assert applied.provenance == small.provenance
        np.testing.assert_array_equal(applied.read("w"), small.read("v1"))
        assert hashlib.sha256(pca_file.read_bytes()).hexdigest() == digest

    def test_annotations_without_lengths_will_do(self, tmp_path: Path, store: Path) -> None:
        (tmp_path / "a.csv").write_text("video,start,end,query\nv0.mp4,0,1,x\n")
        (tmp_path / "b.csv").write_text("video,start,end,query\nv1,5,1,\n")
        words = ["--dim", "2", "--train", tmp_path / "a.csv", tmp_path / "b.csv", "--out", tmp_path / "s.h5"]
        assert _run(store, *words) == 0
        record = Pca.load(tmp_path / "s.pca.safetensors").record
        assert (record.fitted_on, record.rows) == ("2 of 2 videos of a.csv, b.csv", 21)

    def test_all_videos(self, tmp_path: Path, store: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert _run(store, "--dim", "2", "--fit-on", "all", "--out", tmp_path / "s.h5") == 0
        pca = Pca.load(tmp_path / "s.pca.safetensors")
        assert pca.record.fitted_on == "all 6 videos of full.h5, test videos among them"
        np.testing.assert_allclose(pca.mean, np.concatenate(list(make_videos().values())).mean(axis=0), rtol=1e-5)
        assert caplog.record_tuples == [
            (
                "mrnet.cli.features_pca",
                logging.WARNING,
                "fitted on all videos, as published features were: test videos shape their own features",
            )
        ]

    def test_features_that_do_not_say_how_they_were_made(self, tmp_path: Path, train: Path) -> None:
        with h5py.File(tmp_path / "tacos_c3d.h5", "w") as file:
            for name, rows in make_videos().items():
                file[f"{name}/c3d_features"] = rows
        assert _run(tmp_path / "tacos_c3d.h5", "--dim", "2", "--train", train, "--out", tmp_path / "s.h5") == 0
        provenance = open_store(tmp_path / "s.h5").provenance
        assert provenance is not None
        assert (provenance.backbone, provenance.dim, provenance.revision) == ("tacos_c3d", 2, "")
        assert provenance.projection is not None

    def test_unreadable_videos_are_left_out(
        self, tmp_path: Path, store: Path, train: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with h5py.File(store, "a") as file:
            file["v4"][0, 0] = np.nan
            file["wide"] = np.zeros((3, 6))
        assert _run(store, "--dim", "2", "--train", train, "--out", tmp_path / "s.h5") == 1
        assert open_store(tmp_path / "s.h5").ids() == ["v0", "v1", "v2", "v3", "v5"]
        assert caplog.messages == [
            f'left out: "v4": {store}, "v4": row 0 holds NaN or infinity; extract its features again',
            'left out: "wide": rows of width 6, but the PCA is of rows of width 5',
        ]


class TestRefuses:
    def test_nothing_said(self, tmp_path: Path, store: Path, train: Path) -> None:
        out = ["--out", tmp_path / "s.h5"]
        assert _refused(ConfigError, store, "--dim", "2", *out) == (
            "say whose rows to fit on, for features fitted on test videos know more than they should: --train "
            "ANNOTATIONS for the training videos alone, --fit-on all for every video, or --apply a saved PCA"
        )
        assert _refused(ConfigError, store, "--train", train, *out) == (
            "the width after: give --dim, 500 is usual"
        )
        assert _refused(ConfigError, store, "--apply", "x", "--dim", "2", *out) == (
            "the width after: a saved PCA has its own: leave out --dim"
        )
        with pytest.raises(SystemExit):  # one of the three
            _run(store, "--dim", "2", "--train", train, "--fit-on", "all", *out)

    def test_out(self, tmp_path: Path, store: Path, train: Path) -> None:
        words = [store, "--dim", "2", "--train", train, "--out"]
        assert _refused(FeatureError, *words, tmp_path) == (
            f"{tmp_path}: is a folder; name an HDF5 file with --out"
        )
        assert _refused(FeatureError, *words, store) == (
            f"{store}: holds the features to reduce; choose another --out"
        )

    @pytest.mark.parametrize("how", ["fit", "apply"])
    @pytest.mark.parametrize("there", ["annotations", "features", "other HDF5", "pipe", "device"])
    def test_what_it_did_not_write_is_kept(self, tmp_path: Path, train: Path, how: str, there: str) -> None:
        out = tmp_path / "s.h5"
        if there == "annotations":
            out = train
        elif there == "features":
            write_store(out, make_videos().items(), SOURCE)
        elif there == "other HDF5":
            h5py.File(out, "w").close()
        elif there == "pipe":
            os.mkfifo(out)
        else:
            out = Path("/dev/null")
        before = out.read_bytes() if out.is_file() else out.stat().st_mode
        words = ["--dim", "2", "--train", train] if how == "fit" else ["--apply", tmp_path / "any.pca.safetensors"]
        # Before anything else is looked at: the features to reduce are not there.
        assert _refused(OutputError, tmp_path / "none.h5", *words, "--out", out) == (
            f"{out}: exists, and is none of the reduced features that `mrnet features pca` writes and replaces; "
            "choose another --out"
        )
        assert (out.read_bytes() if out.is_file() else out.stat().st_mode) == before
        assert not list(tmp_path.glob("s.pca*"))

    def test_only_a_pca_is_replaced_by_a_pca(self, tmp_path: Path, store: Path, train: Path) -> None:
        other = tmp_path / "s.pca.safetensors"
        save_file({"mean": np.zeros(5)}, other)
        before = other.read_bytes()
        words = [store, "--dim", "2", "--train", train, "--out", tmp_path / "s.h5"]
        assert _refused(OutputError, *words) == (
            f"{other}: exists, and is none of the PCAs that `mrnet features pca` saves and replaces; choose another "
            "--out"
        )
        assert other.read_bytes() == before
        assert not (tmp_path / "s.h5").exists()

    def test_what_it_wrote_is_replaced(self, tmp_path: Path, store: Path, train: Path) -> None:
        for dim in (2, 3):
            assert _run(store, "--dim", str(dim), "--train", train, "--out", tmp_path / "s.h5") == 0
            provenance = open_store(tmp_path / "s.h5").provenance
            assert provenance is not None
            assert provenance.dim == Pca.load(tmp_path / "s.pca.safetensors").dim == dim

    @pytest.mark.parametrize(
        ("change", "dim", "error", "message"),
        [
            (lambda _: None, 6, FeatureError, "rows of width 5 cannot be reduced to 6"),
            (
                lambda file: file["v2"].__setitem__((1, 0), np.inf),
                2,
                FeatureError,
                'full.h5, "v2": row 1 holds NaN',
            ),
            (
                lambda file: [file.__delitem__(v) for v in ("v0", "v2", "v3")],
                2,
                DataError,
                "none of the 3 videos of",
            ),
        ],
    )
    def test_leaves_nothing(
        self,
        tmp_path: Path,
        store: Path,
        train: Path,
        change: Callable[[h5py.File], object],
        dim: int,
        error: type[MRNetError],
        message: str,
    ) -> None:
        with h5py.File(store, "a") as file:
            change(file)
        words = [store, "--dim", str(dim), "--train", train, "--out", tmp_path / "s.h5"]
        assert message in _refused(error, *words)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["full.h5", "train.json"]

    def test_empty_store(self, tmp_path: Path) -> None:
        h5py.File(tmp_path / "e.h5", "w").close()
        words = [tmp_path / "e.h5", "--dim", "2", "--fit-on", "all", "--out", tmp_path / "s.h5"]
        assert _refused(FeatureError, *words) == f"{tmp_path / 'e.h5'}: holds no features to fit a PCA on"

    def test_reduced_features_are_not_reduced_again(self, tmp_path: Path, store: Path, train: Path) -> None:
        assert _run(store, "--dim", "3", "--train", train, "--out", tmp_path / "s.h5") == 0
        digest = hashlib.sha256((tmp_path / "s.pca.safetensors").read_bytes()).hexdigest()
        message = (
            f"{tmp_path / 's.h5'}: features of 'c3d' revision 1 reduced to 3 by PCA {digest[:8]}: give the features "
            "as they were before"
        )
        out = ["--out", tmp_path / "t.h5"]
        assert _refused(FeatureError, tmp_path / "s.h5", "--dim", "2", "--train", train, *out) == message
        assert (
            _refused(FeatureError, tmp_path / "s.h5", "--apply", tmp_path / "s.pca.safetensors", *out) == message
        )
