"""The registry of backbones."""

import subprocess
import sys

import pytest

from mrnet.errors import ConfigError
from mrnet.features.backbones import text_backbone, video_backbone


def test_video_backbone() -> None:
    backbone = video_backbone("color-hog-motion")
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
    backbone = text_backbone("hashed-words")
    assert (backbone.name, backbone.dim) == ("hashed-words", 512)
    assert backbone.encode(["a red circle"]).shape == (1, 512)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError) as video:
        video_backbone("hashed-words")
    assert str(video.value) == 'no video backbone is named "hashed-words"; use one of: color-hog-motion'
    with pytest.raises(ConfigError) as text:
        text_backbone("bert")
    assert str(text.value) == 'no text backbone is named "bert"; use one of: hashed-words'


def test_modules_are_imported_on_first_use() -> None:
    program = "import sys, mrnet.features.backbones; print([m for m in ('av', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
