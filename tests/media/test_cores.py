"""How the processor's cores are shared out among the videos that are decoded."""

import threading
from collections.abc import Iterator

import pytest

from mrnet.media.cores import Cores, share_cores


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    share_cores(1)
    yield
    share_cores(1)


def test_one_video_decodes_on_all_cores_and_those_that_come_later_on_one() -> None:
    cores = Cores(4)
    with cores.lend() as first:
        with cores.lend() as second, cores.lend() as third:
            assert (first, second, third) == (4, 1, 1)
        with cores.lend() as later:
            assert later == 1
    with cores.lend() as again:
        assert again == 4


def test_videos_that_start_together_share() -> None:
    cores = Cores(4)
    share_cores(2)
    with cores.lend() as first, cores.lend() as second:
        assert (first, second) == (2, 2)
    share_cores(3)
    with cores.lend() as one_of_three:
        assert one_of_three == 1
    share_cores(8)
    with cores.lend() as one_of_many:
        assert one_of_many == 1


def test_cores_come_back_from_a_video_that_fails() -> None:
    cores = Cores(2)
    with pytest.raises(ValueError, match="broken"), cores.lend():
        raise ValueError("broken")
    with cores.lend() as again:
        assert again == 2


def test_sharing_is_a_matter_of_the_thread() -> None:
    cores, lent = Cores(4), []

    def work() -> None:
        share_cores(4)
        with cores.lend() as count:
            lent.append(count)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with cores.lend() as count:
        assert (lent, count) == ([1], 4)
