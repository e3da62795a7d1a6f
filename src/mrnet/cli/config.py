"""``mrnet config``"""

import argparse
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mrnet.config.run import RunConfig
from mrnet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Prints the fields that --set and recipes know, with their defaults and what they mean."
    parser.add_argument("key", nargs="?", default="", help="a field or a section, e.g. train.lr (default: all)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    fields = list(described())
    asked = [field for field in fields if _is_below(field[0], arguments.key)]
    if not asked:
        sections = ", ".join(dict.fromkeys(key.split(".")[0] for key, *_ in fields))
        raise ConfigError(f"no field or section {arguments.key!r}; the sections are {sections}")
    for key, default, description in asked:
        print(f"{key}{f' = {default}' if default else ''}\n    {description}")
    return 0


def described() -> Iterator[tuple[str, str, str]]:
    """Dotted name of each field, its default as ``--set`` takes it (empty where it has none), and its description."""
    for key, field in _fields(RunConfig):
        missing = field.get_default(call_default_factory=True) is PydanticUndefined
        yield key, "" if missing else _shown(field), field.description or ""


def _fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted name and field, depth first."""
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _is_below(key: str, asked: str) -> bool:
    return not asked or key == asked or key.startswith(f"{asked}.")


def _shown(field: FieldInfo) -> str:
    """A default as ``--set`` takes it."""
    value: Any = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value)
