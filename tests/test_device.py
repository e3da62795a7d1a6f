"""Devices, and the threads that networks run on."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from mrnet.device import choose_device, num_workers, side_by_side
from mrnet.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_a_device_by_name() -> None:
    assert choose_device("cpu") == CPU


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device("abacus")
    message = str(caught.value)
    assert message.startswith("device 'abacus' cannot be used here (")
    assert message.endswith("); use another, cpu for one")
    assert "\n" not in message


def test_one_worker_a_thread_of_torch_and_no_more_than_items() -> None:
    assert [num_workers(CPU, count) for count in (0, 1, 3, 9)] == [1, 1, 3, 4]
    assert num_workers(torch.device("meta"), 9) == 1


def test_items_are_done_at_the_same_time_each_by_one_worker() -> None:
    """Three that wait for each other, by workers of which each is told a number of its own."""
    together = threading.Barrier(3)

    def work(worker: int, item: str) -> tuple[int, str, str]:
        together.wait(timeout=300)
        return worker, item, threading.current_thread().name

    found = side_by_side(work, ["a", "b", "c"], 3)
    assert [item for _, item, _ in found] == ["a", "b", "c"]
    assert {worker for worker, _, _ in found} == {0, 1, 2}
    assert threading.current_thread().name not in {thread for _, _, thread in found}


def test_a_worker_that_is_done_takes_the_next() -> None:
    """Of two workers one waits in the first item until the other has done all of the rest."""
    rest = threading.Semaphore(0)

    def work(worker: int, item: int) -> int:
        if item == 0:
            for _ in range(5):
                assert rest.acquire(timeout=300)
        else:
            rest.release()
        return worker

    first, *others = side_by_side(work, range(6), 2)
    assert others == [1 - first] * 5


@pytest.mark.parametrize(("workers", "each"), [(2, 2), (3, 1), (4, 1)])
def test_threads_of_torch_are_divided_and_given_back(workers: int, each: int) -> None:
    found = side_by_side(lambda _, __: torch.get_num_threads(), range(8), workers)
    assert found == [each] * 8
    assert torch.get_num_threads() == 4
    new: list[int] = []
    thread = threading.Thread(target=lambda: new.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert new == [4]  # no other thread is touched


def test_one_worker_is_the_caller() -> None:
    name = threading.current_thread().name
    assert side_by_side(lambda *given: (*given, threading.current_thread().name), [7], 1) == [(0, 7, name)]


def test_modes_are_those_of_the_caller() -> None:
    def modes(_: int, __: int) -> tuple[bool, bool]:
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    assert set(side_by_side(modes, range(4), 2)) == {(True, False)}
    with torch.no_grad():
        assert set(side_by_side(modes, range(4), 2)) == {(False, False)}
    with torch.inference_mode():
        assert set(side_by_side(modes, range(4), 2)) == {(False, True)}
    assert set(side_by_side(modes, range(4), 2)) == {(True, False)}


def test_what_a_worker_raises_is_raised_when_all_have_stopped() -> None:
    done: list[int] = []

    def work(_: int, item: int) -> None:
        if item == 0:
            raise ValueError("the first")
        done.append(item)

    with pytest.raises(ValueError, match="the first"):
        side_by_side(work, range(5), 2)
    assert done == [1, 2, 3, 4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_has_threads_of_its_own() -> None:
    program = """
import os, torch
from mrnet.device import side_by_side
torch.set_num_threads(2)
assert side_by_side(lambda _, item: item, range(4), 2) == [0, 1, 2, 3]
child = os.fork()
if child == 0:
    os._exit(0 if side_by_side(lambda _, item: item, range(4), 2) == [0, 1, 2, 3] else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "0\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the OpenMP of Linux for its settings")
@pytest.mark.parametrize(
    ("program", "environment", "spins"),
    [
        ("import mrnet, torch", {}, "0"),
        ("import mrnet, torch", {"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000"),
        ("import torch, mrnet", {}, "300000"),
    ],
)
def test_threads_that_wait_sleep(program: str, environment: dict[str, str], spins: str) -> None:
    """Unless the environment says otherwise, or torch was there before."""
    before = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env=before | environment | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in shown
