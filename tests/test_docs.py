"""What the documents and the docstrings say of each other is there."""

import ast
import re
import string
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mrnet.config.run import RunConfig

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SOURCES = [
    path
    for folder in ("src", "benchmarks", "tools")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".yaml")
]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def headings(path: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", without_code(read(path)), flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = "".join(letter for letter in heading.lower() if letter in "-_ " or letter not in string.punctuation)
    return kept.replace(" ", "-")


def cited_sections(text: str) -> list[str]:
    """Section numbers of method.md that a text cites: "sections 4 to 7", "section 5 and, for the quirk, 11.2"."""
    numbers: list[str] = []
    for match in re.finditer(r"docs/method\.md,? sections? ((?:[^.;()]|\.(?=\d))*)", " ".join(text.split())):
        for first, last in re.findall(r"(\d+(?:\.\d+)?)(?: to (\d+))?", match[1]):
            numbers += [str(number) for number in range(int(first), int(last) + 1)] if last else [first]
    return numbers


def test_citations_are_found() -> None:
    assert cited_sections("Source: docs/method.md,\n    sections 4 to 7.") == ["4", "5", "6", "7"]
    assert cited_sections("(docs/method.md, section 5 and, for the quirk, 11.2. Then 3.") == ["5", "11.2"]
    assert cited_sections("docs/method.md, sections 8 and 9; 3") == ["8", "9"]


def test_sections_that_docstrings_cite_exist() -> None:
    known = {heading.split()[0].rstrip(".") for heading in headings(ROOT / "docs" / "method.md")}
    cited = {path.relative_to(ROOT): cited_sections(read(path)) for path in SOURCES}
    assert sum(map(len, cited.values())) > 30
    assert [(path, number) for path, numbers in cited.items() for number in numbers if number not in known] == []


def test_docstrings_are_markdown() -> None:
    """The site shows the `::` that begins a block of code elsewhere; in Markdown, its indent does."""
    assert [path for path in SOURCES if re.search(r"::[ ]*$", read(path), flags=re.MULTILINE)] == []


def test_method_is_cited_by_section() -> None:
    """No docstring cites the whole of it, nor a text that is not in the project."""
    for path in SOURCES:
        text = " ".join(read(path).split())
        assert text.count("docs/method.md") == len(re.findall(r"docs/method\.md,? sections? \d", text)), path
        assert not re.search(r"\bspec section\b", text), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(read(document)))
    broken = []
    for target in targets:
        if re.match(r"https?://", target):
            continue
        name, _, part = target.partition("#")
        path = document.parent / name if name else document
        if not path.exists() or (part and part not in map(anchor, headings(path))):
            broken.append(target)
    assert broken == []


def test_pages_are_linked() -> None:
    """The README, and the pages that it leads to, lead to every page."""
    reached = todo = {ROOT / "README.md"}
    while todo:
        todo = {
            (path.parent / target).resolve()
            for path in todo
            for target in re.findall(r"\]\(([^)#\s]+\.md)", read(path))
            if not target.startswith("http")
        } - reached
        reached = reached | todo
    assert [path.name for path in DOCUMENTS if path not in reached] == []


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=lambda p: p.name
)
def test_fields_that_are_named_exist(document: Path) -> None:
    sections: dict[str, Any] = {
        name: field.annotation
        for name, field in RunConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    files = "jsonl?|md|py|yaml|safetensors"  # train.json is no field
    named = re.findall(
        rf"(?<![\w./])({'|'.join(sections)})\.(?!(?:{files})\b)([a-z_]+)\b(?![/(.])", read(document)
    )
    assert [f"{name}.{key}" for name, key in named if key not in sections[name].model_fields] == []


def test_modules_moved_to_exist() -> None:
    rows = re.findall(r"^ *\| `mrnet\.[^|]*\|([^|]*)\|$", read(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)
    assert len(rows) > 15
    modules = [module for row in rows for module in re.findall(r"`((?:mrnet|benchmarks)[\w.]*)`", row)]
    assert [module for module in modules if find_spec(module) is None] == []


def test_layers_are_those_that_are_checked() -> None:
    (checked,) = re.findall(r"^layers =\n((?: {4}.*\n)+)", read(ROOT / ".importlinter"), flags=re.MULTILINE)
    (drawn,) = re.findall(r"```text\n(cli\n.*?)```", read(ROOT / "docs" / "design.md"), flags=re.DOTALL)
    assert drawn.splitlines() == [line.strip() for line in checked.splitlines() if line.strip() != "__main__"]


def test_every_room_is_in_the_layout() -> None:
    (table,) = re.findall(
        r"^## Layout\n(.*?)\n\n[^|\n]", read(ROOT / "docs" / "design.md"), flags=re.DOTALL | re.MULTILINE
    )
    package = [path for path in (ROOT / "src" / "mrnet").iterdir() if path.is_dir() or path.suffix == ".py"]
    rooms = [path.name + "/" * path.is_dir() for path in package]
    assert [room for room in rooms if not room.startswith("__") and f"`{room}`" not in table] == []


def _printed(path: Path) -> list[str]:
    """The texts of a source file, "…" in place of what is filled in."""
    found = []
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def test_messages_of_troubleshooting_are_printed() -> None:
    page = read(ROOT / "docs" / "troubleshooting.md")
    messages = re.findall(r"^\*\*`(.*)`\*\*$", page, flags=re.MULTILINE)
    assert len(messages) > 20
    texts = [text for path in SOURCES if path.suffix == ".py" for text in _printed(path)]
    for message in messages:
        pattern = ".*".join(re.escape(part) for part in message.split("…"))
        assert any(re.search(pattern, text, flags=re.DOTALL) for text in texts), message
