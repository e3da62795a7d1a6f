"""Recipes, and what is set over them: a dataset's fields, and single fields by their dotted names."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

from mrnet.config.parse import parse_config
from mrnet.config.run import RunConfig
from mrnet.documents import parse_yaml
from mrnet.errors import ConfigError, brief


def recipe_names() -> list[str]:
    """Names accepted by :func:`load_recipe`."""
    folder = resources.files("mrnet") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str, overrides: Sequence[str] = (), overlay: Mapping[str, Any] | None = None) -> RunConfig:
    """A shipped recipe with overrides.

    Args:
        name: one of :func:`recipe_names`.
        overrides: ``"dotted.key=value"``, the value in YAML.
        overlay: a tree of the fields to set before that, such as those of a dataset.

    Raises:
        ConfigError: unknown recipe or key, or a value that is not allowed.
    """
    return complete(_recipe_tree(name), f"recipe {name}", overrides, overlay)


def _recipe_tree(name: str) -> dict[str, Any]:
    """The fields of a recipe, upon those of the recipe that it ``extends``, if it names one."""
    if name not in recipe_names():
        raise ConfigError(f"unknown recipe {name!r}: choose one of {', '.join(recipe_names())}")
    text = (resources.files("mrnet") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    tree: dict[str, Any] = parse_yaml(text)
    base = tree.pop("extends", None)
    return tree if base is None else merge_trees(_recipe_tree(base), tree)


def complete(
    tree: dict[str, Any], source: str, overrides: Sequence[str] = (), overlay: Mapping[str, Any] | None = None
) -> RunConfig:
    """A tree of plain values with the fields of a dataset and overrides set, validated.

    Args:
        tree: nested dict, as read from YAML or JSON.
        source: where it is from, for messages.
        overrides: as of :func:`load_recipe`.
        overlay: as of :func:`load_recipe`.

    Raises:
        ConfigError: unknown key, or a value that is not allowed.
    """
    if overlay is not None:
        tree, source = merge_trees(tree, overlay), f"{source} with the fields of the dataset"
    return parse_config(apply_overrides(tree, overrides), source)


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``tree`` with ``"dotted.key=value"`` overrides set.

    Raises:
        ConfigError: an override without ``=``, or one whose value is not YAML.
    """
    merged = _copy(tree)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {brief(override)} is not of the form key=value, e.g. model.layers=4")
        try:
            value = parse_yaml(text)
        except yaml.YAMLError:
            raise ConfigError(f"override {brief(override)}: {brief(text)} is not a YAML value") from None
        node = merged
        *parents, leaf = key.split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(f"override {brief(override)}: {parent!r} has no fields")
            node = child
        node[leaf] = value
    return merged


def merge_trees(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings in which those of ``changes`` take the place of theirs."""
    merged = dict(tree)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = (
            merge_trees(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
        )
    return merged


def _copy(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}
