"""The registry of backbones."""

import subprocess
import sys

import numpy as np
import pytest

from mrnet.errors import ConfigError
from mrnet.features.backbone import encode_sources, join_rows
from mrnet.features.registry import make_backbone


def test_video_backbone() -> None:
    backbone = make_backbone("video", "color-hog-motion")
    assert (backbone.name, backbone.dim, backbone.rate) == ("color-hog-motion", 492, 2.0)
    provenance = backbone.provenance()
    assert (provenance.backbone, provenance.dim, provenance.rows_per_s, provenance.revision) == (
        "color-hog-motion",
        492,
        2.0,
        backbone.revision,
    )
    assert provenance.details["frame_size"] == "128x96"


def test_text_backbone() -> None:
    backbone = make_backbone("text", "hashed-words")
    assert (backbone.name, backbone.dim) == ("hashed-words", 512)
    one, two = encode_sources(backbone, ["a red circle", "a"])
    assert one.shape == two.shape == (1, 512)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError) as video:
        make_backbone("video", "hashed-words")
    assert str(video.value).startswith(
        'no video backbone is named "hashed-words"; use one of: color-hog-motion, hf:MODEL'
    )
    with pytest.raises(ConfigError) as text:
        make_backbone("text", "bert")
    assert str(text.value) == (
        'no text backbone is named "bert"; use one of: hashed-words, hf:MODEL, st:MODEL, minilm-l6-v2, glove:MODEL'
    )


def test_modules_are_imported_on_first_use() -> None:
    program = "import sys, mrnet.features.registry; print([m for m in ('av', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_the_rate_of_a_fixed_backbone_cannot_be_chosen() -> None:
    assert make_backbone("video", "color-hog-motion", rate=2.0).rate == 2.0
    with pytest.raises(
        ConfigError, match=r"^the rate of color-hog-motion cannot be chosen: it gives 2 rows a second$"
    ):
        make_backbone("video", "color-hog-motion", rate=1.0)


def test_rows_of_a_video_follow_each_other_and_those_of_a_query_are_averaged() -> None:
    parts = [np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[5.0, 9.0]], np.float32)]
    assert join_rows("video", parts).tolist() == [[1, 2], [3, 4], [5, 9]]
    assert join_rows("speech", parts).tolist() == [[3, 5]]
