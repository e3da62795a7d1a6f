"""How times and scores read."""

from textwrap import shorten
from typing import Literal

from mrnet.errors import visible
from mrnet.types import Moment

ScoreName = Literal["probability", "score"]
"""What the scores of moments are: probabilities once they are calibrated, else on a scale of their own."""

_WORDS_SHOWN = 80


def clock(time_s: float, decimals: int = 0) -> str:
    """``"0:02:24"``, or ``"0:02:24.5"`` with a decimal."""
    units = round(time_s * 10**decimals)
    whole, rest = divmod(units, 10**decimals)
    text = f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{text}.{rest:0{decimals}d}" if decimals else text


def score(moment: Moment, name: ScoreName) -> str:
    """``"82%"`` for a probability, ``"0.82"`` for a score; ``"said"`` where the moment was, of which none is known."""
    if moment.source == "said":
        return "said"
    return f"{moment.score:.0%}" if name == "probability" else f"{moment.score:.2f}"


def said(moment: Moment) -> str:
    """The start of what is said in a moment, as the end of its line: ``'  "Look at that dog!"'``; else nothing."""
    return f'  "{visible(shorten(moment.words, _WORDS_SHOWN, placeholder=" ..."))}"' if moment.words else ""
