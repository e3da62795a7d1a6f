"""Short work is done one by one, and few wait."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from mrnet.web.refusals import Busy
from mrnet.web.turns import Turns


def test_one_at_a_time_and_few_waiting() -> None:
    at_work: list[int] = []
    most = 0
    lock = threading.Lock()

    def work() -> int:
        nonlocal most
        with lock:
            at_work.append(1)
            most = max(most, len(at_work))
        time.sleep(0.01)
        with lock:
            at_work.pop()
        return 7

    async def all_at_once() -> list[int | BaseException]:
        turns = Turns(3, "tests")
        return await asyncio.gather(*(turns.run(work) for _ in range(5)), return_exceptions=True)

    results = asyncio.run(all_at_once())
    assert results[:3] == [7, 7, 7]
    assert [type(result) for result in results[3:]] == [Busy, Busy]
    assert str(results[3]) == "too many wait for tests already; ask again soon"
    assert most == 1


def test_a_failure_gives_its_turn_back() -> None:
    async def both() -> int:
        turns = Turns(1, "tests")
        with pytest.raises(ZeroDivisionError):
            await turns.run(lambda: 1 // 0)
        return await turns.run(lambda: 7)

    assert asyncio.run(both()) == 7


def test_the_process_does_not_wait_for_it() -> None:
    script = """if True:
        import asyncio, threading
        from mrnet.web.turns import Turns

        async def ask():
            begun = threading.Event()
            task = asyncio.create_task(Turns(1, "tests").run(lambda: (begun.set(), threading.Event().wait())))
            await asyncio.to_thread(begun.wait)
            task.cancel()

        asyncio.run(ask())
        print("over")
    """
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120).stdout
        == "over\n"
    )


def test_who_no_longer_waits_is_passed_over() -> None:
    done: list[str] = []

    async def three() -> None:
        turns, hold = Turns(3, "tests"), threading.Event()
        first = asyncio.create_task(turns.run(lambda: hold.wait(60)))
        second = asyncio.create_task(turns.run(lambda: done.append("second")))
        third = asyncio.create_task(turns.run(lambda: done.append("third")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(first, third)

    asyncio.run(three())
    assert done == ["third"]
