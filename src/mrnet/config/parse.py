"""Trees of plain values, as files hold them, to settings; what is wrong is said by its key."""

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.errors import ConfigError, brief


def parse_config(tree: Any, source: str) -> RunConfig:
    """Validate a tree of plain values as the configuration of a run.

    Args:
        tree: nested dict, as read from YAML or JSON.
        source: where it is from, for messages.

    Raises:
        ConfigError: naming the first offending key.
    """
    return parse_section(RunConfig, tree, source)


def parse_spec(tree: Any, source: str) -> ModelSpec:
    """As :func:`parse_config`, of the specification in a checkpoint."""
    return parse_section(ModelSpec, tree, source)


_Tree = TypeVar("_Tree", bound=BaseModel)


def parse_section(kind: type[_Tree], tree: Any, source: str) -> _Tree:
    """As :func:`parse_config`, of any model of settings."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: the configuration is {brief(tree)}, not a mapping of keys: restore the file")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_problem(kind, error)}") from None


def first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    """The first thing that is wrong with a tree of settings, by its key."""
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known: Any = kind
        for part in first["loc"][:-1]:  # of a dictionary, the type of its values
            is_section = hasattr(known, "model_fields")
            known = known.model_fields[str(part)].annotation if is_section else get_args(known)[-1]
        fields = ", ".join(known.model_fields) if hasattr(known, "model_fields") else ""
        return f"unknown key {brief(key)}" + (f"; known here: {fields}" if fields else "")
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    value = "" if isinstance(first["input"], dict) or "got" in message else f", got {brief(first['input'])}"
    return (f"{key}: " if key else "") + f"{message}{value}{more}"
