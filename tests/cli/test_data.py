"""``mrnet data check``"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.features.store.writer import write_store
from mrnet.provenance import Provenance
from tests.cli.conftest import Command


class TestDataCheck:
    def write(self, record: dict[str, Any]) -> None:
        Path("a.json").write_text(json.dumps({"v": record}))
        write_store(
            Path("f.h5"), [("v", np.ones((3, 4), np.float32))], Provenance(backbone="x", dim=4, rows_per_s=1)
        )

    def test_sound(self, command: Command) -> None:
        self.write({"duration": 3, "timestamps": [[0, 1]], "sentences": ["a dog"]})
        assert command("data", "check", "a.json", "--features", "f.h5", "--dim", "4") == (
            0,
            "1 video, 1 query, features of 1\nno problems found\n",
            "",
        )

    def test_faults(self, command: Command) -> None:
        self.write({"duration": 3, "timestamps": [[0, 1]], "sentences": ["  "]})
        status, out, err = command("data", "check", "a.json", "--features", "f.h5", "--dim", "5")
        assert (status, err) == (1, "")
        assert "error: empty sentence: 1\n" in out
        assert 'error: wrong width: 1\n    "v" has rows of width 4; 5 was asked for\n' in out
        assert out.endswith("2 kinds of error\n")

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["b.json"], "b.json: cannot be read (No such file or directory); give the annotation file"),
            (["."], '.: unknown format ""; name it .json, .jsonl, .csv, .txt, .vtt, .eaf'),
            (
                ["cut.json"],
                "cut.json: line 1, column 2: not JSON (Expecting property name enclosed in double quotes); get a "
                "whole copy, or name the file .jsonl if every line is an object of its own",
            ),
            (
                ["a.json", "--features", "b.h5"],
                "b.h5: no such file or folder; give the path of the features",
            ),
            (
                ["a.json", "--features", "cut.json"],
                "cut.json: not an HDF5 file; copy or extract the features again",
            ),
        ],
    )
    def test_refuses(self, command: Command, words: list[str], message: str) -> None:
        self.write({"duration": 3, "timestamps": [[0, 1]], "sentences": ["a dog"]})
        Path("cut.json").write_text("{")
        assert command.refuses("data", "check", *words) == f"mrnet: error: {message}"
