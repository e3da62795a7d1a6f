"""Documents that are built to hurt: one error, at once."""

import json

import pytest
import yaml

from mrnet.documents import MOST_YAML, parse_json, parse_yaml


def layers(count: int) -> str:
    """YAML of a few letters that stands for 9 to the power of ``count`` values."""
    lines = ["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, count + 1))]
    return "\n".join(lines)


class TestJson:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[" * 100_000 + "]" * 100_000, "nested too deep"),
            ('{"a":' * 100_000, "nested too deep"),
            ("9" * 5000, "a number of too many digits"),
            (b'"\xff"', "not UTF-8 text"),
            ('{"a": 1, "b": 2, "a": 3}', 'the key "a" is there twice'),
            ('[{"b": {"a\\n": 1, "a\\n": 1}}]', 'the key "a\\n" is there twice'),
            ("", "Expecting value"),
        ],
    )
    def test_refuses(self, text: str | bytes, problem: str) -> None:
        with pytest.raises(json.JSONDecodeError) as caught:
            parse_json(text)
        assert caught.value.msg == problem

    def test_says_where(self) -> None:
        with pytest.raises(json.JSONDecodeError) as caught:
            parse_json("[1,\n2 3]")
        assert (caught.value.lineno, caught.value.colno) == (2, 3)

    def test_value(self) -> None:
        assert parse_json(b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}') == {"a": [1, 2.5, None, True, "é"]}

    def test_objects_of_pairs(self) -> None:
        assert parse_json('{"a": 1, "a": 2}', list) == [("a", 1), ("a", 2)]


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (layers(11), "its aliases stand for more than 100000 values"),
            ("&a [*a]", "its aliases go in a circle"),
            ("a: &a\n  b: [1, *a]", "its aliases go in a circle"),
            ("[" * 3000, "nested too deep"),
            ("a: !!int x", "a value that is not of its own kind"),
            ("a: !!bool x", "a value that is not of its own kind"),
            ("a: !!timestamp x", "a value that is not of its own kind"),
            ("a: 0b_", "a value that is not of its own kind"),
            ("a: " + "9" * 5000, "a value that is not of its own kind"),
            ("a: 1\nb: 2\na: 3", "the key 'a' is there twice, line 3"),
            ("a: [1", "expected ',' or ']', but got '<stream end>', line 1"),
            ("a: \x00", "unacceptable character #x0000: special characters are not allowed"),
            ("a" * (MOST_YAML + 1), f"{MOST_YAML + 1} letters, more than settings have"),
        ],
    )
    def test_refuses(self, text: str, problem: str) -> None:
        with pytest.raises(yaml.YAMLError) as caught:
            parse_yaml(text)
        assert str(caught.value).startswith(problem)
        assert "\n" not in str(caught.value)

    def test_value(self) -> None:
        text = "a: &x {b: off, c: true}\nd: [*x, *x]\ne: 2024-01-01\nf: 1e-3\ng:\n"
        same = {"b": "off", "c": True}
        assert parse_yaml(text) == {"a": same, "d": [same, same], "e": "2024-01-01", "f": "1e-3", "g": None}

    def test_a_key_may_come_again_in_another_mapping(self) -> None:
        assert parse_yaml("{a: {b: 1}, c: {b: 1}}") == {"a": {"b": 1}, "c": {"b": 1}}

    def test_no_document(self) -> None:
        assert parse_yaml("") is None
