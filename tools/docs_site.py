"""Hooks of ``mkdocs build``: what of the documentation site is made, not written.

Formulas become MathML, which browsers draw without any script. The pages on commands, configuration and API come from
the program itself. Links that lead out of the site become the names of files. Nothing of the site may be fetched from
elsewhere: in a strict build, whatever would be is an error.
"""

import html
import logging
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "mrnet"

_log = logging.getLogger("mkdocs.plugins.docs_site")

_ROOT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
_NO_API = ("__init__.py", "__main__.py", "cli", "recipes", "version.py")  # commands have a page of their own

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_ASSET = re.compile(
    r'<(?:script|img|iframe|source|audio|video|link(?=[^>]*rel="?(?:stylesheet|icon|preload|preconnect)))\b[^>]*?'
    r'\b(?:src|href)="?((?:https?:)?//[^"\s>]+)'
    r'|(?:url\(\s*["\']?|@import\s+["\'])((?:https?:)?//[^"\')\s]+)'
)


def on_config(config: MkDocsConfig) -> None:
    """Puts the pages on the rooms of the package behind those that are written."""
    assert config.nav is not None
    config.nav.append({"API": [{room: f"api/{room}.md"} for room in rooms()]})


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages that are made, and those of the repository's top."""
    sys.path.insert(0, str(PACKAGE.parent))
    made = {name: (ROOT / name).read_text(encoding="utf-8") for name in _ROOT_PAGES}
    made |= {"commands.md": commands_page(), "configuration.md": configuration_page()}
    made |= {f"api/{room}.md": api_page(room, modules) for room, modules in rooms().items()}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leads links where their pages are in the site; those that have none in it are no links."""
    path = page.file.src_uri
    if page.file.generated_by is not None and path not in _ROOT_PAGES:
        return markdown
    return lead_links(markdown, path if path in _ROOT_PAGES else f"docs/{path}")


def on_page_content(content: str, page: Page, **_: Any) -> str:
    """Formulas as MathML."""

    def replace(match: re.Match[str]) -> str:
        made = mathml(html.unescape(match[2]), block=match[1] == "div")
        if re.search(r"\\|>&<", made):
            _log.warning("%s: not all of a formula is known: %s", page.file.src_uri, match[2].strip())
        return made

    return _FORMULA.sub(replace, content)


def on_post_build(config: MkDocsConfig) -> None:
    """Warns, which ends a strict build, of what a browser would fetch from elsewhere."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css", ".svg"):
            for address in outside(path.read_text(encoding="utf-8")):
                _log.warning("%s fetches %s: put it into the site", path.relative_to(config.site_dir), address)


def mathml(formula: str, *, block: bool) -> str:
    """A formula of LaTeX as MathML; what the converter knows by other names is given by these."""
    formula = re.sub(r"\\mathcal (\w)", r"\\mathcal{\1}", formula.strip())
    formula = formula.replace(r"\mathbb 1", "\U0001d7d9").replace("{aligned}", "{split}")
    made: str = convert(formula, display="block" if block else "inline")
    return f'<div class="formula">{made}</div>' if block else made


def outside(text: str) -> list[str]:
    """Addresses that a page or a style sheet would have a browser fetch, not those that it merely links to."""
    return [match[1] or match[2] for match in _ASSET.finditer(text)]


def lead_links(markdown: str, path: str) -> str:
    """A page of the repository with its links as they are in the site.

    Args:
        markdown: the page.
        path: where it lies in the repository, ``docs/find.md``.
    """
    here = posixpath.dirname(path.removeprefix("docs/"))

    def lead(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if found in _ROOT_PAGES or found.startswith("docs/"):
            return f"[{text}]({posixpath.relpath(found.removeprefix('docs/'), here or '.')}{anchor})"
        return text

    return _LINK.sub(lead, markdown)


def commands_page() -> str:
    """Every command with what its ``--help`` prints."""
    from mrnet.cli import build_parser

    lines = ["# Commands", "", "What `--help` prints, made from the program at every build of these pages.", ""]
    with patch.dict("os.environ", COLUMNS="88"):
        for parser in _parsers(build_parser()):
            lines += [f"## {parser.prog}", "", "```text", parser.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _parsers(parser: Any) -> Iterator[Any]:
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):  # its commands
            for command in action.choices.values():
                yield from _parsers(command)


def configuration_page() -> str:
    """Every field of the configuration with its default and its description, and the fields of every recipe."""
    from mrnet.cli.config import described
    from mrnet.config.recipes import recipe_names

    lines = ["# Configuration", "", "What `mrnet config` prints; any field can be set, `--set train.lr=1e-4`.", ""]
    section = ""
    for key, default, description in described():
        if key.partition(".")[0] != section and "." in key:
            section = key.partition(".")[0]
            lines += ["", f"## {section}", "", "| field | default | |", "| --- | --- | --- |"]
        elif not section and not lines[-1].startswith("|"):
            lines += ["| field | default | |", "| --- | --- | --- |"]
        cells = (f"`{key}`", f"`{default}`" if default else "", description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Recipes", "", "Each is the fields that it sets; the rest have their defaults.", ""]
    for name in recipe_names():
        recipe = (PACKAGE / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        lines += [f"### {name}", "", "```yaml", recipe.rstrip(), "```", ""]
    return "\n".join(lines)


def rooms() -> dict[str, list[str]]:
    """Rooms of the package and their modules, by dotted name."""
    found = {}
    for path in sorted(PACKAGE.iterdir()):
        if path.name not in _NO_API and not path.name.startswith("__") and (path.is_dir() or path.suffix == ".py"):
            files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
            names = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files]
            found[path.stem] = [name.removesuffix(".__init__") for name in names]
    return found


def api_page(room: str, modules: list[str]) -> str:
    """What mkdocstrings fills in from the docstrings of a room."""
    return "\n".join([f"# {room}", "", *(f"::: {module}\n" for module in modules)])
