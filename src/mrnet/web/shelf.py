"""A library on the page: its videos are known by ids, so that no request names a file."""

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mrnet.errors import DataError
from mrnet.library.answer import SearchAnswerJson
from mrnet.library.library import Library
from mrnet.library.store import Video as IndexedVideo
from mrnet.web.refusals import NotFound


@dataclass(frozen=True)
class Search:
    """What to look for in a library, as of :meth:`mrnet.library.library.Library.search`.

    Attributes:
        query: a sentence.
        k: how many moments.
        folder: one that a video of the library lies below; or ``None``, as for the others.
        name: of the files, with ``*`` and ``?``.
        since, until: days.
    """

    query: str
    k: int
    folder: str | None = None
    name: str | None = None
    since: date | None = None
    until: date | None = None


class Shelf:
    """A library.

    Args:
        library: which.

    Raises:
        LibraryError: there is none yet.
    """

    def __init__(self, library: Library) -> None:
        library.videos()
        self._library = library

    def videos(self) -> list[IndexedVideo]:
        """What is in it, in order of path."""
        return self._library.videos()

    def path(self, video_id: str) -> Path:
        """The file of a video.

        Raises:
            NotFound: there is none, or its file has gone.
        """
        found = next((video.path for video in self.videos() if id_of(video.path) == video_id), None)
        if found is None or not Path(found).is_file():
            raise NotFound("there is no such video in the library; bring it up to date with `mrnet index`")
        return Path(found)

    def search(self, asked: Search) -> SearchAnswerJson:
        """The answer of the library.

        Raises:
            DataError: the query cannot be asked, or no video lies below the folder.
            LibraryError: the library cannot be read.
        """
        if asked.folder is not None and asked.folder not in folders(self.videos()):
            raise DataError(f"no video of the library lies below {asked.folder!r}")
        return self._library.search(
            asked.query, asked.k, folder=asked.folder, name=asked.name, since=asked.since, until=asked.until
        ).to_dict()


def id_of(path: str) -> str:
    """What a file of a library is called in requests."""
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()


def folders(videos: list[IndexedVideo]) -> set[str]:
    """Every folder that one of the videos lies below."""
    return {str(parent) for video in videos for parent in Path(video.path).parents}
