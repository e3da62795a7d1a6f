"""The tables of a library, in LanceDB.

=========  ==========================================================================================
about      one row, made with it and last of all when a library is made: format, and provenance of its rows
videos     a row a file: path, key of its content, key of what is said in it, what changes with the file
rows       the feature rows of each content, and each as a vector to search
said       the subtitles of a video, and their words
passages   a vector for every passage of them
=========  ==========================================================================================

A file counts once it is in ``videos``, which is written after everything that it refers to. What a killed process
left in the other tables is in nobody's way, and the next update removes it.

The same code works on a folder and on what LanceDB reaches by a URI (``s3://``, ``gs://``, ``az://``, ``db://``).
"""

import json
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import FiniteFloat, TypeAdapter, ValidationError
from torch import Tensor

from mrnet.documents import parse_json
from mrnet.errors import ConfigError, LibraryError
from mrnet.features.backbone import Rows
from mrnet.files import lock, make_directory, writing
from mrnet.media.subtitles import Cue
from mrnet.provenance import Provenance
from mrnet.retrieval.said import Said

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

FORMAT = 1
"""Of the tables, and of how passages are made of subtitles."""

_LOCK = ".mrnet-lock"
# Every write adds a fragment to a table, and so many of them are put together at a time: seldom, as that writes anew
# what is in them.
_MOST_FRAGMENTS = 64
# Versions of a table that older processes may still read.
_KEPT_VERSIONS = timedelta(hours=1)
# Rows that have come since an index was made are all looked at; when they are more than this part, they come into it.
_MOST_UNINDEXED = 0.1
_CUES = TypeAdapter(list[tuple[FiniteFloat, FiniteFloat, str]])
# What a disk or an object store has told stands within an error that LanceDB writes as Rust debugs it.
_TOLD = re.compile(r'<Message>([^<]+)</Message>|message: "([^"]+)"')
_ERRORS = (OSError, RuntimeError, ValueError, TypeError, LookupError)
# What LanceDB raises where it finds what it thinks impossible, of modules that cannot be imported; the latter is no
# Exception.
_PANICS = ("RustPanic", "PanicException")
# Keys in one condition.
_KEYS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Video:
    """A file in a library.

    Attributes:
        path: absolute, or as the library's maker gave it.
        content: key of its rows, the same for files of the same content.
        said: key of what is said in it; ``None`` where nothing says.
        said_by: name of its subtitles.
        duration_s: length in seconds, as far as its rows reach.
        num_rows: of ``content``.
        note: what to know about every answer out of it; empty where nothing.
        stamp: changes when the file or its subtitles do.
        modified_s: when the file was last modified, in seconds since 1970.
        indexed_s: when it came into the library, likewise.
    """

    path: str
    content: int
    said: int | None
    said_by: str
    duration_s: float
    num_rows: int
    note: str
    stamp: str
    modified_s: float
    indexed_s: float


class Store:
    """The tables of one library.

    Args:
        uri: a folder, or a URI that LanceDB knows; nothing is read or written yet.

    Raises:
        ConfigError: LanceDB is not installed, or it is nobody's folder.
    """

    def __init__(self, uri: str | Path) -> None:
        try:
            import lancedb
        except ImportError as error:
            raise ConfigError(f"a library needs LanceDB ({error}): pip install 'mrnet[library]'") from None
        self.uri = str(uri)
        try:
            self.folder = None if "://" in self.uri else Path(self.uri).expanduser()
        except RuntimeError:  # no one's home
            raise ConfigError(f"{self.uri}: there is no such user; name another folder, or a URI") from None
        self._lancedb = lancedb
        self._connection: Any = None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns LanceDB's errors, which are no kind of their own, into one line, and those of tables that hold
        something else than they should.

        Raises:
            LibraryError: the library cannot be read or written.
        """
        try:
            yield
        except BaseException as error:
            if not isinstance(error, _ERRORS) and type(error).__name__ not in _PANICS:
                raise
            raise LibraryError(
                f"library {self.uri}: cannot be read or written ({_reason(error)}); free or mend its place and index "
                "again, or make another"
            ) from error

    def provenance(self) -> Provenance | None:
        """How its rows are made; ``None`` where there is no library yet.

        Raises:
            LibraryError: something else is there, or a library of another version.
        """
        if self.folder is not None:
            with writing(self.folder):
                if not self.folder.exists():
                    return None
                if not self.folder.is_dir():
                    raise LibraryError(f"library {self.uri}: is a file; name a folder")
                is_new = all(path.name == _LOCK or path.suffix == ".lance" for path in self.folder.iterdir())
        else:
            is_new = True
        with self.errors():
            table = self._about()
            if table is None:
                if not is_new:
                    raise LibraryError(f"{self.uri}: is no library; name another place, or a new one")
                return None
            about = parse_json(_checked(table).search().to_arrow()["about"][0].as_py())
            version = about["format"]
        if version != FORMAT:
            raise LibraryError(
                f"library {self.uri}: was made by another version of mrnet; make it anew: mrnet index DIR --library NEW"
            )
        with self.errors():
            return Provenance.model_validate(about["provenance"])

    def create(self, provenance: Provenance, dim: int, text_dim: int) -> None:
        """Make its tables, empty; those that are there already stay.

        Args:
            provenance: of the rows.
            dim: width of what rows are searched by.
            text_dim: width of the vectors of passages.

        Raises:
            LibraryError, OutputError: it cannot be made, or a table is there that is none of it.
        """
        import pyarrow as pa

        with self.errors():
            connection = self._connect()
            about = {"format": FORMAT, "provenance": provenance.model_dump(mode="json")}
            rows = {"about": pa.table({"about": [json.dumps(about)]})}
            for name, columns in _columns(provenance.dim, dim, text_dim).items():
                connection.create_table(name, rows.get(name), schema=pa.schema(columns), exist_ok=True)

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Refuses a second process that would change the library, where it is a folder.

        Raises:
            OutputError: another process does, or the folder cannot be written.
        """
        if self.folder is None:
            yield
            return
        make_directory(self.folder)
        with writing(self.folder):
            file = (self.folder / _LOCK).open("ab")
        with file:
            lock(file, self.folder)
            yield

    def table(self, name: str) -> Any:
        """A LanceDB table, by the newest version there is.

        Raises:
            Exception: to be told by :meth:`errors`.
        """
        return _checked(self._connect().open_table(name))

    def version(self, name: str) -> int:
        """Changes whenever a table does."""
        with self.errors():
            return int(self.table(name).version)

    def videos(self) -> list[Video]:
        """Every file, in order of path; what cannot be is left out, and comes anew with the next update."""
        with self.errors():
            videos = [Video(**row) for row in self.table("videos").search().to_arrow().to_pylist()]
            return sorted(filter(_can_be, videos), key=lambda video: video.path)

    def counts(self, name: str) -> Counter[int]:
        """How many rows of a table each key has."""
        with self.errors():
            keys = self.table(name).search().select(["key"]).to_arrow()["key"].to_numpy()
        found, numbers = np.unique(keys, return_counts=True)
        return Counter(dict(zip(found.tolist(), numbers.tolist(), strict=True)))

    def add_rows(self, contents: Sequence[tuple[int, Rows, Tensor]]) -> None:
        """Add the rows of some contents.

        Args:
            contents: key, ``(r, c)`` features and ``(r, e)`` vectors of each.
        """
        if not contents:
            return
        features = np.concatenate([features for _, features, _ in contents])
        vectors = torch.cat([vectors for _, _, vectors in contents]).numpy()
        self._add("rows", [(key, len(rows)) for key, rows, _ in contents], features=features, vector=vectors)

    def add_said(self, texts: Sequence[tuple[int, Said]]) -> None:
        """Add subtitles, by key."""
        import pyarrow as pa

        if not texts:
            return
        with self.errors():
            self.table("said").add(
                pa.table(
                    {
                        "key": pa.array([key for key, _ in texts], pa.int64()),
                        "cues": [json.dumps(said.cues) for _, said in texts],
                        "words": [said.words for _, said in texts],
                    }
                )
            )
        spoken = [(key, said.vectors) for key, said in texts if len(said.vectors)]
        if spoken:
            vectors = torch.cat([vectors for _, vectors in spoken]).numpy()
            self._add("passages", [(key, len(vectors)) for key, vectors in spoken], vector=vectors)

    def put_videos(self, videos: Sequence[Video]) -> None:
        """Add files, or replace those of the same path."""
        import pyarrow as pa

        if not videos:
            return
        with self.errors():
            table = self.table("videos")
            rows = pa.Table.from_pylist([asdict(video) for video in videos], schema=table.schema)
            table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def remove_videos(self, paths: Iterable[str]) -> None:
        """Remove files; what they refer to stays until :meth:`remove_unused`."""
        self._delete("videos", "path", ["'" + path.replace("'", "''") + "'" for path in paths])

    def remove_unused(self) -> None:
        """Remove what no file refers to."""
        videos = self.videos()
        contents = {video.content for video in videos}
        said = {video.said for video in videos if video.said is not None}
        for name, used in (("rows", contents), ("said", said), ("passages", said)):
            self.remove_keys(name, self.counts(name).keys() - used)

    def remove_keys(self, name: str, keys: Iterable[int]) -> None:
        """Remove the rows of a table that have one of these keys."""
        self._delete(name, "key", [str(key) for key in keys])

    def rows_of(self, video: Video) -> Rows | None:
        """``(r, c)`` features; ``None`` where they are not all here, as two processes may have changed the library, or
        are damaged."""
        with self.errors():
            found = (
                self.table("rows")
                .search()
                .where(f"key = {video.content}")
                .select(["number", "features"])
                .to_arrow()
            )
        numbers, first = np.unique(found["number"].to_numpy(), return_index=True)
        if len(numbers) != video.num_rows:
            return None
        features = _matrix(found["features"])[first]
        return features if np.isfinite(features).all() else None

    def said_of(self, video: Video) -> Said | None:
        """What is said in a video; ``None`` where nothing is, or it is damaged."""
        if video.said is None:
            return None
        condition = f"key = {video.said}"
        with self.errors():
            texts = self.table("said").search().where(condition).select(["cues"]).limit(1).to_arrow()
            found = self.table("passages").search().where(condition).select(["number", "vector"]).to_arrow()
        if not len(texts):
            return None
        _, first = np.unique(found["number"].to_numpy(), return_index=True)
        try:
            cues = [Cue(*cue) for cue in _CUES.validate_json(texts["cues"][0].as_py())]
        except ValidationError:
            return None
        said = Said.of(video.said_by, cues, torch.from_numpy(_matrix(found["vector"])[first]))
        in_time = all(0 <= cue.start_s < cue.end_s for cue in cues)
        return said if in_time and len(said.passages) == len(said.vectors) else None

    def saying(self, words: str) -> set[int]:
        """Keys of the subtitles that hold these words, written as those of :class:`mrnet.retrieval.said.Said`."""
        quoted = words.replace("'", "''")
        with self.errors():
            found = self.table("said").search().where(f"contains(words, '{quoted}')").select(["key"]).to_arrow()
        return set(found["key"].to_pylist())

    def has_index(self, name: str) -> bool:
        """Whether the vectors of a table are searched by an index."""
        with self.errors():
            return bool(self.table(name).list_indices())

    def index(self, name: str, least: int) -> None:
        """Bring the index of a table's vectors up to date, or make it where there are more than ``least``."""
        from lancedb.index import IvfFlat

        with self.errors():
            table = self.table(name)
            count = table.count_rows()
            if not self.has_index(name):
                if count > least:
                    log.info("library %s: making an index of %d rows", self.uri, count)
                    parts = max(round(math.sqrt(count) / 4), 1)
                    table.create_index("vector", config=IvfFlat(distance_type="dot", num_partitions=parts))
                return
            [index] = table.list_indices()
            stats = table.index_stats(index.name)
            if stats is not None and stats.num_unindexed_rows > _MOST_UNINDEXED * count:
                self._optimize(table)

    def compact(self) -> None:
        """Put the many small parts of tables together, where there are many."""
        with self.errors():
            for name in ("videos", "rows", "said", "passages"):
                table = self.table(name)
                if table.stats()["fragment_stats"]["num_fragments"] > _MOST_FRAGMENTS:
                    self._optimize(table)

    def _optimize(self, table: Any) -> None:
        if not self.uri.startswith("db://"):  # whose service does so by itself
            table.optimize(cleanup_older_than=_KEPT_VERSIONS)

    def _add(self, name: str, lengths: Sequence[tuple[int, int]], **columns: np.ndarray) -> None:
        """Add rows with their key and number.

        Args:
            name: of the table.
            lengths: key and number of rows of each part.
            columns: ``(rows, width)`` each.
        """
        import pyarrow as pa

        keys = np.concatenate([np.full(length, key, np.int64) for key, length in lengths])
        numbers = np.concatenate([np.arange(length, dtype=np.int32) for _, length in lengths])
        arrays = {
            column: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
            for column, values in columns.items()
        }
        with self.errors():
            self.table(name).add(pa.table({"key": keys, "number": numbers, **arrays}))

    def _delete(self, name: str, column: str, values: Sequence[str]) -> None:
        with self.errors():
            for start in range(0, len(values), _KEYS_AT_ONCE):
                some = ", ".join(values[start : start + _KEYS_AT_ONCE])
                self.table(name).delete(f"{column} IN ({some})")

    def _about(self) -> Any | None:
        """The table that comes last; ``None`` where it is not there, or a part of it that a killed process left."""
        connection = self._connect()
        if "about" not in connection.list_tables().tables:
            return None
        try:
            return connection.open_table("about")
        except ValueError:
            return None

    def _connect(self) -> Any:
        if self._connection is None:
            where = self.uri if self.folder is None else str(self.folder)
            self._connection = self._lancedb.connect(
                where,
                read_consistency_interval=timedelta(0),  # what another process has written is seen at once
                region=os.environ.get("LANCEDB_REGION", "us-east-1"),
                host_override=os.environ.get("LANCEDB_HOST_OVERRIDE"),
            )
        return self._connection


def _checked(table: Any) -> Any:
    """A table, as it is named.

    Raises:
        ValueError: its columns are those of another.
    """
    if table.schema.names != [column for column, _ in _columns(1, 1, 1)[table.name]]:
        raise ValueError(f"{table.name} is another table")
    return table


def _columns(features_dim: int, dim: int, text_dim: int) -> dict[str, list[tuple[str, Any]]]:
    """Name and type of the columns of each table."""
    import pyarrow as pa

    kinds = {"str": pa.string(), "int": pa.int64(), "int | None": pa.int64(), "float": pa.float64()}
    return {
        "videos": [
            (field.name, kinds[str(getattr(field.type, "__name__", field.type))]) for field in fields(Video)
        ],
        "rows": [
            ("key", pa.int64()),
            ("number", pa.int32()),
            ("features", pa.list_(pa.float32(), features_dim)),
            ("vector", pa.list_(pa.float32(), dim)),
        ],
        "said": [("key", pa.int64()), ("cues", pa.string()), ("words", pa.string())],
        "passages": [
            ("key", pa.int64()),
            ("number", pa.int32()),
            ("vector", pa.list_(pa.float32(), text_dim)),
        ],
        "about": [("about", pa.string())],
    }


def _matrix(column: "pa.ChunkedArray") -> Rows:
    """``(r, c)`` of a column of lists of one length."""
    width = column.type.list_size
    values: Rows = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, width)


def _can_be(video: Video) -> bool:
    """Whether a row of the table can be of a file."""
    numbers = (video.duration_s, video.modified_s, video.indexed_s)
    known = None not in (
        video.path,
        video.content,
        video.num_rows,
        video.stamp,
        video.note,
        video.said_by,
        *numbers,
    )
    return known and all(map(math.isfinite, numbers)) and video.duration_s > 0 and video.num_rows > 0


def _reason(error: BaseException) -> str:
    """What is wrong, in few words."""
    told = _TOLD.search(str(error))
    lines = (str(error) if told is None else told[1] or told[2]).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
