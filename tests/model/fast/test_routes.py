"""Which route is planned, by work, memory and device; at the released sizes, whose weights are not made for it."""

from typing import Any

import pytest
import torch

from mrnet.config.recipes import load_recipe
from mrnet.model.fast.routes import Plan, Router, total_memory
from mrnet.model.head import window_weights
from mrnet.temporal import valid_cells

GB = 2**30


def router_of(recipe: str) -> Router:
    config = load_recipe(recipe).model
    valid = valid_cells(config.num_clips, config.pooling_counts)
    return Router(
        valid=valid,
        filled=config.boundary == "concat",
        weights=window_weights(valid, config.head_kernel, config.head_layers),
        kernel=config.head_kernel,
        widths=[config.dim] + [config.head_hidden] * config.head_layers,
    )


def small_router(**changes: Any) -> Router:
    valid = torch.ones(4, 4, dtype=torch.bool).triu()
    settings: dict[str, Any] = {
        "valid": valid, "filled": False, "weights": window_weights(valid, 3, 2), "kernel": 3, "widths": [2, 3, 3],
    }  # fmt: skip
    return Router(**(settings | changes))


def plan(router: Router, **changes: Any) -> Plan | None:
    settings: dict[str, Any] = {
        "num_maps": 1, "training": False, "learning": False, "device": torch.device("cpu"), "itemsize": 4,
        "route": "auto", "budget": 6 * GB,
    }  # fmt: skip
    return router.plan(**(settings | changes))


@pytest.mark.parametrize(
    ("recipe", "dense", "tiled"), [("activitynet", 415.2, 20.8), ("charades", 552.7, 10.0), ("tacos", 282.2, 18.5)]
)
def test_multiply_adds_of_the_released_sizes(recipe: str, dense: float, tiled: float) -> None:
    """In billions; the dense ones are those of the released code."""
    router = router_of(recipe)
    assert router.multiply_adds(None) / 1e9 == pytest.approx(dense, abs=0.1)
    assert router.multiply_adds(plan(router)) / 1e9 == pytest.approx(tiled, abs=0.1)


def test_dense_multiply_adds_by_hand() -> None:
    """Maps of 4x4, padded to 8x8: 3x3 windows of 2 to 3 channels in 6x6 cells, of 3 to 3 in 4x4."""
    assert small_router().multiply_adds(None) == 9 * (36 * 2 * 3 + 16 * 3 * 3)


@pytest.mark.parametrize("recipe", ["activitynet", "charades", "tacos", "qvhighlights"])
def test_released_sizes_take_tiles(recipe: str) -> None:
    router = router_of(recipe)
    alone, step = plan(router), plan(router, training=True, learning=True, num_maps=4)
    assert alone is not None
    assert alone.keeps_spectra
    assert step is not None
    assert not step.keeps_spectra


def test_a_budget_turns_to_slower_routes_and_none() -> None:
    router = router_of("activitynet")
    kept, chunked = plan(router, budget=3 * GB), plan(router, budget=500 * 2**20)
    assert kept is not None
    assert kept.keeps_spectra
    assert chunked is not None
    assert not chunked.keeps_spectra
    assert plan(router, budget=50 * 2**20) is None
    assert plan(router, budget=50 * 2**20, training=True, learning=True) is None


def test_wider_numbers_need_more_of_the_budget() -> None:
    router = router_of("activitynet")
    single, double = (plan(router, budget=2 * GB, itemsize=itemsize) for itemsize in (4, 8))
    assert single is not None
    assert single.keeps_spectra
    assert double is not None
    assert not double.keeps_spectra
    assert (plan(router, itemsize=8, budget=6 * GB) or single).maps_at_once < single.maps_at_once * 8


def test_no_budget_is_a_quarter_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrnet.model.fast.routes.total_memory", lambda: 4 * 50 * 2**20)
    assert plan(router_of("activitynet"), budget=None) is None
    monkeypatch.setattr("mrnet.model.fast.routes.total_memory", lambda: 4 * 500 * 2**20)
    assert plan(router_of("activitynet"), budget=None) is not None


@pytest.mark.parametrize(("route", "tiles"), [("auto", False), ("tiled", True), ("dense", False)])
def test_other_devices_take_the_dense_route_unless_told(route: str, tiles: bool) -> None:
    assert (plan(small_router(), route=route, device=torch.device("meta")) is not None) == tiles


def test_a_plan_by_hand() -> None:
    """The upper triangle of a 4x4 map, one 1x1 convolution: cells are its 10 valid ones, all of weight 1."""
    valid = torch.ones(4, 4, dtype=torch.bool).triu()
    router = small_router(kernel=1, weights=window_weights(valid, 1, 1), widths=[2, 3])
    found = plan(router, route="tiled")
    assert found is not None
    cells = [0, 1, 2, 3, 5, 6, 7, 10, 11, 15]
    assert found.inputs.tolist() == cells
    assert found.outputs.tolist() == list(range(10))
    assert found.weights[0].flatten().tolist() == [1.0] * 10 + [0.0]
    assert found.sides == (4,)


def test_training_computes_all_that_may_differ_from_zero() -> None:
    router = small_router()
    trained, evaluated = (plan(router, route="tiled", training=training) for training in (True, False))
    assert trained is not None
    assert evaluated is not None
    # Of the last output, 4x4, training knows what a 5x5 window of valid cells reaches: all. Else the valid ones.
    assert trained.weights[-1].shape == (16 + 1, 1, 1)
    assert evaluated.weights[-1].shape == (10 + 1, 1, 1)


def test_memory_of_the_machine() -> None:
    assert 2**28 < total_memory() < 2**45
