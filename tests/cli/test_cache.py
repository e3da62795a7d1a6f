"""``mrnet cache``"""

import re
from pathlib import Path

import numpy as np
import pytest

from mrnet.features.cache import FOLDER_VARIABLE, FeatureCache
from mrnet.provenance import Provenance
from tests.cli.conftest import Command


def test_list_and_clear(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "kept")
    assert command("cache") == (0, "0 kept, 0.0 MB in kept\n", "")
    Path("a.mp4").write_bytes(b"a film")
    eyes = Provenance(backbone="eyes", dim=3, rows_per_s=2.0)
    FeatureCache().put(Path("a.mp4"), eyes, np.zeros((100_000, 3), np.float32))
    lines = command("cache")[1].splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d       1\.1 MB  eyes  a\.mp4", lines[0])
    assert lines[1] == "1 kept, 1.1 MB in kept"
    assert command("cache", "--clear") == (0, "1 removed from kept\n", "")
    assert list(Path("kept").iterdir()) == []
