"""The page's own files: they parse, fit together, and need nothing from elsewhere."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

from mrnet.web.app import STATIC

SCRIPTS = sorted((STATIC / "js").glob("*.js"))
PAGES = sorted(STATIC.glob("*.html"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in STATIC.rglob("*") if path.is_file()}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path, tmp_path: Path) -> None:
    """By the node that comes with Playwright; as modules, which a file ending in .mjs is."""
    (tmp_path / "module.mjs").write_text(TEXTS[script.name], encoding="utf-8")
    node = compute_driver_executable()[0]
    checked = subprocess.run(
        [node, "--check", tmp_path / "module.mjs"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_a_script_that_does_not_parse_is_told(tmp_path: Path) -> None:
    (tmp_path / "module.mjs").write_text("const x = ;", encoding="utf-8")
    node = compute_driver_executable()[0]
    assert subprocess.run([node, "--check", tmp_path / "module.mjs"], capture_output=True, check=False).returncode


@pytest.mark.skipif(shutil.which("tsc") is None, reason="there is no TypeScript; npm install -g typescript")
def test_types_hold() -> None:
    """The types in the scripts' comments, as strictly as TypeScript checks them."""
    project = Path(__file__).with_name("jsconfig.json")
    checked = subprocess.run(["tsc", "-p", project], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_nothing_comes_from_elsewhere() -> None:
    allowed = {"http://www.w3.org/2000/svg"}
    found = {
        url for text in TEXTS.values() for url in re.findall(r"""(?:https?:)?//[\w.-]+\.\w+[^\s"'`)>]*""", text)
    }
    assert found == allowed


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r'(?:href|src)="/static/([^"#]+)', TEXTS[page.name])
    assert len(named) > 3
    assert [name for name in named if not (STATIC / name).is_file()] == []
    assert 'style="' not in TEXTS[page.name]  # which the content security policy would drop
    assert "<script>" not in TEXTS[page.name]


def test_imports_are_exported() -> None:
    missing, count = [], 0
    for script in SCRIPTS:
        for names, source in re.findall(
            r'^import \{([^}]*)\} from "\./([^"]+)";', TEXTS[script.name], re.MULTILINE
        ):
            exported = re.findall(
                r"^export (?:async )?(?:function|class|const) (\w+)", TEXTS[source], re.MULTILINE
            )
            count += 1
            missing += [f"{source}: {name}" for name in re.findall(r"\w+", names) if name not in exported]
    assert count > 10
    assert missing == []


def test_elements_that_scripts_ask_for_are_on_the_page() -> None:
    asked = {name: re.findall(r'byId\("([\w-]+)"', TEXTS[path.name]) for path in SCRIPTS for name in [path.name]}
    for script, names in asked.items():
        page = TEXTS["docs.html" if script == "docs.js" else "index.html"]
        assert [name for name in names if f'id="{name}"' not in page] == [], script


def test_icons_are_drawn() -> None:
    drawn = set(re.findall(r'<symbol id="(\w+)"', TEXTS["icon.svg"]))
    asked = [use for text in TEXTS.values() for use in re.findall(r"icon\(([^)]*)\)", text)]
    shown = {name for use in asked for name in re.findall(r'"(\w+)"', use)}
    shown |= {name for text in TEXTS.values() for name in re.findall(r"icon\.svg#(\w+)", text)}
    assert shown == drawn
