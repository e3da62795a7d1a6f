"""Kill, full disk, read-only folder, no memory, two at once: nothing half-written, nothing lost, and the same again."""

import errno
import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrnet.features.cache import FOLDER_VARIABLE
from tests.faults.jobs import JOBS, Job
from tests.faults.stage import Fault, Outcome, Running, fail_from, kill_at, stop_at
from tests.fuzz.inputs import Inputs

# Of the steps of a job, so many are looked at, evenly; every one of them with MRNET_FAULTS=all.
_ALL = os.environ.get("MRNET_FAULTS") == "all"
_MOST_STEPS = 10_000 if _ALL else 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield Inputs.make(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(params=JOBS)
def job(request: pytest.FixtureRequest, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    return anew(JOBS[request.param], inputs, tmp_path / "first", monkeypatch)


def anew(kind: type[Job], inputs: Inputs, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    folder.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder / "cache"))
    return kind(inputs, folder)


def run(job: Job, fault: Fault | None = None, limits: dict[int, int] | None = None) -> Outcome:
    return Running(job.words, job.folder, fault, limits).outcome()


@pytest.fixture
def whole(job: Job) -> object:
    """The result of the job without faults; how many steps it takes is in ``job.steps`` from then on."""
    counts = memoryview(mmap.mmap(-1, 8)).cast("q")  # shared with the process that counts

    def count(number: int) -> None:
        counts[0] = number + 1

    outcome = run(job, count)
    assert (outcome.status, "Traceback" in outcome.err) == (0, False), outcome.err
    job.steps = counts[0]
    return job.result()


def steps(job: Job) -> list[int]:
    count = min(job.steps, _MOST_STEPS)
    return sorted({index * (job.steps - 1) // max(count - 1, 1) for index in range(count)})


def goes_on(job: Job, whole: object) -> None:
    """The same command again ends as if nothing had been, and leaves nothing hidden behind."""
    job.result()
    outcome = run(job)
    assert outcome.status == 0, outcome.err
    assert job.result() == whole
    assert not list(job.folder.rglob(".*"))


def test_killed(job: Job, whole: object, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in steps(job):
        again = anew(type(job), inputs, tmp_path / f"killed-{step}", monkeypatch)
        assert run(again, kill_at(step)).status is None, f"not killed at step {step}"
        goes_on(again, whole)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
def test_nothing_can_be_written(
    job: Job, whole: object, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    for step in steps(job):
        again = anew(type(job), inputs, tmp_path / f"{reason}-{step}", monkeypatch)
        outcome = run(again, fail_from(step, reason))
        # What is only kept for the next time is done without.
        assert outcome.is_refusal() or outcome.status == 0, f"step {step}: {outcome}"
        assert "Traceback" not in outcome.err
        goes_on(again, whole)


def test_full_disk_within_a_file(
    job: Job, whole: object, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (0, 100, 3000, 8000, 20_000) if _ALL else (100, 3000):
        again = anew(type(job), inputs, tmp_path / f"full-{size}", monkeypatch)
        outcome = run(again, limits={resource.RLIMIT_FSIZE: size})
        assert outcome.is_refusal() or outcome.status == 0, f"{size} bytes: {outcome}"
        goes_on(again, whole)


def test_no_memory(
    job: Job, whole: object, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for more in [2**exponent for exponent in range(20, 28)] if _ALL else (2**20, 2**25):
        again = anew(type(job), inputs, tmp_path / f"memory-{more}", monkeypatch)
        outcome = run(again, limits={resource.RLIMIT_AS: used + more})
        assert outcome.is_refusal() or outcome.status in (0, 1), f"{more} bytes: {outcome}"
        assert "Traceback" not in outcome.err
        goes_on(again, whole)


def test_two_at_once(
    job: Job, whole: object, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in steps(job):
        again = anew(type(job), inputs, tmp_path / f"two-{step}", monkeypatch)
        first = Running(again.words, again.folder, stop_at(step))
        assert first.stopped()
        second = run(again)
        # Refused, or done: where nothing is shared yet, or each does without what the other holds.
        assert second.is_refusal() or second.status == 0, f"step {step}: {second}"
        first.go_on()
        ended = first.outcome()
        assert ended.is_refusal() or ended.status == 0, f"step {step}: {ended}"
        assert 0 in (second.status, ended.status)
        goes_on(again, whole)
