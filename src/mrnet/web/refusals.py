"""Why a request is refused, each with its HTTP status."""

from typing import ClassVar

from mrnet.errors import MRNetError


class Refused(MRNetError):  # noqa: N818 - a refusal is the answer to a request
    """A request that is understood and not granted; the message is for the person who sent it."""

    status: ClassVar[int] = 400


class NotFound(Refused):
    """Nothing has this id."""

    status = 404


class TooLarge(Refused):
    """Larger or longer than is taken, or there is no room left."""

    status = 413


class WrongType(Refused):
    """The content is none of the types that are taken."""

    status = 415


class NotReady(Refused):
    """The job has no answer yet, or never will."""

    status = 409


class Busy(Refused):
    """Too much is waiting already: to be asked again later.

    Args:
        message: what is waited for.
        retry_after_s: when, in seconds.
    """

    status = 429

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
