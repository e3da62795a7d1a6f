"""A dataset of one's own: from a folder of videos and annotations to splits and settings to train with."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mrnet.config.data import PATH_FIELDS
from mrnet.data.annotations import read_annotations
from mrnet.data.check import CheckReport, check_dataset
from mrnet.data.splits import split_videos
from mrnet.documents import parse_yaml
from mrnet.errors import ConfigError, DataError
from mrnet.features.extraction.extract import video_files
from mrnet.features.registry import make_backbone
from mrnet.files import write_together
from mrnet.media.video import probe
from mrnet.types import VideoRecord

SETTINGS = "dataset.yaml"
"""What `--data DIR` reads: fields of the configuration, paths relative to the folder."""

_SPLIT_FILES = {split: f"{split}.jsonl" for split in ("train", "val", "test")}
_ANNOTATIONS = (".csv", ".jsonl", ".vtt", ".eaf", ".json")
_HEADER = "# Written by `mrnet data init`: the fields that this dataset sets, for `mrnet train --data`.\n"


@dataclass(frozen=True, slots=True)
class InitResult:
    """What became of a folder.

    Attributes:
        report: what was found wrong with it.
        splits: split -> its videos; empty, and nothing written, where the report has errors.
    """

    report: CheckReport
    splits: dict[str, list[VideoRecord]]


def init_dataset(
    folder: Path,
    moments: Sequence[Path] = (),
    *,
    video_backbone: str = "color-hog-motion",
    text_backbone: str = "hashed-words",
    seed: int = 0,
    force: bool = False,
) -> InitResult:
    """Check a folder, split its videos and write the splits and the settings into it: all four files, or none.

    Args:
        folder: holds the videos, in itself or in ``videos``.
        moments: annotation files of any known format; those in the folder if left out.
        video_backbone: encoder of the videos.
        text_backbone: encoder of the queries.
        seed: another one gives other splits.
        force: write over what an earlier call has written.

    Raises:
        DataError: there are no videos, no annotations or too few of them, an annotation file as a whole cannot be
            read, or a file is in the way.
        OutputError: the files cannot be written.
        ConfigError: a backbone cannot be made.
        FeatureError: two videos have one id.
    """
    _refuse_to_overwrite(folder, force)
    settings = {
        "name": folder.resolve().name or "dataset",
        "model": {
            "video_dim": make_backbone("video", video_backbone).dim,
            "query_dim": make_backbone("text", text_backbone).dim,
        },
    }
    videos = _video_folder(folder)
    annotations = _annotation_files(folder, moments)
    report = check_dataset(annotations, videos)
    if not report.ok:
        return InitResult(report, {})
    files = video_files(videos)
    records = read_annotations(annotations, durations=lambda video_id: probe(files[video_id]).duration_s)
    _refuse_unanswered(records)
    splits = split_videos(records, seed)
    settings["data"] = {
        **_SPLIT_FILES,
        "video_features": os.path.relpath(videos, folder),
        "query_kinds": ["text"],
        "video_backbone": video_backbone,
        "text_backbone": text_backbone,
    }
    texts = {_SPLIT_FILES[split]: "".join(_lines(members, files)) for split, members in splits.items()}
    texts[SETTINGS] = _HEADER + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    write_together(folder, texts)
    return InitResult(report, splits)


def load_dataset_overlay(folder: Path) -> dict[str, Any]:
    """The fields of the configuration that a dataset sets, its paths made absolute.

    Raises:
        ConfigError: the folder has no settings, or they are damaged.
    """
    path = folder / SETTINGS
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{path}: no such file; make it with `mrnet data init {folder}`, or write one that names the files"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); make it anew, with `mrnet data init --force`"
        ) from None
    data = tree.get("data") if isinstance(tree, dict) else None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: has no section `data`; write one, or make it anew with `mrnet data init --force`"
        )
    root = folder.resolve()

    def absolute(value: Any) -> Any:
        return [absolute(item) for item in value] if isinstance(value, list) else str(root / str(value))

    paths = {key: absolute(data[key]) for key in PATH_FIELDS if data.get(key) is not None}
    return {**tree, "data": {**data, **paths}}


def _refuse_to_overwrite(folder: Path, force: bool) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the folder with your videos")
    settings = folder / SETTINGS
    try:
        ours = settings.read_text(encoding="utf-8").startswith(_HEADER)
    except (OSError, UnicodeDecodeError):
        ours = False
    if ours and not force:
        raise DataError(f"{folder}: is a dataset already, by its {SETTINGS}; make it anew with --force")
    in_the_way = [name for name in (*_SPLIT_FILES.values(), SETTINGS) if (folder / name).exists()]
    if in_the_way and not ours:
        raise DataError(
            f"{folder}: holds {', '.join(in_the_way)}, which an earlier `mrnet data init` did not finish or did not "
            "write; rename or remove it"
        )


def _video_folder(folder: Path) -> Path:
    for candidate in (folder / "videos", folder):
        if video_files(candidate):
            return candidate
    raise DataError(f"{folder}: no videos in it, nor in {folder / 'videos'}; put them there")


def _annotation_files(folder: Path, moments: Sequence[Path]) -> list[Path]:
    if moments:
        written = {(folder / name).resolve() for name in _SPLIT_FILES.values()}
        for path in moments:
            if path.resolve() in written:
                raise DataError(f"{path}: is what this command writes; give the annotations that it was made from")
        return list(moments)
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _ANNOTATIONS
        and path.name not in _SPLIT_FILES.values()
        and not path.name.startswith(".")
    ]
    if not found:
        raise DataError(
            f"{folder}: no annotations in it ({', '.join(_ANNOTATIONS)}); put them there, or name them with --moments"
        )
    return found


def _refuse_unanswered(records: Sequence[VideoRecord]) -> None:
    """What benchmark files may hold, and a file of rows may not."""
    wrong = [
        query
        for record in records
        for query in record.queries
        if not query.moments or any(start_s >= end_s for start_s, end_s in query.moments)
    ]
    if wrong:
        raise DataError(
            f"{len(wrong)} queries have no moment, or one of no length within their video, the first being "
            f'"{wrong[0].qid}": correct them, or remove them'
        )


def _lines(records: Sequence[VideoRecord], files: Mapping[str, Path]) -> Iterator[str]:
    """A row for every moment; those of one query share its qid."""
    for record in records:
        for query in record.queries:
            for start_s, end_s in query.moments:
                row = {
                    "video": files[record.video_id].name,  # an id could end like a file, and lose that when read
                    "duration": record.duration_s,
                    "start": start_s,
                    "end": end_s,
                    "query": query.text,
                    "qid": query.qid,
                }
                yield json.dumps(row, ensure_ascii=False) + "\n"
