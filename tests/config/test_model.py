"""Fields of an architecture together: what is refused, what follows from them, and how large it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.fx.experimental._config

from mrnet.config.model import ModelConfig
from mrnet.config.recipes import load_recipe, recipe_names
from mrnet.errors import ConfigError
from mrnet.model.ensemble import make_network, members_of


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 9, "heads": 3}, "dim 9 must be even and a multiple of heads (3)"),
        ({"dim": 8, "heads": 3}, "dim 8 must be even and a multiple of heads (3)"),
        ({"num_clips": 32}, "num_clips 32 exceeds num_pre_clips 16"),
        (
            {"pool_kernel": 4},
            "pooling num_pre_clips 16 with pool_kernel 4 and stride 2 gives 7 clips, but num_clips is 8",
        ),
        (
            {"num_clips": 7},
            "pooling num_pre_clips 16 with pool_kernel 2 and stride 2 gives 8 clips, but num_clips is 7",
        ),
        (
            {"head_kernel": 4, "head_layers": 3},
            "(head_kernel - 1) x head_layers must be even to keep the map's size, got 4 and 3",
        ),
        ({"attention": "off"}, "attention off takes mask none"),
        (
            {"zero_linear_retention": True},
            "zero_linear_retention needs softmax false and projections modality",
        ),
        (
            {"zero_linear_retention": True, "softmax": False, "projections": "shared"},
            "zero_linear_retention needs softmax false and projections modality",
        ),
        ({"tied_initialisation": True}, "tied_initialisation needs projections shared"),
        (
            {"doubled_diagonal": False, "bidirectional": False},
            "doubled_diagonal false needs bidirectional true and mask decay or both",
        ),
        (
            {"doubled_diagonal": False, "mask": "sparse"},
            "doubled_diagonal false needs bidirectional true and mask decay or both",
        ),
        (
            {"boundary_replaces_conv": True},
            "boundary_replaces_conv needs proposals conv and boundary add",
        ),
        (
            {"boundary_replaces_conv": True, "proposals": "conv", "boundary": "concat"},
            "boundary_replaces_conv needs proposals conv and boundary add",
        ),
        (
            {"boundary_replaces_conv": True, "proposals": "pool", "boundary": "add"},
            "boundary_replaces_conv needs proposals conv and boundary add",
        ),
        ({"pooling_counts": [1, 0, 1]}, "pooling_counts [1, 0, 1]: only the first may be 0"),
        ({"pooling_counts": [1, 0]}, "pooling_counts [1, 0]: only the first may be 0"),
        (
            {"pooling_counts": [4, 2]},  # 4 x 1 + 2 x 2 = 8: one more than the last of 8 clips
            "pooling_counts [4, 2] reach 8 clips past the start clip, but num_clips is 8: lower "
            "the counts or raise num_clips",
        ),
    ],
)
def test_refused(tiny_model: Callable[..., ModelConfig], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_model(**changes)
    assert str(caught.value) == f"tiny: model: {message}"


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "off", "mask": "none"},
        {"head_kernel": 4, "head_layers": 2},
        {"zero_linear_retention": True, "softmax": False},
        {"tied_initialisation": True, "projections": "shared"},
        {"doubled_diagonal": False, "mask": "decay"},
        {"boundary_replaces_conv": True, "proposals": "conv", "boundary": "add"},
        {"pooling_counts": [0, 3]},
        {"pooling_counts": [7]},
        {"num_pre_clips": 8, "pool_kernel": 1},
    ],
)
def test_accepted(tiny_model: Callable[..., ModelConfig], changes: dict[str, Any]) -> None:
    model = tiny_model(**changes)
    assert {key: getattr(model, key) for key in changes} == changes


@pytest.mark.parametrize(
    ("changes", "stride", "sparse", "depends"),
    [
        ({}, 2, True, True),
        ({"mask": "decay"}, 2, False, True),
        ({"attention": "video"}, 2, True, False),
        ({"attention": "plain", "mask": "none"}, 2, False, True),
        ({"transformer": False}, 2, False, False),
        ({"num_pre_clips": 32, "pool_kernel": 4}, 4, True, True),
    ],
)
def test_derived(
    tiny_model: Callable[..., ModelConfig],
    changes: dict[str, Any],
    stride: int,
    sparse: bool,
    depends: bool,
) -> None:
    model = tiny_model(**changes)
    assert (model.pool_stride, model.uses_sparse_mask, model.video_depends_on_query) == (
        stride,
        sparse,
        depends,
    )


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_its_network(name: str) -> None:
    # Tensors without values: which cells are valid is not known, nor needed to count weights.
    with torch.device("meta"), torch.fx.experimental._config.patch(meta_nonzero_assume_all_nonzero=True):
        model = make_network(load_recipe(name).model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    heads = [member.proposal_head for member in members_of(model)]
    head = sum(parameter.numel() for each in heads for parameter in each.parameters())
    if name in ("activitynet", "charades", "tacos"):  # as the released models: nearly all in the head
        assert head / parameters > 0.85


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_counted_is_what_a_network_has(name: str) -> None:
    model = load_recipe(name).model
    with torch.device("meta"), torch.fx.experimental._config.patch(meta_nonzero_assume_all_nonzero=True):
        count = sum(weight.numel() for weight in make_network(model).parameters())
    assert 0.9 < model.about_weights / count < 1.4


def test_weights_in_all() -> None:
    with pytest.raises(ConfigError, match=r"a network of about 9\.4e\+12 weights; 2\.1e\+09 are the most"):
        load_recipe("demo", ["model.head_hidden=65536", "model.head_kernel=33", "model.head_layers=2"])


def test_diagonals_are_counted_before_they_are_listed() -> None:
    with pytest.raises(ConfigError, match="reach 1000000 clips past the start clip"):
        load_recipe("demo", ["model.pooling_counts=[1000000]"])
    with pytest.raises(ConfigError, match="pooling_counts: List should have at most 10 items"):
        load_recipe("demo", [f"model.pooling_counts={[1] * 5000}"])
