"""``mrnet features pca``"""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mrnet.cli.common import Subparsers, positive
from mrnet.errors import ConfigError, DataError, FeatureError

if TYPE_CHECKING:
    from mrnet.features.store.reader import FeatureStore

log = logging.getLogger(__name__)


def add_parser(actions: Subparsers) -> None:
    parser = actions.add_parser(
        "pca",
        help="reduce the width of video features by PCA",
        description="Fits a PCA on the training videos, saves it as REDUCED.pca.safetensors and writes the reduced "
        "features of all videos; or applies a saved one. Exact, one video at a time. Exit status 1 if videos had "
        "to be left out.",
    )
    parser.add_argument("store", type=Path, help="feature store: an HDF5 file or a folder")
    parser.add_argument("--dim", type=positive, help="width after, e.g. 500; with --train or --fit-on")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--train", type=Path, nargs="+", metavar="ANNOTATIONS", help="fit on the videos of these annotation files"
    )
    how.add_argument(
        "--fit-on", choices=["all"], help="all: fit on every video, as published features were; test videos count"
    )
    how.add_argument("--apply", type=Path, metavar="FILE.pca.safetensors", help="use this PCA")
    parser.add_argument("--out", type=Path, required=True, metavar="REDUCED.h5", help="HDF5 file to write")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    from mrnet.features.store.pca import Pca, check_outputs, fit_store, project_store
    from mrnet.features.store.reader import open_store

    out: Path = arguments.out
    pca_file: Path = arguments.apply or out.with_name(f"{out.stem}.pca.safetensors")
    check_outputs(out, pca_file if arguments.apply is None else None)
    store = open_store(arguments.store)
    if arguments.apply is None:
        fit_store(store, *_fitted_on(arguments, store), arguments.dim).save(pca_file)
    left_out = project_store(store, pca_file, out)
    for fault in left_out:
        log.warning("left out: %s", fault)
    pca = Pca.load(pca_file)
    print(
        f"{len(pca.mean)} -> {pca.dim} dimensions, which keep {pca.record.variance_kept:.2%} of the variance of "
        f"{pca.record.rows} rows: {pca.record.fitted_on}"
    )
    print(f"PCA:      {pca_file}")
    print(f"features: {out}")
    return 1 if left_out else 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be done, before the long work."""
    if not (arguments.train or arguments.fit_on or arguments.apply):
        raise ConfigError(
            "say whose rows to fit on, for features fitted on test videos know more than they should: --train "
            "ANNOTATIONS for the training videos alone, --fit-on all for every video, or --apply a saved PCA"
        )
    if (arguments.dim is None) != (arguments.apply is not None):
        problem = "a saved PCA has its own: leave out --dim" if arguments.dim else "give --dim, 500 is usual"
        raise ConfigError(f"the width after: {problem}")
    if arguments.out.is_dir():
        raise FeatureError(f"{arguments.out}: is a folder; name an HDF5 file with --out")
    if arguments.out.resolve() == arguments.store.resolve():
        raise FeatureError(f"{arguments.out}: holds the features to reduce; choose another --out")


def _fitted_on(arguments: argparse.Namespace, store: "FeatureStore") -> tuple[list[str], str]:
    """The videos to fit on, and whose they are in words."""
    if arguments.fit_on == "all":
        log.warning("fitted on all videos, as published features were: test videos shape their own features")
        video_ids = store.ids()
        return video_ids, f"all {len(video_ids)} videos of {store.path.name}, test videos among them"
    from mrnet.data.annotations import scan

    def ignore(*_fault: object, **_more: object) -> None:
        """The names of the videos are all that is wanted here."""

    named = scan(arguments.train, ignore)
    files = ", ".join(path.name for path in arguments.train)
    video_ids = [video_id for video_id in named if video_id in store]
    if not video_ids:
        raise DataError(f"none of the {len(named)} videos of {files} has features in {store.path}; check the ids")
    if len(video_ids) < len(named):
        log.warning("%d of %d videos of %s have no features", len(named) - len(video_ids), len(named), files)
    return video_ids, f"{len(video_ids)} of {len(named)} videos of {files}"
