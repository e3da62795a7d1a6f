"""The stack of tiled convolutions: what it keeps, what it takes, and when."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mrnet.config.recipes import load_recipe
from mrnet.model.fast import stack as stack_module
from mrnet.model.fast.routes import Route
from mrnet.model.fast.spectral import KeptKernel, Scratch
from mrnet.model.fast.tiling import Tiling
from mrnet.model.head import ProposalHead
from mrnet.model.mrnet import MRNet
from mrnet.temporal import valid_cells

CLIPS, DIM, LAYERS = 24, 8, 3
MAPS = torch.randn(4, DIM, CLIPS, CLIPS, generator=torch.Generator().manual_seed(0))


def make_head(route: Route = "tiled", budget: int | None = None, hidden: int = 16) -> ProposalHead:
    torch.manual_seed(0)
    valid = valid_cells(CLIPS, [5, 3, 2])
    sizes: dict[str, Any] = {"dim": DIM, "hidden": hidden, "kernel": 5, "layers": LAYERS}
    return ProposalHead(valid=valid, filled=False, **sizes, route=route, memory_budget=budget).eval()


@pytest.fixture
def transforms(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tile sizes of the kernels that a stack transformed to keep, in order."""
    sizes: list[int] = []

    def counted(weight: Tensor, tiling: Tiling, scratch: Scratch) -> KeptKernel:
        sizes.append(tiling.size)
        return KeptKernel(weight, tiling, scratch)

    monkeypatch.setattr(stack_module, "KeptKernel", counted)
    return sizes


def test_kept_spectra_follow_the_weights(transforms: list[int]) -> None:
    head, dense = make_head(), make_head("dense")
    maps = MAPS * head.valid
    for norm in head.norms:
        norm.momentum = 1.0
    head.train()(maps)  # after which outputs are not all alike
    head.eval()
    with torch.inference_mode():
        before = head(maps)[0]
        assert len(transforms) == LAYERS
        torch.testing.assert_close(head.eval()(maps)[0], before, rtol=0, atol=0)
        assert len(transforms) == LAYERS
    with torch.no_grad():
        head.convs[1].weight.mul_(2)  # type: ignore[operator]
    dense.load_state_dict(head.state_dict())
    with torch.inference_mode():
        after = head(maps)[0]
        torch.testing.assert_close(after, dense(maps)[0], rtol=0, atol=1e-6)
    assert len(transforms) == 2 * LAYERS
    assert (after - before).abs().max() > 1e-4


def test_weights_that_hide_their_changes_are_transformed_each_time(transforms: list[int]) -> None:
    with torch.inference_mode():
        head = make_head()  # such tensors have no version
        before = head(MAPS)[0]
        head.convs[0].weight.zero_()  # type: ignore[operator]
        assert not torch.equal(head(MAPS)[0], before)
    assert transforms == []


def test_released_spectra_take_no_memory() -> None:
    head = make_head()
    with torch.inference_mode():
        head(MAPS)
    held = head.stack.memory_in_use()
    head.stack.release()
    plan = head.stack.plan(MAPS)
    assert plan is not None
    spectra = held - head.stack.memory_in_use()
    assert spectra > 4 * 3 * plan.tilings[0].size ** 2 // 2 * (DIM * 16 + 2 * 16 * 16)


def test_a_copy_works_in_memory_of_its_own() -> None:
    head = make_head().train()
    head(MAPS)
    assert head.stack.memory_in_use() > 0
    assert copy.deepcopy(head).stack.memory_in_use() == 0


def test_maps_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = make_head().train(), make_head().train()
    plan = whole.stack.plan(MAPS)
    assert plan is not None
    assert plan.maps_at_once >= 4
    expected = whole(MAPS)[0]
    monkeypatch.setattr("mrnet.model.fast.routes._MOST_AT_ONCE", 0)
    plan = parts.stack.plan(MAPS)
    assert plan is not None
    assert plan.maps_at_once == 1
    found = parts(MAPS)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    expected.sum().backward()
    found.sum().backward()
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("megabytes", [4, 8, 32])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_more_memory_than_the_budget_is_taken(megabytes: int, training: bool, dtype: torch.dtype) -> None:
    budget = megabytes * 2**20 * dtype.itemsize // 4
    head = make_head(budget=budget, hidden=48).train(training).to(dtype)
    maps = MAPS.to(dtype)
    with torch.set_grad_enabled(training):
        out = head(maps)[0]
        if training:
            out.sum().backward()
    assert 0 < head.stack.memory_in_use() <= budget


@pytest.mark.parametrize("megabytes", [1, 2])
def test_tiles_that_are_told_to_run_take_the_least_that_they_can(megabytes: int) -> None:
    head = make_head(budget=megabytes * 2**20, hidden=48)
    with torch.inference_mode():
        assert torch.isfinite(head(MAPS)[0]).all()
        plan = head.stack.plan(MAPS)
    assert plan is not None
    assert plan.maps_at_once == 1
    assert not plan.keeps_spectra


def test_small_maps_take_the_dense_route_alone_and_tiles_together() -> None:
    stack = MRNet(load_recipe("demo").model).eval().proposal_head.stack
    with torch.inference_mode():
        assert stack.plan(torch.zeros(1, 64, 24, 24)) is None
        assert stack.plan(torch.zeros(32, 64, 24, 24)) is not None


def test_plans_look_at_what_is_trained() -> None:
    """Spectra are not kept where gradients are wanted, of the weights or of the maps."""

    def keeps(head: ProposalHead, maps: Tensor = MAPS) -> bool:
        plan = head.stack.plan(maps)
        assert plan is not None
        return plan.keeps_spectra

    head = make_head()
    assert not keeps(head)
    with torch.no_grad():
        assert keeps(head)
    assert keeps(head.requires_grad_(False))
    assert not keeps(head, MAPS.clone().requires_grad_())
    assert not keeps(head.train())


def test_autocast_leaves_frequencies_alone() -> None:
    head = make_head()
    maps = (MAPS * head.valid).bfloat16().float()
    with torch.inference_mode():
        plan = head.stack.plan(maps)
        assert plan is not None
        expected = head.stack(maps, plan)
        with torch.autocast("cpu", torch.bfloat16):
            found = head.stack(maps.bfloat16(), plan)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_tiles_on_a_gpu() -> None:
    head = make_head()
    with torch.inference_mode():
        expected = head(MAPS)[0]
        found = head.cuda()(MAPS.cuda())[0].cpu()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
