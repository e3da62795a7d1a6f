"""Errors written for the person who must mend them.

Every message says what was found, where, and what to do about it. The command line prints
it on one line and exits with status 2; library users catch :class:`MRNetError`.
"""

import re
import reprlib


class MRNetError(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(MRNetError):
    """A configuration key is unknown, out of range or inconsistent with another."""


class OutputError(MRNetError):
    """A file or folder cannot be written, or is taken."""


class DataError(MRNetError):
    """An annotation or prediction file is missing, malformed or inconsistent."""


class FeatureError(MRNetError):
    """A feature file is missing, unreadable, or holds something other than rows of features."""


class FeatureShapeError(FeatureError):
    """Features have a width, or come from a backbone, that the model was not made for."""


class VideoError(MRNetError):
    """A video file is missing or will not decode."""


class VideoCutOffError(VideoError):
    """A video ends before its time; all of its frames that are there were given before."""


class AudioError(MRNetError):
    """A sound file is missing, holds no sound or will not decode."""


class LibraryError(MRNetError):
    """A library of videos is missing, is of another encoder or version, or cannot be read or written."""


class CheckpointError(MRNetError):
    """A checkpoint is missing, incomplete, unsafe to load or does not fit its configuration."""


class TrainingError(MRNetError):
    """Training cannot go on; the last good checkpoint is kept."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left; torch says so in a ``RuntimeError``, for want of another.

    oneDNN, which computes torch's convolutions, says no more than that it could not create its primitive; Python, no
    more than that it cannot start a thread, or that a module's file cannot be mapped.
    """
    words = (
        "can't allocate memory",
        "Cannot allocate memory",
        "not enough memory",
        "out of memory",
        "std::bad_alloc",
        "could not create a primitive",
        "can't start new thread",
        "failed to map segment",
    )
    told = isinstance(error, RuntimeError | ImportError) and any(some in str(error) for some in words)
    return told or isinstance(error, MemoryError)


def one_line(text: object) -> str:
    """A text, or an error's message, without line breaks and with single spaces."""
    return " ".join(str(text).split())


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxlist, _BRIEF.maxtuple, _BRIEF.maxdict = 3, 12, 12, 6
_BRIEF.maxlong, _BRIEF.maxstring, _BRIEF.maxother = 40, 100, 60


def brief(value: object) -> str:
    """A value as Python writes it, shortened to fit the line of a message."""
    return one_line(_BRIEF.repr(value))


_LONGEST_LINE = 1000  # letters


def in_a_line(text: str) -> str:
    """A message on one line of bearable length, whatever it quotes: of a longer one, start and end."""
    line = visible(one_line(text))
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 300]} … {line[-300:]}"


_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, ends of lines, and what turns the direction of writing."""


def visible(text: object) -> str:
    r"""A name or a text of a stranger's, to be shown: what would steer a terminal stands as an escape, ``\x1b``."""
    return _STEERING.sub(lambda letter: letter[0].encode("unicode_escape").decode(), str(text))
