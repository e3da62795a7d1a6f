"""What of the documentation site is made."""

import re
from pathlib import Path

import pytest

import docs_site
from docs_roles import Roles
from docs_site import api_page, commands_page, configuration_page, lead_links, mathml, outside, rooms
from mrnet.cli import COMMANDS
from mrnet.config.recipes import recipe_names
from mrnet.config.run import RunConfig

PACKAGE = Path(docs_site.__file__).resolve().parents[1] / "src" / "mrnet"


def test_formulas() -> None:
    made = mathml(r"\gamma^{2}", block=False)
    assert made.startswith('<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">')
    assert "<msup><mi>&#x003B3;</mi><mrow><mn>2</mn></mrow></msup>" in made
    assert mathml("x", block=True).startswith('<div class="formula"><math ')


@pytest.mark.parametrize(
    ("formula", "part"),
    [
        (r"\mathcal N(0, 1)", "&#x1D4A9;"),
        (r"V * \mathbb 1", "\U0001d7d9"),
        (r"\begin{aligned} y &= x \\ z &= y \end{aligned}", "<mtable"),
    ],
)
def test_what_the_converter_knows_by_other_names(formula: str, part: str) -> None:
    made = mathml(formula, block=False)
    assert part in made
    assert ">&<" not in made


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ('<script src="https://cdn.example/a.js">', ["https://cdn.example/a.js"]),
        ('<link rel="stylesheet" href="//fonts.example/css">', ["//fonts.example/css"]),
        ("<link href=https://fonts.example rel=preconnect>", ["https://fonts.example"]),
        ('<img alt="a" src="http://example/a.png">', ["http://example/a.png"]),
        ("a { background: url('https://example/a.png') }", ["https://example/a.png"]),
        ('@import "https://example/a.css";', ["https://example/a.css"]),
        ('<a href="https://example">', []),
        ('<link rel="canonical" href="https://example">', []),
        ('<script src="assets/a.js"><img src="../a.png"><svg xmlns="http://www.w3.org/2000/svg">', []),
    ],
)
def test_what_a_browser_would_fetch_from_elsewhere(text: str, addresses: list[str]) -> None:
    assert outside(text) == addresses


@pytest.mark.parametrize(
    ("path", "link", "led"),
    [
        ("docs/find.md", "[a](real.md#speed)", "[a](real.md#speed)"),
        ("docs/find.md", "[a](#json)", "[a](#json)"),
        ("docs/find.md", "[a](https://example)", "[a](https://example)"),
        ("docs/find.md", "[`types.py`](../src/mrnet/types.py)", "`types.py`"),
        ("docs/index.md", "[a](../CONTRIBUTING.md)", "[a](CONTRIBUTING.md)"),
        ("docs/index.md", "![a](demo.png)", "![a](demo.png)"),
        ("docs/evidence/charades.md", "[a](../method.md)", "[a](../method.md)"),
        ("CONTRIBUTING.md", "[a](docs/design.md#layout)", "[a](design.md#layout)"),
        ("CHANGELOG.md", "[a](README.md)", "a"),
    ],
)
def test_links_lead_where_their_pages_are(path: str, link: str, led: str) -> None:
    assert lead_links(link, path) == led


def test_every_command_has_its_help() -> None:
    page = commands_page()
    titles = re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    assert titles[0] == "mrnet"
    assert {title.split()[1] for title in titles[1:]} == set(COMMANDS)
    assert "mrnet features pca" in titles
    assert page.count("usage: mrnet") == len(titles)


def test_every_field_and_recipe_is_on_the_page_of_the_configuration() -> None:
    page = configuration_page()
    fields = re.findall(r"^\| `(\w+)\.(\w+)` \|", page, flags=re.MULTILINE)
    for section, kind in RunConfig.model_fields.items():
        expected = getattr(kind.annotation, "model_fields", {})
        assert [name for of, name in fields if of == section] == list(expected)
    assert re.findall(r"^### (.*)$", page, flags=re.MULTILINE) == list(recipe_names())


def test_every_module_has_its_place_in_the_api() -> None:
    shown = {name for modules in rooms().values() for name in modules}
    files = {path for path in PACKAGE.rglob("*.py") if not {"cli", "recipes"} & set(path.parts)}
    there = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files}
    left_out = {"mrnet.__init__", "mrnet.__main__", "mrnet.version"}
    assert shown == {name.removesuffix(".__init__") for name in there - left_out}
    assert api_page("device", ["mrnet.device"]) == "# device\n\n::: mrnet.device\n"


def test_roles_of_docstrings_are_links() -> None:
    linked = Roles().linked
    assert (
        linked("See :func:`mrnet.device.choose_device`.")
        == "See [`mrnet.device.choose_device`][mrnet.device.choose_device]."
    )
    assert linked("As of :class:`Engine`.") == "As of `Engine`."
    assert linked("Source: docs/method.md,\n    section 7.") == "Source: [the method, section 7][7-scores]."
    assert linked("docs/method.md, section 11.2") == (
        "[the method, section 11.2][112-without-softmax-form-a-attends-to-nothing]"
    )
