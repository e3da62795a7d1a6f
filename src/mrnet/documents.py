"""JSON, YAML and marked-up text of strangers: what a document says, or one error that it is none, and nothing else.

The parsers themselves raise other errors on text that is built to hurt: brackets by the thousand overflow the stack,
a number of thousands of digits is refused half-way, tags of YAML fail inside their constructors, and aliases of
aliases stand for more than fits into memory.
"""

import html
import json
import re
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.error import MarkedYAMLError
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from mrnet.errors import one_line

MOST_YAML = 1 << 18
"""Letters of a YAML document; settings have a few thousand."""

# Values that a YAML document may stand for, each alias counted for what it repeats.
_MOST_VALUES = 100_000
# What constructors of YAML raise on text that is none of their kind; of a stack that overflows, too.
_UNFIT = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)

_NO_ENTITY = re.compile(r"&#[xX]?[0-9a-fA-F]{8,};?")

Pairs = list[tuple[str, Any]]


def parse_json(text: str | bytes, pairs: Callable[[Pairs], Any] | None = None) -> Any:
    """The value of a JSON document.

    Args:
        text: the document; bytes are UTF-8.
        pairs: makes an object of its keys and values; if left out, a dictionary, and a key that is there twice is
            refused.

    Raises:
        json.JSONDecodeError: it is no JSON, is nested too deep, or holds a number of more digits than anyone means.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=pairs or _distinct)
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("not UTF-8 text", "", 0) from error
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deep", "", 0) from error
    except ValueError as error:  # of the number of digits, or a key twice
        what = str(error) if isinstance(error, _TwiceError) else "a number of too many digits"
        raise json.JSONDecodeError(what, "", 0) from error


def parse_yaml(text: str) -> Any:
    """The value of a YAML document, in which only true and false are booleans.

    Raises:
        yaml.YAMLError: it is no YAML, or its aliases go in a circle or stand for more than 100,000 values; of one line.
    """
    if len(text) > MOST_YAML:
        raise yaml.YAMLError(f"{len(text)} letters, more than settings have")
    try:
        loader = _Yaml12Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise yaml.YAMLError(f"{error.problem or error.context}{line}") from error
    except yaml.YAMLError as error:
        raise yaml.YAMLError(one_line(error)) from error
    except _UNFIT as error:
        what = "nested too deep" if isinstance(error, RecursionError) else "a value that is not of its own kind"
        raise yaml.YAMLError(what) from error


def unescape(text: str) -> str:
    """A text in which entities, ``&amp;``, are the letters that they stand for; none of them has eight digits."""
    return html.unescape(_NO_ENTITY.sub("", text))


class _TwiceError(ValueError):
    """A key is there twice."""


def _distinct(pairs: Pairs) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise _TwiceError(f"the key {json.dumps(twice)[:60]} is there twice")
    return found


class _Yaml12Loader(yaml.SafeLoader):
    """YAML without dates, and whose only booleans are true and false: off is an attention mode, no a mask mode."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> Node | None:
        node: Node | None = super().get_single_node()
        if node is not None and _count(node, {}) > _MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES} values")
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, MappingNode):
            seen = set()
            for key, _ in node.value:
                if isinstance(key, ScalarNode) and (key.tag, key.value) in seen:
                    raise ConstructorError(
                        None, None, f"the key {key.value[:60]!r} is there twice", key.start_mark
                    )
                seen.add((key.tag, key.value) if isinstance(key, ScalarNode) else None)
        return super().construct_mapping(node, deep)


_Yaml12Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|True|false|False"), list("tTfF"))


def _count(node: Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for.

    Raises:
        yaml.YAMLError: it holds itself.
    """
    if not isinstance(node, CollectionNode):
        return 1
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise yaml.YAMLError("its aliases go in a circle")
        return count
    known[id(node)] = None
    below = (part for item in node.value for part in (item if isinstance(item, tuple) else (item,)))
    known[id(node)] = total = 1 + sum(_count(part, known) for part in below)
    return total
