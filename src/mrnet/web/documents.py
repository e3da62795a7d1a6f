"""What goes into the API, and what comes out of it: answers are those of `mrnet find --json`."""

from datetime import date
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from mrnet.answer import AnswerJson
from mrnet.types import QueryKind
from mrnet.web.jobs import JOB_ID
from mrnet.web.records import State
from mrnet.web.uploads import VIDEO_ID

MOST_MOMENTS = 100
"""Moments that may be asked for."""

VideoId = Annotated[str, Path(pattern=VIDEO_ID, description="id of a video")]
JobId = Annotated[str, Path(pattern=JOB_ID, description="id of a question")]
Count = Annotated[
    int | None,
    Field(ge=1, le=MOST_MOMENTS, description="how many moments; null: every one that is likely enough"),
]


class VideoOut(BaseModel):
    """A video that was uploaded, or opened out of a library."""

    id: str = Field(description="of its content: of an upload, its SHA-256")
    name: str
    duration_s: float
    width: int
    height: int
    num_bytes: int


class Question(BaseModel):
    """What to look for in a video."""

    model_config = ConfigDict(extra="forbid")

    video: str = Field(pattern=VIDEO_ID)
    query: str = Field(min_length=1, max_length=1000, description="a sentence; in quotes, for words that are said")
    k: Count = 5


class JobOut(BaseModel):
    """A question, how far it has come, and its answer: the document that `mrnet find --json` prints."""

    id: str
    video: str
    query: str
    kind: QueryKind
    state: State
    ahead: int = Field(description="questions that come before it")
    share: float | None = Field(description="of the video that is encoded, from 0 to 1, while that is under way")
    error: str
    answer: AnswerJson | None
    curve: list[tuple[float, float]] = Field(description="time in seconds, and how well it fits")
    none_here: bool = Field(description="whether the person says that none of the moments is meant")


class Feedback(BaseModel):
    """What the person says of an answer."""

    model_config = ConfigDict(extra="forbid")

    none_here: bool


class LibraryVideoOut(BaseModel):
    """A video of the library."""

    id: str
    path: str
    name: str
    duration_s: float
    modified_s: float = Field(description="when the file was last modified, in seconds since 1970")


class SearchQuestion(BaseModel):
    """What to look for in the library."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=1000)
    k: int = Field(10, ge=1, le=MOST_MOMENTS)
    folder: str | None = Field(None, max_length=4096, description="one that videos of the library lie below")
    name: str | None = Field(None, max_length=255, description="of the files; * and ? stand for any letters")
    since: date | None = None
    until: date | None = None


class About(BaseModel):
    """What this server does."""

    version: str
    answered_by: str
    hears: bool = Field(description="whether queries may be spoken")
    hears_not: str = Field(description="what to do about it where they may not")
    has_library: bool
    most_upload_bytes: int
    most_duration_s: float


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str
