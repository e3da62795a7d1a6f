"""Features of queries of every kind, from stores or from the sentences themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from mrnet.errors import DataError
from mrnet.features.backbone import Backbone, encode_sources
from mrnet.features.store.reader import FeatureStore
from mrnet.types import Query, QueryKind, VideoRecord


class QueryFeatures(Protocol):
    """Features of queries.

    Attributes:
        dim: their width.
    """

    dim: int

    def __call__(self, queries: Sequence[Query]) -> Tensor:
        """``(s, dim)`` float32, one row a query.

        Raises:
            DataError, FeatureError: a query has none; says why.
        """
        ...


class StoredQueries:
    """Query features read from a store: by the stem of the sound file's name, else by qid."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        ids = store.ids()
        self.dim = store.read(ids[0]).shape[1] if ids else 0

    def __call__(self, queries: Sequence[Query]) -> Tensor:
        """``(s, dim)`` float32, one row a query (the mean where a query has several rows)."""
        return torch.stack([torch.from_numpy(self.store.read(feature_id(query))).mean(dim=0) for query in queries])


class EncodedQueries:
    """Query features encoded from their text, each sentence once."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.dim = backbone.dim
        self._cache: dict[str, Tensor] = {}

    def __call__(self, queries: Sequence[Query]) -> Tensor:
        """``(s, dim)`` float32, one row a query."""
        new = list(dict.fromkeys(query.text for query in queries if query.text not in self._cache))
        if new:
            for text, rows in zip(new, encode_sources(self.backbone, new), strict=True):
                self._cache[text] = torch.from_numpy(rows[0])
        return torch.stack([self._cache[query.text] for query in queries])


class CombinedQueries:
    """Queries of several kinds in one space: the features of each kind fill columns of their own, zeros the others.

    The model's first linear layer is then one layer for each kind, side by side, and all else is common to them.

    Args:
        of: kind -> features of its queries.
        widths: kind -> width, of all kinds that a model takes, in the order of their columns; those of ``of`` if left
            out.
    """

    def __init__(
        self, of: Mapping[QueryKind, QueryFeatures], widths: Mapping[QueryKind, int] | None = None
    ) -> None:
        self._of = of
        self.widths = dict(widths or {}) | {kind: features.dim for kind, features in of.items()}
        self.dim = sum(self.widths.values())

    def __call__(self, queries: Sequence[Query]) -> Tensor:
        """``(s, dim)`` float32, one row a query."""
        for query in queries:
            if query.kind not in self._of:
                raise DataError(f"query {query.qid!r} is of {query.kind}, of which there are no features here")
        features = torch.empty(len(queries), self.dim, dtype=torch.float32)
        for kind, of_kind in self._of.items():
            indices = [index for index, query in enumerate(queries) if query.kind == kind]
            if indices:
                features[indices] = fill_columns(of_kind([queries[index] for index in indices]), kind, self.widths)
        return features


def fill_columns(rows: Tensor, kind: QueryKind, widths: Mapping[QueryKind, int]) -> Tensor:
    """Features of one kind of query in the space of all kinds that a model takes.

    Args:
        rows: ``(n, widths[kind])``.
        kind: theirs.
        widths: kind -> width of its features, in the order of their columns.

    Returns:
        ``(n, sum of widths)``.
    """
    kinds = list(widths)
    before, after = kinds[: kinds.index(kind)], kinds[kinds.index(kind) + 1 :]
    return pad(rows, (sum(widths[k] for k in before), sum(widths[k] for k in after)))


def with_kinds(records: Sequence[VideoRecord], kinds: Sequence[QueryKind]) -> list[VideoRecord]:
    """The queries of some videos, each asked in every one of these kinds.

    Raises:
        DataError: speech queries are wanted of annotations that name no sound files.
    """
    return [
        replace(record, queries=tuple(_ask(query, kind, kinds) for query in record.queries for kind in kinds))
        for record in records
    ]


def _ask(query: Query, kind: QueryKind, kinds: Sequence[QueryKind]) -> Query:
    if kind == "speech" and query.audio is None:
        raise DataError(
            f"query {query.qid!r} has no sound file: speech queries need annotations with `audios` (ActivityNet "
            "Speech and the other *_audio_new.json have them)"
        )
    several = len(kinds) > 1
    return replace(query, kind=kind, qid=f"{query.qid} ({kind})" if several else query.qid)


def feature_id(query: Query) -> str:
    """Under which id a store holds a query's features: the stem of the sound file's name, else the qid."""
    return query.qid if query.audio is None else Path(query.audio).stem
