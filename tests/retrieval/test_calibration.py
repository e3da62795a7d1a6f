"""Scores to probabilities against hand-worked values, and the regression against its own optimality."""

import math

import pytest
import torch

from mrnet.config.spec import Calibration
from mrnet.retrieval.calibration import calibrated, evidence, fit_logistic
from mrnet.retrieval.rank import rank
from mrnet.retrieval.scorer import Candidates
from mrnet.types import Moment

NONE = float("-inf")
SPANS = torch.tensor([[0.0, 2.0], [4.0, 6.0], [8.0, 9.0]])
SCORES = torch.tensor([[1.0, 3.0, NONE], [2.0, 2.0, -1.0]])
LEVELS = torch.tensor([[-5.0, -4.0, -9.0], [-1.0, -2.0, -3.0]])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_evidence_by_hand() -> None:
    three = pytest.approx(math.log(3))
    found = evidence(Candidates(SPANS, SCORES, LEVELS))
    assert found[0, 0].tolist() == [1, -5, 1, 2, three]  # score, level, beaten, by 2, among three
    assert found[0, 1].tolist() == [3, -4, 0, 0, three]
    assert found[1].tolist() == [[2, -1, 0, 0, three], [2, -2, 0, 0, three], [-1, -3, 1, 3, three]]
    assert evidence(Candidates(SPANS, SCORES))[1, 2].tolist() == [-1, 0, 1, 3, three]


def test_probabilities_by_hand() -> None:
    calibration = Calibration(bias=0.5, weights=(0.25, 0.125, -1, -0.5, 2), footage="x")
    found = calibrated(Candidates(SPANS, SCORES, LEVELS), calibration).probabilities
    assert found is not None
    among = 0.5 + 2 * math.log(3)
    assert found[0].tolist() == pytest.approx(
        [sigmoid(among + 0.25 - 0.625 - 1 - 1), sigmoid(among + 0.75 - 0.5), 0.0]
    )
    assert found[1, 2].item() == pytest.approx(sigmoid(among - 0.25 - 0.375 - 1 - 1.5))


@pytest.mark.parametrize("gap", [0.0, -0.5])
def test_no_moment_has_no_probability(gap: float) -> None:
    """Also where 0 times infinity would come in."""
    calibration = Calibration(bias=9, weights=(0, 0, 0, gap, 0), footage="x")
    nothing = Candidates(SPANS, torch.full((1, 3), NONE))
    for candidates in (nothing, Candidates(SPANS, SCORES[:1])):
        found = calibrated(candidates, calibration).probabilities
        assert found is not None
        assert found[candidates.scores == NONE].tolist() == [0.0] * int((candidates.scores == NONE).sum())


def test_moments_carry_probabilities_in_the_order_of_scores() -> None:
    candidates = Candidates(SPANS, SCORES[:1], probabilities=torch.tensor([[0.75, 0.5, 0.0]]))
    assert rank(candidates, 3, 0.5) == [[Moment(4.0, 6.0, 0.5), Moment(0.0, 2.0, 0.75)]]


def test_the_fit_finds_what_made_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20000, 2, generator=generator) * torch.tensor([3.0, 0.1]) + torch.tensor([5.0, -1.0])
    chance = (0.4 * x[:, 0] - 6 * x[:, 1] - 8).sigmoid()
    right = (torch.rand(20000, generator=generator) < chance).float()
    bias, weights = fit_logistic(x, right)
    assert bias == pytest.approx(-8, rel=0.1)
    assert weights == pytest.approx((0.4, -6), rel=0.1)
    # A regression with a bias promises on average what holds.
    promised = (x.double() @ torch.tensor(weights, dtype=torch.float64) + bias).sigmoid()
    assert promised.mean().item() == pytest.approx(right.mean().item(), abs=1e-4)


def test_constant_inputs_and_separable_data_are_survived() -> None:
    x = torch.stack([torch.arange(50.0), torch.zeros(50), torch.full((50,), math.log(190))], dim=1)
    right = (x[:, 0] >= 25).float()
    bias, weights = fit_logistic(x, right)
    assert weights[1] == 0
    assert weights[2] == pytest.approx(0, abs=1e-6)  # however its mean was rounded
    logits = bias + weights[0] * x[:, 0]
    assert math.isfinite(bias)
    assert bool(((logits > 0) == (right > 0)).all())
