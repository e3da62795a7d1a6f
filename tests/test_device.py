"""Where networks run."""

import pytest
import torch

from mrnet.device import choose_device
from mrnet.errors import ConfigError


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_best_there_is(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    asked = []
    monkeypatch.setattr(torch, "empty", lambda _, device: asked.append(device) or torch.zeros(0))
    choose_device(None)
    assert asked == [chosen]


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_where_there_is_one() -> None:
    assert choose_device(None) == choose_device("cuda") == torch.device("cuda", 0)


def test_devices_that_are_not_there() -> None:
    for device in ("gpu", "cuda:99"):
        with pytest.raises(
            ConfigError, match=rf"^device '{device}' cannot be used here \(.+\); use another, cpu for "
        ):
            choose_device(device)
