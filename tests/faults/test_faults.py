"""Kill, full disk, read-only folder, no memory, two at once: nothing half-written, nothing lost, and the same again."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

import pytest

from mrnet.features.cache import FOLDER_VARIABLE
from tests.faults.jobs import JOBS, Job
from tests.faults.stage import Fault, Limits, Outcome, Running
from tests.fuzz.inputs import Inputs

# Of the steps of a job, so many are looked at, evenly; every one of them with MRNET_FAULTS=all.
_ALL = os.environ.get("MRNET_FAULTS") == "all"
_MOST_STEPS = 10_000 if _ALL else 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield Inputs.make(tmp_path_factory.mktemp("inputs"))


@dataclass(frozen=True)
class Case:
    """A job, and what it comes to without faults.

    Attributes:
        kind: of job.
        inputs: what it works on.
        folder: for the folders of its jobs.
        steps: how many it takes.
        result: as of the job.
        hidden: what it leaves that is hidden.
    """

    kind: type[Job]
    inputs: Inputs
    folder: Path
    steps: int
    result: Any
    hidden: set[Path]

    def anew(self, name: str) -> Job:
        return self.kind(self.inputs, self.folder / name)

    def some_steps(self) -> list[int]:
        count = min(self.steps, _MOST_STEPS)
        return sorted({index * (self.steps - 1) // max(count - 1, 1) for index in range(count)})

    def goes_on(self, job: Job) -> None:
        """What is there is whole, and the same command again ends as if nothing had been."""
        job.result()
        outcome = Running(job).outcome()
        assert outcome.status == 0, outcome.err
        assert job.result() == self.result
        assert hidden(job) == self.hidden


@pytest.fixture(scope="module", params=JOBS)
def case(request: pytest.FixtureRequest, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, folder = JOBS[request.param], tmp_path_factory.mktemp("jobs")
    job = kind(inputs, folder / "whole")
    outcome = Running(job).outcome()
    assert (outcome.status, "Traceback" in outcome.err) == (0, False), outcome.err
    return Case(kind, inputs, folder, outcome.steps, job.result(), hidden(job))


def hidden(job: Job) -> set[Path]:
    return {path.relative_to(job.folder) for path in job.folder.rglob(".*")}


def test_killed(case: Case) -> None:
    for step in case.some_steps():
        job = case.anew(f"killed-{step}")
        assert Running(job, Fault(step, SIGKILL)).outcome().status is None, f"not killed at step {step}"
        case.goes_on(job)


def test_nothing_can_be_written(case: Case) -> None:
    reasons = (errno.ENOSPC, errno.EROFS)
    for turn, step in enumerate(case.some_steps()):
        for reason in reasons if _ALL else (reasons[turn % 2],):
            job = case.anew(f"{errno.errorcode[reason]}-{step}")
            outcome = Running(job, Fault(step, error=reason)).outcome()
            # What is only kept for the next time is done without.
            assert outcome.is_refusal() or outcome.status == 0, f"step {step}: {outcome}"
            assert "Traceback" not in outcome.err
            case.goes_on(job)


def test_full_disk_within_a_file(case: Case) -> None:
    for size in (0, 100, 3000, 8000, 20_000) if _ALL else (100, 3000):
        job = case.anew(f"full-{size}")
        outcome = Running(job, limits=Limits(file_bytes=size)).outcome()
        assert outcome.is_refusal() or outcome.status == 0, f"{size} bytes: {outcome}"
        case.goes_on(job)


def test_no_memory(case: Case) -> None:
    for times in (1, 2, 4, 8, 16, 32) if _ALL else (1, 8):
        more = times * case.kind.least_memory
        job = case.anew(f"memory-{more}")
        outcome = Running(job, limits=Limits(more_bytes=more)).outcome()
        assert outcome.is_refusal() or outcome.status in (0, 1), f"{more} bytes: {outcome}"
        assert "Traceback" not in outcome.err
        case.goes_on(job)


def test_two_at_once(case: Case) -> None:
    for step in case.some_steps():
        job = case.anew(f"two-{step}")
        first = Running(job, Fault(step, SIGSTOP))
        assert first.stopped()
        second = Running(job).outcome()
        # Refused, or done: where nothing is shared yet, or each does without what the other holds.
        assert second.is_refusal() or second.status == 0, f"step {step}: {second}"
        first.go_on()
        ended: Outcome = first.outcome()
        assert ended.is_refusal() or ended.status == 0, f"step {step}: {ended}"
        assert 0 in (second.status, ended.status)
        case.goes_on(job)
