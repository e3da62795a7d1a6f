"""The pages on how to add something, done as they say in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrnet.features.store.reader import open_store
from mrnet.media.video import write_video

ROOT = Path(__file__).resolve().parents[2]


class Clone:
    """A copy of the package, changed by what a page shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))

    def write(self, page: str) -> None:
        """Writes the new files that a page shows, whatever they are."""
        shown = _shown(page)
        assert shown
        for title, code in shown:
            if not (ROOT / title).exists():
                (self.folder / title).write_text(code, encoding="utf-8")

    def insert(self, page: str, line: str, *, number: int = 0, before: bool = False) -> None:
        """Puts what a page shows of a file that exists beside a line of it, the ``number``-th of such pieces."""
        title, code = [piece for piece in _shown(page) if (ROOT / piece[0]).exists()][number]
        path = self.folder / title
        text = path.read_text(encoding="utf-8")
        assert text.count(line) == 1
        path.write_text(text.replace(line, code + line if before else line + code), encoding="utf-8")

    def mrnet(self, *words: str) -> str:
        """What the changed package prints; it must end well."""
        return self._run("-m", "mrnet", *words)

    def python(self, code: str) -> str:
        return self._run("-c", code)

    def _run(self, *words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _shown(page: str) -> list[tuple[str, str]]:
    """Files, or parts of files, that a page shows: name and text."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```\w+ title=\"([^\"]+)\"\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    (tmp_path / "videos").mkdir()
    for name, color in {"a": (255, 0, 0), "b": (0, 0, 255)}.items():
        frame = np.full((48, 64, 3), color, np.uint8)
        write_video(tmp_path / "videos" / f"{name}.mp4", [frame] * 30, fps=5)
    return Clone(tmp_path)


def test_an_encoder(clone: Clone) -> None:
    clone.write("add-encoder.md")
    clone.insert("add-encoder.md", "REGISTRY = (\n")
    line = next(line for line in clone.mrnet("backbones").splitlines() if "mean-color" in line)
    assert re.split(r" {2,}", line) == [
        "video", "mean-color", "3", "2", "MIT", "-", "yes", "classical: mean colour; no weights",
    ]  # fmt: skip
    clone.mrnet("features", "video", "videos/", "--backbone", "mean-color", "--out", "features.h5")
    store = open_store(clone.folder / "features.h5")
    assert store.provenance is not None
    assert (store.provenance.backbone, store.provenance.rows_per_s) == ("mean-color", 2.0)
    assert store.read("a").shape == (12, 3)
    np.testing.assert_allclose(store.read("a"), [[1, 0, 0]] * 12, atol=0.05)
    np.testing.assert_allclose(store.read("b"), [[0, 0, 1]] * 12, atol=0.05)


def test_a_format(clone: Clone) -> None:
    clone.write("add-format.md")
    table = "PARSERS: dict[str, Callable[[str, Path, Sink], Iterator[Row]]] = {\n"
    clone.insert("add-format.md", table, number=1)
    clone.insert("add-format.md", table, before=True)
    assert "no problems found" in clone.mrnet("data", "check", "moments.tsv", "--features", "videos/")
    read = (
        "import json; from pathlib import Path; from mrnet.data.annotations import read_annotations\n"
        "records = read_annotations(Path('moments.tsv'), durations=lambda _: 6.0)\n"
        "print(json.dumps([[r.video_id, r.queries[0].text, r.queries[0].moments] for r in records]))"
    )
    assert json.loads(clone.python(read)) == [
        ["a", "the triangle is blue", [[0.5, 3.0]]],
        ["b", "a red circle rises", [[2.0, 5.5]]],
    ]
    (clone.folder / "moments.tsv").write_text("a.mp4 0.5-3.0\n", encoding="utf-8")
    refused = clone.python(
        "from pathlib import Path; from mrnet.errors import DataError\n"
        "from mrnet.data.annotations import read_annotations\n"
        "try: read_annotations(Path('moments.tsv'))\n"
        "except DataError as error: print(error)"
    )
    assert refused == (
        'moments.tsv: line 1: is "a.mp4 0.5-3.0"; it should be video, start-end and sentence, with tabs between '
        "them\n"
    )


def test_a_scorer(clone: Clone) -> None:
    """The rest of the page is run as every page is (test_readme)."""
    clone.write("add-scorer.md")
    page = (ROOT / "docs" / "add-scorer.md").read_text(encoding="utf-8")
    example = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)[0]
    printed = clone.python(example)
    assert printed == "Moment(start_s=10.0, end_s=14.0, score=1.0, source='seen', words='')\n"
