"""The proposal head: its two routes give the same, in every variant, and its window weights."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mrnet.model.fast.routes import Route
from mrnet.model.head import ProposalHead, window_weights
from mrnet.model.norm import MapNorm
from mrnet.temporal import valid_cells

CLIPS, DIM = 24, 8


def make_head(route: Route = "auto", budget: int | None = None, **changes: Any) -> ProposalHead:
    """A head with random weights, the same for all routes."""
    settings: dict[str, Any] = {
        "valid": valid_cells(CLIPS, [5, 3, 2]), "filled": False, "dim": DIM, "hidden": 16, "kernel": 5, "layers": 3,
    }  # fmt: skip
    torch.manual_seed(0)
    head = ProposalHead(**(settings | changes), route=route, memory_budget=budget)
    for norm in head.norms:
        assert isinstance(norm, MapNorm)
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.normal_()
    return head


def make_maps(head: ProposalHead, count: int = 3, filled: bool = False) -> torch.Tensor:
    maps = torch.randn(count, DIM, CLIPS, CLIPS, generator=torch.Generator().manual_seed(count))
    return maps if filled else maps * head.valid


def train_once(head: ProposalHead, maps: torch.Tensor, cells: torch.Tensor) -> list[torch.Tensor]:
    """Embeddings, every gradient, and the state of batch norm."""
    maps = maps.clone().requires_grad_()
    embeddings = torch.stack(head.train()(maps))
    up = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))
    (embeddings * up).sum().backward()
    assert maps.grad is not None
    gradients = [parameter.grad for parameter in head.parameters() if parameter.requires_grad]
    assert all(gradient is not None for gradient in gradients)
    buffers = [buffer for _, buffer in head.named_buffers()]
    return [embeddings.detach(), maps.grad[:, :, cells], *gradients, *buffers]  # type: ignore[list-item]


VARIANTS = [{}, {"filled": True}, {"kernel": 9, "layers": 1}, {"kernel": 2, "layers": 2}]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
def test_routes_agree_in_training(changes: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    """Against the dense route in double precision."""
    dense, tiled = (make_head(route, **changes) for route in ("dense", "tiled"))
    maps = make_maps(tiled, filled="filled" in changes)
    cells = torch.ones_like(tiled.valid) if "filled" in changes else tiled.valid
    expected = train_once(dense.double(), maps.double(), cells)
    found = train_once(tiled.to(dtype), maps.to(dtype), cells)
    assert found[0].dtype == found[1].dtype == dtype
    for one, other in zip(found, expected, strict=True):
        scale = max(other.double().abs().max().item(), 1e-6)
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-10)])
def test_routes_agree_in_evaluation(changes: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    dense, tiled = (make_head(route, **changes).to(dtype) for route in ("dense", "tiled"))
    maps = make_maps(dense, filled="filled" in changes).to(dtype)
    dense.train()(maps)  # statistics that are not those of the start
    tiled.load_state_dict(dense.state_dict())
    with torch.inference_mode():
        expected, found = dense.eval()(maps), tiled.eval()(maps)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * other.abs().max().item())


def test_training_gives_up_kept_spectra() -> None:
    head = make_head("tiled").eval()
    with torch.inference_mode():
        head(make_maps(head))
    held = head.stack.memory_in_use()
    head.train()
    assert 0 < head.stack.memory_in_use() < held


def test_a_copy_gives_the_same() -> None:
    head = make_head("tiled").train()
    maps = make_maps(head)
    for norm in head.norms:
        norm.momentum = 1.0
    head(maps)  # after which outputs are not all alike
    head.eval()
    with torch.inference_mode():
        expected = head(maps)
    copied = copy.deepcopy(head)
    with torch.no_grad():
        torch.testing.assert_close(copied(maps), expected, rtol=0, atol=0)
        copied.convs[0].weight.zero_()  # type: ignore[operator]
        assert (copied(maps)[0] - expected[0]).abs().max() > 1e-2  # its stack reads the copy's own weights


@pytest.mark.parametrize("route", ["dense", "tiled"])
def test_routes_agree_with_a_masked_loop(route: Route) -> None:
    """Window counts, batch norm and growth of the valid set, written out cell by cell."""
    torch.manual_seed(0)
    valid = valid_cells(6, [2, 1])
    head = ProposalHead(valid=valid, filled=False, dim=2, hidden=3, kernel=3, layers=2, route=route).eval()
    for norm in head.norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    x = torch.randn(1, 2, 6, 6) * valid
    found = head(x)

    x, support = F.pad(x, (2, 2, 2, 2)), F.pad(valid.float(), (2, 2, 2, 2))
    for conv, norm in zip(head.convs, head.norms, strict=True):
        size = len(support) - 2
        out, grown = torch.zeros(1, 3, size, size), torch.zeros(size, size)
        for i in range(size):
            for j in range(size):
                window = x[0, :, i : i + 3, j : j + 3]
                count = support[i : i + 3, j : j + 3].sum()
                value = (conv.weight * window).sum(dim=(1, 2, 3)) + conv.bias
                value = (value - norm.running_mean) / (
                    norm.running_var + norm.eps
                ).sqrt() * norm.weight + norm.bias
                grown[i, j] = float(count > 0)
                out[0, :, i, j] = value.relu() / count if count > 0 else 0.0
        x, support = out, grown
    torch.testing.assert_close(found[0], head.iou(x)[:, :, valid].transpose(1, 2))
    torch.testing.assert_close(found[1], head.contrastive(x)[:, :, valid].transpose(1, 2))


def test_window_weights_by_hand() -> None:
    """Two valid cells of a 2x2 map, one 2x2 kernel twice: the first window counts cells, the second what it left."""
    first, second = window_weights(torch.tensor([[True, True], [False, False]]), kernel=2, layers=2)
    assert first.tolist() == [[1, 1 / 2, 1], [1, 1 / 2, 1], [0, 0, 0]]
    assert second.tolist() == [[1 / 4, 1 / 4], [1 / 2, 1 / 2]]


@pytest.mark.parametrize(("kernel", "layers"), [(1, 1), (3, 1), (2, 2), (5, 3), (9, 4)])
def test_the_size_of_the_map_is_kept(kernel: int, layers: int) -> None:
    valid = valid_cells(8, [3])
    head = ProposalHead(valid=valid, filled=False, dim=2, hidden=2, kernel=kernel, layers=layers)
    iou, contrastive = head(torch.randn(1, 2, 8, 8))
    assert iou.shape == contrastive.shape == (1, 8 + 7 + 6 + 5, 2)
