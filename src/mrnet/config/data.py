"""Where annotations and features are."""

import os
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mrnet.config.section import Fraction, Section
from mrnet.provenance import portable_name
from mrnet.types import QueryKind


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


def _can_name_a_file(text: str) -> str:
    try:
        is_name = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half a character
        is_name = False
    if not is_name:
        raise ValueError("no file can have this name")
    return text


Name = Annotated[str, AfterValidator(_can_name_a_file)]
Files = Annotated[list[Name], BeforeValidator(_as_list)]


class DataConfig(Section):
    """Where annotations and features are. Paths are relative to the working directory."""

    train: Files = Field([], description="annotations to train on: a file, or several read as one")
    val: Files = Field([], description="annotations to select a checkpoint on; none holds some of train out")
    test: Files = Field([], description="annotations to report on")
    val_fraction: Fraction = Field(
        0.1,
        description="training videos held out where val is none, as a fraction; 0 holds none out, scores nothing while "
        "training, and keeps the last epoch",
    )
    video_features: Name | None = Field(None, description="feature store, or folder of videos to encode")
    query_kinds: list[QueryKind] = Field(
        default=["text"],
        min_length=1,
        description="text, speech, or both, for one model that takes either: features of text then fill the first "
        "columns of model.query_dim, those of speech the last",
    )
    text_features: Name | None = Field(
        None,
        description="of text queries: feature store keyed by the stem of the audio name or by qid; none encodes "
        "the sentences",
    )
    speech_features: Name | None = Field(
        None,
        description="of speech queries: feature store keyed by the stem of the audio name, or folder of sound files "
        "to encode",
    )
    video_backbone: Name = Field("color-hog-motion", description="encoder of raw videos")
    text_backbone: Name = Field("hashed-words", description="encoder of sentences")
    speech_backbone: Name = Field("speech-embedding", description="encoder of sound files")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.query_kinds)) < len(self.query_kinds):
            raise ValueError(f"query_kinds {self.query_kinds} names a kind twice")
        return self

    def without_paths(self) -> "DataConfig":
        """What may be passed on: kinds, backbones by their portable names, and no place on anyone's disk."""
        backbones = {key: portable_name(getattr(self, key)) for key in BACKBONE_FIELDS}
        return DataConfig(val_fraction=self.val_fraction, query_kinds=self.query_kinds, **backbones)


PATH_FIELDS = ("train", "val", "test", "video_features", "text_features", "speech_features")
"""Fields of :class:`DataConfig` that hold paths."""

BACKBONE_FIELDS = ("video_backbone", "text_backbone", "speech_backbone")
"""Fields of :class:`DataConfig` that name encoders."""
