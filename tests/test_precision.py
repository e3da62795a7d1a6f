"""Double stays double, half goes up, and what is made has torch's default type."""

from collections.abc import Callable, Iterator

import pytest
import torch

from mrnet.config.model import ModelConfig
from mrnet.model.mrnet import MRNet
from mrnet.model.retention import decay_mask
from mrnet.precision import at_least_float32
from mrnet.temporal import cell_moments, iou_map, resample


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_at_least_float32(given: torch.dtype, kept: torch.dtype) -> None:
    assert torch.equal(at_least_float32(torch.tensor([0.5], dtype=given)), torch.tensor([0.5], dtype=kept))


@pytest.mark.usefixtures("float64")
def test_geometry_in_double_precision() -> None:
    moments = torch.tensor([[[0.1, 0.3]]])
    # Of the cell [0.1, 0.2] of a video of 1 s in tenths.
    assert iou_map(moments, torch.tensor([1.0]), 10)[0, 1, 1].item() == pytest.approx(0.5, rel=1e-15)
    assert cell_moments(torch.tensor([[0, 0]]), 1.0, 3)[0, 1].item() == pytest.approx(1 / 3, rel=1e-15)
    assert decay_mask(3, 0.98, bidirectional=False, doubled_diagonal=False)[2, 0].item() == pytest.approx(
        0.98**2, rel=1e-15
    )
    rows = resample(torch.tensor([[3.0, 4.0]]), 2)
    assert rows.tolist() == [[0.6, 0.8], [0.6, 0.8]]


def test_features_are_resampled_in_the_precision_they_have() -> None:
    assert resample(torch.ones(3, 2, dtype=torch.float16), 2).dtype == torch.float32
    assert resample(torch.ones(3, 2, dtype=torch.float64), 2).dtype == torch.float64


def test_both_routes_in_double_precision(tiny_model: Callable[..., ModelConfig]) -> None:
    torch.manual_seed(0)
    model = MRNet(tiny_model()).double().eval()
    clips = torch.randn(2, 8, 8, dtype=torch.float64)
    embeddings = []
    for route in ("dense", "tiled"):
        model.proposal_head.route = route
        embeddings.append(torch.stack(model.proposal_head(model.proposal_map(clips))))
    dense, tiled = embeddings
    assert dense.dtype == tiled.dtype == torch.float64
    assert (dense - tiled).abs().max() < 1e-13 * dense.abs().max()
