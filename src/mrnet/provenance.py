"""How features were made: travels from the feature store into every checkpoint."""

from pathlib import PurePath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

MOST_A_SECOND = 1000.0
"""Rows, or frames, of a video."""

Dim = Annotated[int, Field(ge=1, le=65_536)]
Rate = Annotated[float, Field(gt=0, le=MOST_A_SECOND)]


def portable_name(backbone: str) -> str:
    """The name of a backbone as others may see it: of a local folder or file, ``hf:/home/ann/clip``, its own name
    alone, ``hf:clip``. A hub id stays as it is."""
    family, colon, model = backbone.partition(":")
    path = PurePath(model)
    is_path = family == "glove" or path.is_absolute() or len(path.parts) > 2 or model.startswith((".", "~"))
    return f"{family}:{path.name}" if colon and is_path else backbone


class Projection(BaseModel):
    """A PCA that features went through after their backbone.

    Attributes:
        sha256: of the file with its mean and components.
        dim: width before.
        fitted_on: whose rows it was fitted on, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    dim: Dim
    fitted_on: str


class Provenance(BaseModel):
    """How a set of features was made: travels from the feature store into every checkpoint.

    Attributes:
        backbone: registered name of the encoder, e.g. ``"color-hog-motion"``, or a free name
            for published features, e.g. ``"c3d"``; never with a path of its maker's machine.
        dim: width of a feature row.
        rows_per_s: rows a second of video; ``None`` where unknown or not applicable.
        revision: version of the encoder; ``"sha256:…"`` of its weights where it has any.
        frame_rate: frames a second that the encoder is shown; ``None`` where not applicable.
        frames_per_row: frames that a row is made of. With ``frame_rate`` over ``rows_per_s``, the stride in
            frames, it tells how rows overlap.
        normalisation: what is done to pixels, samples or rows, in words.
        projection: the PCA they went through, if any.
        libraries: package -> version.
        details: anything else worth knowing, as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    dim: Dim
    rows_per_s: Rate | None = None
    revision: str = ""
    frame_rate: Rate | None = None
    frames_per_row: int | None = None
    normalisation: str = ""
    projection: Projection | None = None
    libraries: dict[str, str] = {}
    details: dict[str, str] = {}

    @field_validator("backbone")
    @classmethod
    def _portable(cls, backbone: str) -> str:
        return portable_name(backbone)

    @property
    def label(self) -> str:
        """Backbone, revision and PCA, for messages."""
        revision = f" revision {self.revision}" if self.revision else ""
        pca = "" if self.projection is None else f" reduced to {self.dim} by PCA {self.projection.sha256[:8]}"
        return repr(self.backbone) + revision + pca

    def same_encoder(self, other: "Provenance") -> bool:
        """Whether features of both mean the same.

        Weights that are known by their content are the same wherever they lie: a folder may have moved.
        """
        known = self.revision.startswith("sha256:")
        backbones = known or self.backbone == other.backbone
        return backbones and (self.revision, self.projection) == (other.revision, other.projection)
