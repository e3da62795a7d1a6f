"""``mrnet features``"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from mrnet.cli import features_pca
from mrnet.cli.common import Subparsers, positive
from mrnet.errors import DataError, FeatureError, visible
from mrnet.features.backbone import Modality
from mrnet.features.registry import make_backbone

if TYPE_CHECKING:
    from mrnet.features.extraction.pipeline import Source

_SOURCES: dict[Modality, str] = {
    "video": "video file, or a folder of them",
    "text": "annotation file, of any supported format: each of its sentences is encoded",
    "speech": "sound file, video file (its soundtrack), or a folder of either",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Commands on features."
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for kind in get_args(Modality):
        _add_extraction(actions, kind)
    features_pca.add_parser(actions)


def _add_extraction(actions: Subparsers, kind: Modality) -> None:
    what = {"video": "videos", "text": "sentences", "speech": "speech"}[kind]
    parser = actions.add_parser(
        kind,
        help=f"encode {what}",
        description=f"Encodes {what} into a feature store. What is in the store already is skipped, so that the "
        "same command goes on after an interruption. Exit status 1 if something could not be encoded.",
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help=_SOURCES[kind])
    parser.add_argument("--backbone", metavar="NAME", required=True, help="see `mrnet backbones`")
    parser.add_argument("--out", type=Path, required=True, help="the store: an .h5 file, or a folder")
    parser.add_argument(
        "--layout",
        choices=["hdf5", "npy", "pt"],
        help="one HDF5 file, or a folder with a file an id: .npy, or .pt as in the released features "
        "(default: hdf5 if --out ends in .h5 or .hdf5, else npy)",
    )
    if kind == "video":
        parser.add_argument("--rate", type=float, help="rows a second (default: that of the backbone)")
    else:
        parser.set_defaults(rate=None)
    parser.add_argument("--workers", type=positive, help="files worked on at a time (default: processor cores)")
    parser.add_argument("--device", help="where networks run, e.g. cpu or cuda (default: the best there is)")
    parser.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="this machine, or the Ray cluster of RAY_ADDRESS; without one, Ray on this machine (default: local)",
    )
    parser.set_defaults(run=run_extraction, kind=kind)


def run_extraction(arguments: argparse.Namespace) -> int:
    from mrnet.features.extraction.extract import extract
    from mrnet.features.store.writer import open_writer

    kind: Modality = arguments.kind
    faults: dict[str, str] = {}
    sources = _sentences(arguments.source, faults) if kind == "text" else _files(arguments.source, kind)
    backbone = make_backbone(kind, arguments.backbone, rate=arguments.rate, device=arguments.device)
    writer = open_writer(arguments.out, backbone.provenance(), arguments.layout)
    try:
        if arguments.engine == "ray":
            from mrnet.features.extraction.ray import BackboneSpec, extract_with_ray

            spec = BackboneSpec(kind, arguments.backbone, arguments.rate, arguments.device)
            report = extract_with_ray(sources, spec, writer, workers=arguments.workers)
        else:
            report = extract(sources, backbone, writer, workers=arguments.workers)
    except KeyboardInterrupt:
        print("mrnet: what is finished is kept; the same command goes on from there", file=sys.stderr)
        raise
    failed = faults | report.failed
    for name, reason in sorted(failed.items()):
        print(visible(f"{name}: {reason}"), file=sys.stderr)
    speed = f" ({report.speed})" if report.done else ""
    stored = arguments.out if arguments.out.exists() else "nothing is stored"
    print(
        f"{len(report.done)} encoded{speed}, {len(report.skipped)} already there, {len(failed)} failed: {stored}"
    )
    return 1 if failed else 0


def _files(path: Path, kind: Modality) -> Mapping[str, "Source"]:
    """Media files by id.

    Raises:
        FeatureError: there are none, or two have one id.
    """
    from mrnet.features.extraction.extract import sound_files, video_files

    if not path.exists():
        raise FeatureError(f"{path}: no such file or folder; give a {_SOURCES[kind]}")
    if not path.is_dir():
        return {path.stem: path}
    files = video_files(path) if kind == "video" else sound_files(path)
    if not files:
        raise FeatureError(f"{path}: no {kind} files in this folder; give a {_SOURCES[kind]}")
    return cast(Mapping[str, "Source"], files)


def _sentences(path: Path, faults: dict[str, str]) -> Mapping[str, "Source"]:
    """Sentences by the id under which their features are looked up: the stem of the sound file's name, else the qid.

    Args:
        path: annotation file.
        faults: takes entries that cannot be used, with the reason.

    Raises:
        DataError: the file cannot be read, or there is nothing in it to encode.
    """
    from mrnet.data.annotations import scan
    from mrnet.data.formats import Fault, Severity
    from mrnet.data.queries import feature_id

    def take(kind: Fault, severity: Severity, where: str, text: str) -> None:
        if severity == "error" and kind is not Fault.NO_DURATION:  # a sentence needs none
            faults[where] = text

    sentences: dict[str, Source] = {}
    for video in scan(path, take).values():
        for query in video.queries.values():
            name = feature_id(query)
            if sentences.setdefault(name, query.text) != query.text:
                faults[name] = (
                    "names several different sentences, none of which is encoded; give each its own name"
                )
    for name in faults.keys() & sentences.keys():
        del sentences[name]
    if not sentences and not faults:
        raise DataError(f"{path}: holds no queries; give a file with at least one")
    return sentences
