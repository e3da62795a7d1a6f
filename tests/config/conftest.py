"""What is wrong with a recipe's fields, in words."""

import pytest

from mrnet.config.recipes import load_recipe
from mrnet.errors import ConfigError


def refusal(*overrides: str, recipe: str = "activitynet") -> str:
    """The message for a recipe with these overrides; one line, as the command line prints it."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, overrides)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)
