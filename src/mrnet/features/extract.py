"""Encode video files into a feature store."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from mrnet.errors import FeatureError
from mrnet.features.backbones import Backbone, Rows, encode_sources
from mrnet.features.store import open_store, write_store
from mrnet.types import VIDEO_SUFFIXES


def video_files(folder: Path) -> dict[str, Path]:
    """Video files of a folder by id, the name without its ending; empty where ``folder`` is none or holds none.

    Raises:
        FeatureError: two files have one id.
    """
    by_id: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            if path.stem in by_id:
                raise FeatureError(
                    f"{folder} holds {by_id[path.stem].name} and {path.name}, of one id: rename one"
                )
            by_id[path.stem] = path
    return by_id


def encode_videos(files: Mapping[str, Path], backbone: Backbone, out: Path) -> None:
    """Write the features of videos to one HDF5 file; kept as it is if it holds them and is newer than they.

    Args:
        files: video id -> file.
        backbone: the encoder.
        out: HDF5 file; appears only when it is complete.

    Raises:
        VideoError: a file does not decode.
        FeatureError: ``out`` cannot be read or written.
    """
    provenance = backbone.provenance()
    if out.exists():
        store = open_store(out)
        newest = max((path.stat().st_mtime for path in files.values()), default=0.0)
        complete = all(video_id in store for video_id in files)
        if complete and store.provenance == provenance and newest <= out.stat().st_mtime:
            return

    def rows() -> Iterator[tuple[str, Rows]]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and arithmetic both release the lock
            try:
                encoded = pool.map(lambda path: encode_sources(backbone, [path])[0], files.values())
                yield from tqdm(
                    zip(files, encoded, strict=True),
                    total=len(files), desc="encoding videos", unit="video", disable=None, leave=False,
                )  # fmt: skip
            finally:
                pool.shutdown(cancel_futures=True)

    write_store(out, rows(), provenance)
