"""The two routes of the proposal head, and how one is chosen."""

import copy
import itertools
from typing import Any

import pytest
import torch

from mrnet.config import load_recipe
from mrnet.model.fast.routes import Router, total_memory
from mrnet.model.head import ProposalHead
from mrnet.model.mrnet import MRNet
from mrnet.model.norm import MapNorm
from mrnet.temporal import valid_cells

CLIPS, DIM = 24, 8


def make_head(**changes: Any) -> ProposalHead:
    settings: dict[str, Any] = {
        "valid": valid_cells(CLIPS, [5, 3, 2]), "filled": False, "dim": DIM, "hidden": 16, "kernel": 5, "layers": 3,
    }  # fmt: skip
    torch.manual_seed(0)
    head = ProposalHead(**(settings | changes))
    for norm in head.norms:
        assert isinstance(norm, MapNorm)
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.normal_()
    return head


def make_maps(head: ProposalHead, count: int = 3, filled: bool = False) -> torch.Tensor:
    maps = torch.randn(count, DIM, CLIPS, CLIPS, generator=torch.Generator().manual_seed(count))
    return maps if filled else maps * head.valid


VARIANTS = [{}, {"filled": True}, {"kernel": 9, "layers": 1}, {"kernel": 2, "layers": 2}]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_routes_agree_in_training(changes: dict[str, Any]) -> None:
    """Embeddings, every gradient, and the state of batch norm, against the dense route in double precision."""
    heads = {route: make_head(**changes).train() for route in ("dense", "tiled")}
    found: dict[str, list[torch.Tensor]] = {}
    for route, head in heads.items():
        head.route = route  # type: ignore[assignment]
        maps = make_maps(head, filled="filled" in changes)
        if route == "dense":
            head.double()
            maps = maps.double()
        maps.requires_grad_()
        embeddings = torch.stack(head(maps))
        up = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))
        (embeddings * up).sum().backward()
        assert maps.grad is not None
        cells = torch.ones_like(head.valid) if "filled" in changes else head.valid
        gradients = [p.grad for p in head.parameters() if p.requires_grad]
        found[route] = [embeddings, maps.grad[:, :, cells], *gradients, *(b for _, b in head.named_buffers())]  # type: ignore[list-item]
    for tiled, dense in zip(found["tiled"], found["dense"], strict=True):
        scale = max(dense.double().abs().max().item(), 1e-6)
        torch.testing.assert_close(tiled.double(), dense.double(), rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_routes_agree_in_evaluation(changes: dict[str, Any]) -> None:
    head = make_head(**changes)
    maps = make_maps(head, filled="filled" in changes)
    head.train()(maps)  # statistics that are not those of the start
    head.eval()
    found = {}
    for route in ("dense", "tiled"):
        head.route = route  # type: ignore[assignment]
        with torch.inference_mode():
            found[route] = head(maps)
    torch.testing.assert_close(
        found["tiled"], found["dense"], rtol=0, atol=2e-6 * found["dense"][0].abs().max().item()
    )
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        head.route = "tiled"
        hidden = head._tiled(maps, head.plan(maps))  # type: ignore[arg-type]
    assert hidden.dtype == torch.float32  # autocast leaves frequencies alone


def test_kept_kernels_follow_the_weights() -> None:
    head = make_head().eval()
    head.route = "tiled"
    maps = make_maps(head)
    head.train()(maps)
    head.eval()
    with torch.inference_mode():
        before = head(maps)[0]
        assert head._kept is not None
        kept = head._kept
        torch.testing.assert_close(head(maps)[0], before, rtol=0, atol=0)
        assert head._kept is kept
    with torch.no_grad():
        head.convs[1].weight.mul_(2)  # type: ignore[operator]
    with torch.inference_mode():
        after = head(maps)[0]
        head.route = "dense"
        torch.testing.assert_close(after, head(maps)[0], rtol=0, atol=1e-6)
    assert (after - before).abs().max() > 1e-4
    head.train()
    assert head._kept is None


def test_weights_that_hide_their_changes_are_transformed_each_time() -> None:
    with torch.inference_mode():
        head = make_head().eval()
        head.route = "tiled"
        maps = make_maps(head)
        before = head(maps)[0]
        assert head._kept is None
        head.convs[0].weight.zero_()  # type: ignore[operator]
        assert not torch.equal(head(maps)[0], before)


def test_a_copy_gives_the_same() -> None:
    head = make_head().eval()
    head.route = "tiled"
    maps = make_maps(head)
    with torch.inference_mode():
        expected = head(maps)
        torch.testing.assert_close(copy.deepcopy(head)(maps), expected, rtol=0, atol=0)


def test_maps_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = make_head().train(), make_head().train()
    maps = make_maps(whole, count=5)
    whole.route = parts.route = "tiled"
    plan = whole.plan(maps)
    assert plan is not None
    assert plan.maps_at_once >= 5
    expected = whole(maps)[0]
    monkeypatch.setattr("mrnet.model.fast.routes._MOST_AT_ONCE", 0)
    plan = parts.plan(maps)
    assert plan is not None
    assert plan.maps_at_once == 1
    found = parts(maps)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    expected.sum().backward()
    found.sum().backward()
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def released_router(recipe: str) -> Router:
    config = load_recipe(recipe).model
    router = MRNet(config.model_copy(update={"head_hidden": 1})).proposal_head._router
    router._widths = [config.dim] + [config.head_hidden] * config.head_layers  # without their gigabytes
    return router


def released_plan(recipe: str, budget: int | None, training: bool = False, num_maps: int = 1) -> Any:
    return released_router(recipe).plan(
        num_maps=num_maps,
        training=training,
        learning=training,
        device=torch.device("cpu"),
        route="auto",
        budget=budget,
    )


@pytest.mark.parametrize(
    ("recipe", "dense", "tiled"), [("activitynet", 415.2, 20.8), ("charades", 552.7, 10.0), ("tacos", 282.2, 18.5)]
)
def test_multiply_adds_of_the_released_sizes(recipe: str, dense: float, tiled: float) -> None:
    """In billions; the dense ones are those of the released code."""
    router = released_router(recipe)
    assert router.multiply_adds(None) / 1e9 == pytest.approx(dense, abs=0.1)
    assert router.multiply_adds(released_plan(recipe, budget=6 * 2**30)) / 1e9 == pytest.approx(tiled, abs=0.1)


@pytest.mark.parametrize("recipe", ["activitynet", "charades", "tacos", "qvhighlights"])
def test_released_sizes_take_tiles(recipe: str) -> None:
    plan = released_plan(recipe, budget=6 * 2**30)
    assert plan.keeps_spectra
    assert not released_plan(recipe, budget=6 * 2**30, training=True, num_maps=4).keeps_spectra


def test_a_budget_turns_to_slower_routes_and_none() -> None:
    kept = released_plan("activitynet", budget=3 * 2**30)
    assert kept.keeps_spectra
    chunked = released_plan("activitynet", budget=500 * 2**20)
    assert not chunked.keeps_spectra
    assert released_plan("activitynet", budget=50 * 2**20) is None
    assert released_plan("activitynet", budget=50 * 2**20, training=True) is None


@pytest.mark.parametrize("megabytes", [1, 2, 4, 8, 32])
@pytest.mark.parametrize("training", [False, True])
def test_no_more_memory_than_the_budget_is_taken(megabytes: int, training: bool) -> None:
    head = make_head(hidden=48).train(training)
    head.memory_budget = megabytes * 2**20
    head.route = "tiled"
    maps = make_maps(head, count=4)
    plan = head.plan(maps)
    assert plan is not None
    out = head(maps)[0]
    if training:
        out.sum().backward()
    if megabytes > 2:  # the least that there is takes about as much
        assert 0 < head.memory_in_use() <= head.memory_budget


def test_small_maps_take_the_dense_route_alone_and_tiles_together() -> None:
    head = MRNet(load_recipe("demo").model).proposal_head.eval()
    with torch.inference_mode():
        assert head.plan(torch.zeros(1, 64, 24, 24)) is None
        assert head.plan(torch.zeros(32, 64, 24, 24)) is not None


def test_other_devices_take_the_dense_route_unless_told() -> None:
    head = make_head().eval()
    router = head._router
    for route, expected in (("auto", False), ("tiled", True), ("dense", False)):
        plan = router.plan(
            num_maps=1,
            training=False,
            learning=False,
            device=torch.device("meta"),
            route=route,
            budget=None,  # type: ignore[arg-type]
        )
        assert (plan is not None) == expected


def test_memory_of_the_machine() -> None:
    assert 2**28 < total_memory() < 2**45


@pytest.mark.parametrize(("given", "training"), list(itertools.product([6, 10], [False, True])))
def test_norm_of_some_cells_is_that_of_the_whole(given: int, training: bool) -> None:
    torch.manual_seed(0)
    values = torch.zeros(2, 3, 5, 1)  # 10 cells, of which the others hold 0
    values[:, :, : given // 2] = torch.randn(2, 3, given // 2, 1)
    offset = torch.randn(3)
    norms = MapNorm(3), torch.nn.BatchNorm2d(3)
    for norm in norms:
        norm.weight.data = torch.tensor([1.0, 2, 3])
        norm.bias.data = torch.tensor([0.1, 0.2, 0.3])
        norm.train(training)
    rows = values.movedim(1, -1)[:, : given // 2].flatten(0, 2)
    mean, scale = norms[0].moments(rows, 10, offset)
    expected = norms[1](values + offset[:, None, None]).movedim(1, -1)[:, : given // 2].flatten(0, 2)
    torch.testing.assert_close((rows - mean) * scale + norms[0].bias, expected)
    torch.testing.assert_close(norms[0].running_mean, norms[1].running_mean)
    torch.testing.assert_close(norms[0].running_var, norms[1].running_var)
    assert norms[0].num_batches_tracked == norms[1].num_batches_tracked


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_tiles_on_a_gpu() -> None:
    head = make_head().eval()
    head.route = "tiled"
    maps = make_maps(head)
    with torch.inference_mode():
        expected = head(maps)[0]
        found = head.cuda()(maps.cuda())[0].cpu()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
