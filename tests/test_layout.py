"""Tests mirror the package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WITHOUT_TESTS = {
    "cli/common.py": "options of several commands, tested with each of them",
    "demo/scenes.py": "what is drawn is tested in test_benchmark",
    "demo/sentences.py": "what is written is tested in test_benchmark",
    "demo/page.py": "the page is tested in test_story",
    "engines.py": "both are tested through the predictor",
    "answer.py": "tested through the predictor and the command",
    "answering.py": "tested through the predictor",
    "export/copying.py": "a half of test_clips",
    "export/encoding.py": "the other half",
    "export/reading.py": "what both of them read",
    "export/words.py": "what test_tables and test_subtitles read",
    "features/encoders/networks.py": "parts of several encoders, tested with each of them",
    "model/clip_head.py": "three linear layers, tested with their loss in test_losses",
    "retrieval/scorer.py": "a record and an interface, spoken in test_run",
    "ready.py": "tested through the predictor",
    "types.py": "records only",
    "web/app.py": "tested through the requests of test_api, test_jobs and test_security",
    "web/documents.py": "records only",
    "web/downloads.py": "what test_api takes away",
    "web/refusals.py": "names only",
}
"""Files that have no test file of their own, and why."""


def test_every_file_has_a_test_file_or_a_reason() -> None:
    package = ROOT / "src" / "mrnet"
    files = {path.relative_to(package) for path in package.rglob("*.py") if not path.name.startswith("__")}
    untested = {str(file) for file in files if not (ROOT / "tests" / file.parent / f"test_{file.name}").is_file()}
    assert sorted(untested) == sorted(WITHOUT_TESTS)
