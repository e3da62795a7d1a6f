"""What may be told of an encoder, and when two are the same."""

import pytest

from mrnet.provenance import Projection, Provenance, portable_name

PCA = Projection(sha256="0" * 64, dim=4096, fitted_on="all videos")
WEIGHTS = "sha256:0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "portable"),
    [
        ("color-hog-motion", "color-hog-motion"),
        ("c3d", "c3d"),
        ("hf:gpt2", "hf:gpt2"),
        ("hf:openai/clip-vit-base-patch32", "hf:openai/clip-vit-base-patch32"),
        ("hf:openai/clip@0123abc", "hf:openai/clip@0123abc"),
        ("hf:/home/ann/models/clip", "hf:clip"),
        ("hf:/home/ann/models/clip/", "hf:clip"),
        ("hf:/clip", "hf:clip"),
        ("hf:./clip", "hf:clip"),
        ("hf:../ann/clip", "hf:clip"),
        ("hf:~/clip", "hf:clip"),
        ("hf:work/ann/clip", "hf:clip"),
        ("st:/home/ann/minilm", "st:minilm"),
        ("glove:/home/ann/glove.6B.300d.txt", "glove:glove.6B.300d.txt"),
        ("glove:vectors/glove.txt", "glove:glove.txt"),  # a file always, never an id
        ("glove:glove.txt", "glove:glove.txt"),
    ],
)
def test_portable_name(name: str, portable: str) -> None:
    assert portable_name(name) == portable
    assert portable_name(portable) == portable
    assert Provenance(backbone=name, dim=3).backbone == portable


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"libraries": {"torch": "2.9"}, "details": {"crop": "112"}, "rows_per_s": 2.0}, True),
        ({"backbone": "other"}, False),
        ({"revision": "2"}, False),
        ({"projection": PCA}, False),
    ],
)
def test_same_encoder(changes: dict[str, object], same: bool) -> None:
    one = Provenance(backbone="c3d", dim=500, revision="1")
    other = one.model_copy(update=changes)
    assert one.same_encoder(other) is other.same_encoder(one) is same


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"backbone": "hf:other"}, True),  # a folder by another name
        ({"backbone": "hf:other", "revision": "sha256:fedcba9876543210"}, False),
        ({"revision": "sha256:fedcba9876543210"}, False),
        ({"backbone": "hf:other", "projection": PCA}, False),
    ],
)
def test_weights_known_by_their_content_are_the_same_wherever_they_lie(
    changes: dict[str, object], same: bool
) -> None:
    one = Provenance(backbone="hf:clip", dim=512, revision=WEIGHTS)
    other = one.model_copy(update=changes)
    assert one.same_encoder(other) is other.same_encoder(one) is same


@pytest.mark.parametrize(
    ("provenance", "label"),
    [
        (Provenance(backbone="c3d", dim=500), "'c3d'"),
        (Provenance(backbone="hf:/home/ann/clip", dim=512, revision=WEIGHTS), f"'hf:clip' revision {WEIGHTS}"),
        (
            Provenance(backbone="c3d", dim=500, revision="1", projection=PCA),
            "'c3d' revision 1 reduced to 500 by PCA 00000000",
        ),
    ],
)
def test_label(provenance: Provenance, label: str) -> None:
    assert provenance.label == label
