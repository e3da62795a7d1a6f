"""What holds of every section: it does not change, and its numbers are within bounds."""

from collections.abc import Callable

import pytest

from mrnet.config.recipes import load_recipe
from mrnet.config.run import RunConfig
from mrnet.errors import ConfigError


def test_configurations_do_not_change(tiny: Callable[..., RunConfig]) -> None:
    config = tiny()
    with pytest.raises(ValueError, match="frozen"):
        config.model.layers = 7  # type: ignore[misc]
    assert config.model.layers == 2


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [
        ("model.layers", 10**6, 64),
        ("model.head_layers", 10**6, 64),
        ("model.head_kernel", 10**6 + 1, 255),
        ("model.video_dim", 10**12, 65_536),
        ("model.query_dim", 10**12, 65_536),
        ("model.dim", 10**8, 65_536),
        ("model.ffn_dim", 10**9, 65_536),
        ("model.clip_hidden", 10**9, 65_536),
        ("model.head_hidden", 10**7, 65_536),
        ("model.num_clips", 50_000, 1024),
        ("model.num_pre_clips", 100_000, 16_384),
        ("train.workers", 10**6, 256),
        ("train.batch_size", 10**9, 10**6),
    ],
)
def test_no_count_asks_for_more_than_a_machine_has(field: str, value: int, most: int) -> None:
    with pytest.raises(ConfigError, match=rf"{field}: .* less than or equal to {most}, got {value}"):
        load_recipe("demo", [f"{field}={value}"])
