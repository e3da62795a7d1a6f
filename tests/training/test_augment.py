"""Videos as training shows them, by hand."""

from collections.abc import Callable

import pytest
import torch

from mrnet.config.run import RunConfig
from mrnet.data.dataset import Batch
from mrnet.errors import ConfigError
from mrnet.training.augment import paste_moments
from mrnet.types import Query, Span, VideoRecord


def batch() -> Batch:
    """Videos a and b of ten rows and ten seconds; all rows of a are 1, those of b are 2."""
    records = tuple(
        VideoRecord(name, 10.0, tuple(Query("q", (Span(1, 4),), f"{name}#{i}") for i in range(count)))
        for name, count in (("a", 2), ("b", 1))
    )
    return Batch(
        video=torch.tensor([1.0, 2.0])[:, None, None].expand(2, 10, 3),
        queries=torch.arange(8.0).view(2, 2, 2),
        query_mask=torch.tensor([[True, True], [True, False]]),
        duration_s=torch.full((3,), 10.0),
        moments=torch.tensor([[[1.0, 4.0], [7.0, 8.0]], [[5.0, 9.0]] * 2, [[0.4, 0.6]] * 2]),
        records=records,
    )


def test_every_query_gets_a_video_of_its_own() -> None:
    given = batch()
    shown = paste_moments(given, 0.0)
    assert shown.video[..., 0].tolist() == [[1.0] * 10, [1.0] * 10, [2.0] * 10]
    assert shown.queries.tolist() == [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]]]
    assert shown.query_mask.tolist() == [[True], [True], [True]]
    assert [record.video_id for record in shown.records] == ["a", "a", "b"]
    assert shown.moments is given.moments
    assert shown.duration_s is given.duration_s


def test_what_is_outside_of_the_moments_is_another_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randperm", lambda _count, device: torch.tensor([2, 1, 0], device=device))
    shown = paste_moments(batch(), 1.0).video[..., 0]
    assert shown[0].tolist() == [2, 1, 1, 1, 2, 2, 2, 1, 2, 2]  # rows have their middles at 0.5 s, 1.5 s, ...
    assert shown[1].tolist() == [1] * 10  # drawn as its own other
    assert shown[2].tolist() == [2] + [1] * 9


def test_a_half_of_the_queries() -> None:
    torch.manual_seed(0)
    changed = [(paste_moments(batch(), 0.5).video[0] != 1).any().item() for _ in range(400)]
    # Half of them, of which a third draws b.
    assert 40 < sum(changed) < 95


def test_it_takes_single_queries_and_no_contrast(tiny: Callable[..., RunConfig]) -> None:
    plain = {"contrastive_head": False}
    with pytest.raises(
        ConfigError, match=r"train.paste shows every query a video of its own: it takes train.protocol"
    ):
        tiny(model=plain, train={"paste": 0.5, "protocol": "joint"}, loss={"contrastive_weight": 0.0})
    with pytest.raises(ConfigError, match=r"train.paste takes loss.contrastive_weight 0"):
        tiny(train={"paste": 0.5, "protocol": "single"}, loss={"contrastive_weight": 0.1})
