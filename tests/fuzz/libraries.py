"""A library of videos: folders that are taken in, what is asked, and its own folder."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mrnet.library.library import Library
from mrnet.library.store import Store
from tests.fuzz.hostile import (
    TOKENS,
    VALUES,
    change_bytes,
    change_text,
    change_tree,
    lasts_long,
    spoil_media,
)  # fmt: skip
from tests.fuzz.inputs import Inputs
from tests.fuzz.judge import Case, all_finite

_STEMS = [
    "a", "-k", "--help", "é ü", "e\u0301", "it's \"so\"", "two\nlines", "%s{0}$HOME", " ", ".", "..", "...", "\u202ex",
    "*", "?[a]", "a;b,c|d", "'; DROP TABLE videos; --", "\x1b[2J", "\udcff", "v.mp4", "CON", "~", "x" * 240, "\\", "\t",
]  # fmt: skip
_SUFFIXES = [".mp4", ".mp4", ".MP4", ".mkv", ".avi", ".mpg", ".gif", ".txt"]
_TABLES = ("videos", "rows", "said", "passages", "about")


def libraries(inputs: Inputs, folder: Path, random: Random) -> Case:
    """A folder of videos, what is asked of a library, or the library itself."""
    how = random.choice(["folder", "question", "files", "tables"])
    if how == "folder":
        return _index(inputs, folder, random)
    library = folder / "library"
    shutil.copytree(inputs.folder / "library", library)
    if how == "question":
        return _search(_question(random), check=_plausible)
    if how == "files":
        _spoil_files(library, random)
    else:
        _spoil_table(library, random)
    if random.random() < 0.5:
        words = ["index", str(inputs.folder / "videos"), "--library", "library"]
        return Case(words, ("library",), mended=True)
    query = random.choice(["a dog", "the dog", '"the dog"'])
    return _search(["--", query], check=_plausible)


def _index(inputs: Inputs, folder: Path, random: Random) -> Case:
    videos = folder / "videos"
    for _ in range(random.randint(1, 4)):
        _add(inputs, random.choice([videos, videos, videos / "trip", videos / random.choice(_STEMS)]), random)
    if random.random() < 0.5:
        shutil.copytree(inputs.folder / "library", folder / "library")
    where = "videos" if random.random() < 0.9 else random.choice([".", "library", "/dev/null", "videos/a.mp4", ""])
    words = ["index", "--library", "library", "--", where]
    return Case(words, ("library",), check=lambda _: _is_whole(folder / "library"), partly=True)


def _add(inputs: Inputs, folder: Path, random: Random) -> None:
    """A file that counts as a video, or may, in a folder; nothing where the system does not take its name."""
    path = folder / (random.choice(_STEMS) + random.choice(_SUFFIXES))
    source = inputs.folder / random.choice(["v.mp4", "v.mkv", "v.avi", "v.mpg", "v.gif"])

    def spoil() -> None:
        spoil_media(source, path, random)
        if lasts_long(path):
            shutil.copy(source, path)

    makers: list[Callable[[], Any]] = [
        lambda: shutil.copy(source, path),
        lambda: shutil.copy(source, path),
        spoil,
        spoil,
        lambda: path.write_bytes(random.choice([b"", b"x", b"#EXTM3U\n/etc/passwd\n", b"\0" * 1000])),
        lambda: path.mkdir(),
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(
            random.choice(["/dev/zero", "/etc/passwd", "nowhere", path.name, str(source), ".."])
        ),
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        random.choice(makers)()
        if random.random() < 0.5:
            suffix = random.choice([".srt", ".vtt", ".ass"])
            beside = path.with_name(path.stem + random.choice(["", ".en"]) + suffix)
            if random.random() < 0.3:
                shutil.copy(inputs.folder / f"v{suffix}", beside)
            else:
                spoil_media(inputs.folder / f"v{suffix}", beside, random)
    except (OSError, ValueError):
        shutil.copy(source, folder / "v.mp4") if folder.is_dir() else None


def _question(random: Random) -> list[str]:
    """Filters and a query."""
    texts = [value for value in [*VALUES, *TOKENS] if isinstance(value, str)]
    words: list[str] = []
    for option, sound in (
        ("--folder", ["videos", "/", ".."]),
        ("--name", ["*", "v.*", "?.mp4", "[", "[!v]*", "*" * 60 + "x"]),
        ("--since", ["2020-01-01", "2026-13-01", "0001-01-01", "9999-12-31T23:59:59", "2020-W01", "20200101"]),
        ("--until", ["2020-01-01", "2999-01-01", "9999-12-31", "2026-11-26T14:30+99:00", "2020-01-01T00:00Z"]),
        ("-k", ["1", "1000", str(10**9), "0", "-1", "1e3"]),
    ):
        if random.random() < 0.3:
            words += [f"{option}={random.choice([*sound, random.choice(texts)])}"]
    query = random.choice(texts)
    return [*words, "--", random.choice([query, f"a {query} dog", f'"{query}"', change_text("the dog", random)])]


def _search(words: list[str], check: Callable[[str], None]) -> Case:
    return Case(["search", "--library", "library", "--json", *words], check=check)


def _spoil_files(library: Path, random: Random) -> None:
    """What a broken disk does, or a person who copies."""
    files = sorted(path for path in library.rglob("*") if path.is_file())
    for path in random.sample(files, random.choice([1, 1, 3])):
        how = random.random()
        if how < 0.5:
            path.write_bytes(change_bytes(path.read_bytes(), random, 300))
        elif how < 0.65:
            path.unlink()
        elif how < 0.75:
            path.unlink()
            path.mkdir()
        elif how < 0.9:
            one, other = random.sample(_TABLES, 2)
            shutil.rmtree(library / f"{one}.lance")
            shutil.copytree(library / f"{other}.lance", library / f"{one}.lance")
            return
        else:
            shutil.rmtree(library / f"{random.choice(_TABLES)}.lance")
            return


def _spoil_table(library: Path, random: Random) -> None:
    """Tables that can be read, and hold what cannot be."""
    import pyarrow as pa

    store = Store(library)
    name = random.choice(_TABLES)
    table = store.table(name)
    found = table.to_arrow()
    rows = found.to_pylist()
    row = random.choice(rows)
    column = random.choice(list(row))
    value = row[column]
    if name == "about" or column == "cues":
        row[column] = json.dumps(change_tree(json.loads(value), random))
    elif isinstance(value, list):
        row[column] = [random.choice([np.nan, np.inf, -1e30, 0.0])] * len(value)
    elif isinstance(value, str):
        row[column] = random.choice([value for value in [*VALUES, *TOKENS] if isinstance(value, str)])
    elif isinstance(value, float):
        row[column] = random.choice([np.nan, np.inf, -np.inf, -1.0, 0.0, 1e308])
    else:
        row[column] = random.choice([None, 0, -1, 1, 2**31 - 1, 2**63 - 1])
    rows += random.choice([[], [], [row]])
    table.delete("true")
    try:
        table.add(pa.Table.from_pylist(rows, schema=found.schema))
    except (pa.ArrowException, OverflowError, ValueError):  # no table holds that
        table.add(found)


def _plausible(printed: str) -> None:
    answer = json.loads(printed)
    assert all_finite(answer)
    for hit in [*answer["hits"], *([answer["best_guess"]] if answer["best_guess"] else [])]:
        assert 0 <= hit["start_s"] < hit["end_s"] <= hit["duration_s"] + 1e-3
    assert answer["library"]["num_searched"] <= answer["library"]["num_videos"]


def _is_whole(folder: Path) -> None:
    """Every video has rows that can be searched."""
    store = Store(folder)
    videos = Library(store).videos()
    counts = store.counts("rows")
    assert set(counts) == {video.content for video in videos}
    for video in videos:
        rows = store.rows_of(video)
        assert rows is not None
        assert np.isfinite(rows).all()
        assert 0 < video.duration_s < 20_000
        store.said_of(video)
