"""A fixture for tests that run tiny models, to be imported into their conftest."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads cost such tiny models far more than they gain, all the more on a busy machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the processes started here
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
