"""What sections of the configuration are made of: a base that takes known keys alone, and numbers within bounds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from mrnet.types import LONGEST_S


def whole_number(least: int, most: int) -> FieldInfo:
    """Of whole numbers within bounds far from what anyone has trained with: no file of a few letters may ask for more
    than a machine has."""
    return Field(ge=least, le=most, strict=True)  # type: ignore[no-any-return]


Count = Annotated[int, whole_number(1, 1_000_000)]
Natural = Annotated[int, whole_number(0, 1_000_000)]
Width = Annotated[int, whole_number(1, 65_536)]
Clips = Annotated[int, whole_number(1, 1024)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]


class Section(BaseModel):
    """Settings that belong together: unknown keys are refused, and values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
