"""Tools for a program that talks to a language model: the Model Context Protocol, over standard input and output.

They read videos below named folders, and write clips into one named folder, or none. What they give is the JSON of the
command line.
"""

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mrnet.answer import AnswerJson
from mrnet.errors import ConfigError, DataError, MRNetError, one_line
from mrnet.export.clips import cut as cut_clips
from mrnet.features.cache import FeatureCache
from mrnet.library.answer import SearchAnswerJson
from mrnet.library.library import Library
from mrnet.predictor import Predictor
from mrnet.types import Moment
from mrnet.version import __version__

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

P = ParamSpec("P")
R = TypeVar("R")

_INSTRUCTIONS = (
    "Finds the moments in videos that a sentence describes. `find` looks into one video, `search` into a library of "
    'many, `cut` writes moments as clips. Describe what is to be seen ("a dog jumps into the water"), in English; put '
    "words that are said in double quotes inside the query. A moment has a `probability`, or a `score` that ranks the "
    "moments of one answer alone; where `moments` is empty, the query is not in the video, as far as can be told."
)


class Stretch(BaseModel):
    """A moment of a video, as `find` gives it; what else it says is not looked at."""

    model_config = ConfigDict(allow_inf_nan=False)

    start_s: float = Field(ge=0, description="seconds from the start of the video")
    end_s: float = Field(gt=0, description="seconds from the start of the video")


class Tools:
    """What the server does, with paths that are checked.

    Args:
        roots: folders below which files may be read; a path that is not absolute is of the first.
        out: folder that clips are written to; ``None`` cuts none.
        library: where the library of ``search`` lies; ``None`` for the usual place.
    """

    def __init__(self, roots: Sequence[Path], out: Path | None = None, library: str | None = None) -> None:
        self._roots = [root.resolve() for root in roots]
        self._out = out
        self._library = library
        self._predictor: Predictor | None = None
        self._opened: Library | None = None
        self._lock = threading.Lock()

    def find(
        self,
        video: Annotated[str, Field(description="path of a video file")],
        query: Annotated[str, Field(description="a sentence")],
        k: Annotated[int, Field(ge=1, le=100, description="how many moments")] = 5,
    ) -> AnswerJson:
        """Find the moments of one video that a sentence describes, best first."""
        path = self._readable(video)
        return self._ask().find(path, query, k).to_dict()

    def search(
        self,
        query: Annotated[str, Field(description="a sentence")],
        k: Annotated[int, Field(ge=1, le=100, description="how many moments")] = 10,
        folder: Annotated[str, Field(description="search the videos below this folder alone")] = ".",
        name: Annotated[str | None, Field(description="of files of this name alone, e.g. IMG_*.mp4")] = None,
        since: Annotated[
            str | None, Field(description="last modified on this day or later, e.g. 2026-11-26")
        ] = None,
        until: Annotated[str | None, Field(description="last modified on this day or earlier")] = None,
    ) -> SearchAnswerJson:
        """Find the moments that a sentence describes in the videos of a library, which `mrnet index` makes."""
        below = self._readable(folder)
        return self._shelf().search(query, k, folder=below, name=name, since=since, until=until).to_dict()

    def cut(
        self,
        video: Annotated[str, Field(description="path of a video file")],
        moments: Annotated[
            list[Stretch], Field(min_length=1, max_length=100, description="of `find`, best first")
        ],
        exact: Annotated[
            bool, Field(description="encode anew, to start at the very frame and not at the key frame before it")
        ] = False,
    ) -> dict[str, Any]:
        """Write moments of a video, each as a clip of its own, into the folder that the server was started with."""
        if self._out is None:
            raise ConfigError("no folder to write clips to was named: start the server with `mrnet mcp --out DIR`")
        path = self._readable(video)
        for moment in moments:
            if moment.end_s <= moment.start_s:
                raise DataError(
                    f"a moment ends at {moment.end_s} s and starts at {moment.start_s} s: swap the two"
                )
        wanted = [Moment(moment.start_s, moment.end_s, 0.0) for moment in moments]
        clips = cut_clips(path, wanted, self._out, exact=exact)
        return {
            "video": str(path),
            "clips": [
                {"start_s": moment.start_s, "end_s": moment.end_s, "path": str(clip.resolve())}
                for moment, clip in zip(moments, clips, strict=True)
            ],
        }

    def _readable(self, name: str) -> Path:
        """The path that a name means, through links.

        Raises:
            DataError: it leads out of the folders that may be read.
        """
        try:
            path = (self._roots[0] / name).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a null byte, a loop of links
            raise DataError(f"{name!r} is no path ({error}): name a file") from None
        if not any(path.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(map(str, self._roots))
            raise DataError(f"{name}: may not be read, only what lies below {allowed}; see `mrnet mcp --root DIR`")
        return path

    def _shelf(self) -> Library:
        """The library, opened when it is first needed, with its encoders and what it holds in memory."""
        with self._lock:
            if self._opened is None:
                self._opened = Library.open(self._library)
            return self._opened

    def _ask(self) -> Predictor:
        """The predictor, made when it is first needed."""
        with self._lock:
            if self._predictor is None:
                self._predictor = Predictor.auto(cache=FeatureCache())
            return self._predictor


def make_server(tools: Tools) -> "MCPServer[Any]":
    """A server of some tools.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from mcp.server.mcpserver import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
        from mcp.types import ToolAnnotations
    except ImportError:
        raise ConfigError("the server needs mcp: pip install 'mrnet[mcp]'") from None

    def told(tool: Callable[P, R]) -> Callable[P, R]:
        """The tool, whose refusals the client is told in words."""

        @wraps(tool)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return tool(*args, **kwargs)
            except MRNetError as error:
                raise ToolError(one_line(error)) from None

        return call

    server: MCPServer[Any] = MCPServer(
        "mrnet", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    writes = ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    for tool, annotations in ((tools.find, reads), (tools.search, reads), (tools.cut, writes)):
        server.tool(annotations=annotations)(told(tool))
    return server
