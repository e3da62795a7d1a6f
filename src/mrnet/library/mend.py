"""Tables of a library that cannot be read, taken back to how they last could.

A full disk or want of power may cut off a file that LanceDB takes for whole.
"""

import logging
from typing import Any

from mrnet.errors import LibraryError
from mrnet.library.store import Store

log = logging.getLogger(__name__)

# A small column of each table, which cannot be read where a part of the table is cut off.
_SEEN_BY = {"videos": "path", "rows": "key", "said": "key", "passages": "key"}


def mend(store: Store) -> None:
    """Take the tables of a folder back, while :meth:`Store.updating`; what they then lack the next update brings anew.

    Args:
        store: a library; one that is no folder is left as it is.

    Raises:
        LibraryError: a table could never be read.
    """
    if store.folder is None:
        return
    went_back = {name for name, column in _SEEN_BY.items() if _go_back(store, name, column)}
    if went_back & {"said", "passages"}:  # whose keys belong together
        with store.errors():
            for name in ("said", "passages"):
                store.table(name).delete("true")


def _go_back(store: Store, name: str, column: str) -> bool:
    """To the newest version of a table that can be read; whether that is not the last.

    Args:
        store: the library.
        name: of the table.
        column: a small one.
    """
    with store.errors():
        table = store.table(name)
    wrong = _error(store, table, column)
    if wrong is None:
        return False
    version = _readable(store, table, column)
    if version is None:
        raise wrong
    with store.errors():
        table.checkout_latest()
    if _error(store, table, column) is None:  # what was wrong has passed: too many open files, say
        return False
    with store.errors():
        table.checkout(version)
        table.restore()
    log.warning("library %s: what was written last (%s) cannot be read and comes anew", store.uri, name)
    return True


def _readable(store: Store, table: Any, column: str) -> int | None:
    """The newest version before the last that can be read, checked out; ``None`` where there is none."""
    with store.errors():
        _, *older = sorted((one["version"] for one in table.list_versions()), reverse=True)
        for version in older:
            table.checkout(version)
            if _error(store, table, column) is None:
                return int(version)
    return None


def _error(store: Store, table: Any, column: str) -> LibraryError | None:
    """What comes of reading a table."""
    try:
        with store.errors():
            table.search().select([column]).to_arrow()
    except LibraryError as error:
        return error
    return None
