"""Fields of a run together."""

from collections.abc import Callable

import pytest

from mrnet.config.recipes import load_recipe
from mrnet.config.run import RunConfig
from mrnet.errors import ConfigError


def test_iou_bounds_in_order(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(loss={"min_iou": 0.7, "max_iou": 0.7})
    assert str(caught.value) == "tiny: loss: min_iou 0.7 must be below max_iou 0.7"


def test_select_by_is_a_reported_metric(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(evaluation={"tious": [0.1, 0.5], "ranks": [1], "select_by": "R@1,IoU=0.7"})
    assert str(caught.value) == (
        "tiny: evaluation: select_by 'R@1,IoU=0.7' is none of the metrics R@1,IoU=0.1, R@1,IoU=0.5, mIoU"
    )
    chosen = tiny(evaluation={"tious": [0.1], "ranks": [1], "select_by": "mIoU"})
    assert chosen.evaluation.select_by == "mIoU"


def test_select_by_of_qvhighlights(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(evaluation={"metrics": "qvhighlights"})
    assert str(caught.value) == (
        "tiny: evaluation: select_by 'R@1,IoU=0.5' is none of the metrics MR-full-mAP, MR-full-mAP@0.5, "
        "MR-full-mAP@0.75, MR-full-R1@0.5, MR-full-R1@0.7"
    )


def test_ranks_beyond_the_moments_kept_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"evaluation\.ranks\.1: Input should be less than or equal to 10, got 20"
    ):
        load_recipe("demo", ["evaluation.ranks=[1,20]"])


@pytest.mark.parametrize("head", [True, False])
def test_a_contrastive_head_is_there_to_be_trained(head: bool, tiny: Callable[..., RunConfig]) -> None:
    """An untrained one would multiply scores, and the processes of a training would wait for its gradients."""
    weight = 0.0 if head else 0.1
    with pytest.raises(
        ConfigError, match=r"model.contrastive_head and loss.contrastive_weight go together: set both"
    ):
        tiny(model={"contrastive_head": head}, loss={"contrastive_weight": weight})
    config = tiny(model={"contrastive_head": head}, loss={"contrastive_weight": 0.1 - weight})
    assert config.model.contrastive_head == (config.loss.contrastive_weight > 0)


@pytest.mark.parametrize("betas", ["[0.9,1.0]", "[1.0,0.99]"])
def test_betas_are_below_1(betas: str) -> None:
    with pytest.raises(ConfigError, match=r"train.betas.[01]: Input should be less than 1, got 1.0"):
        load_recipe("demo", [f"train.betas={betas}"])
    assert load_recipe("demo", ["train.betas=[0.0,0.999]"]).train.betas == (0.0, 0.999)


def test_no_more_positives_than_proposals(tiny: Callable[..., RunConfig]) -> None:
    """Of 8 clips: 8 cells, then 7 + 6 + 5 at stride 1, and 2 + 1 at stride 2."""
    assert tiny(loss={"top_k": 29}).loss.top_k == 29
    with pytest.raises(ConfigError, match=r"loss.top_k 30: the proposal map has 29 valid cells; lower it"):
        tiny(loss={"top_k": 30})
