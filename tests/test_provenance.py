"""Which features mean the same, and what they are called in messages."""

import pytest
from pydantic import ValidationError

from mrnet.provenance import Projection, Provenance

PCA = Projection(sha256="0123456789abcdef", dim=9, fitted_on="training videos")
EYES = Provenance(backbone="hf:eyes", dim=3, revision="sha256:0123")


def test_weights_known_by_their_content_are_the_same_by_any_name() -> None:
    assert EYES.same_encoder(EYES.model_copy(update={"backbone": "hf:moved", "libraries": {"av": "19"}}))
    assert not EYES.same_encoder(EYES.model_copy(update={"revision": "sha256:4567"}))
    assert not EYES.same_encoder(EYES.model_copy(update={"projection": PCA}))


def test_encoders_without_weights_are_known_by_name_and_revision() -> None:
    hog = Provenance(backbone="color-hog-motion", dim=3, revision="1")
    assert hog.same_encoder(hog.model_copy(update={"dim": 4}))
    assert not hog.same_encoder(hog.model_copy(update={"backbone": "c3d"}))
    assert not hog.same_encoder(hog.model_copy(update={"revision": "2"}))


def test_label() -> None:
    assert Provenance(backbone="c3d", dim=500).label == "'c3d'"
    assert EYES.label == "'hf:eyes' revision sha256:0123"
    assert EYES.model_copy(update={"projection": PCA}).label == (
        "'hf:eyes' revision sha256:0123 reduced to 3 by PCA 01234567"
    )


def test_fields_that_are_unknown_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Provenance.model_validate({"backbone": "c3d", "dim": 1, "path": "/home/x"})
