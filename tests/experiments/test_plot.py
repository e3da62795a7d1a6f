"""The picture of variants."""

from xml.etree import ElementTree

from mrnet.experiments.plot import Row, draw

SVG = "{http://www.w3.org/2000/svg}"


def test_dots_lie_on_the_axis() -> None:
    root = ElementTree.fromstring(draw("a < b", [Row("x", [40, 44], 42, True), Row("y & z", [50], 50, False)]))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == ["a < b", "40", "42", "44", "46", "48", "50", "52", "x", "y & z"]
    at = {text.text: float(text.get("x", "")) for text in root.iter(f"{SVG}text")}
    dots = [float(dot.get("cx", "")) for dot in root.iter(f"{SVG}circle")]
    assert dots == [at["40"], at["44"], at["50"]]
    assert len({dot.get("fill") for dot in root.iter(f"{SVG}circle")}) == 2


def test_variants_that_are_all_the_same() -> None:
    root = ElementTree.fromstring(draw("t", [Row("x", [30.0], 30.0, True)]))
    assert [text.text for text in root.iter(f"{SVG}text")] == ["t", "30", "31", "x"]
