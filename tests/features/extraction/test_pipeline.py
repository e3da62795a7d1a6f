"""The pipeline on a counting backbone: who shares a batch, whose failure is whose, and how much is held."""

import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.errors import VideoCutOffError, VideoError
from mrnet.features.backbone import Modality
from mrnet.features.extraction.pipeline import Outcome, encode_all
from mrnet.media.cores import Cores
from mrnet.provenance import Provenance

Input = tuple[str, int]


class Counting:
    """A source ``"NAME 3"`` has three inputs; input i of it gives the rows ``[i], [i]``."""

    kind: Modality = "video"
    name, dim, revision = "counting", 1, "1"
    rate: float | None = 1.0

    def __init__(self, batch_size: int = 4) -> None:
        self.batch_size = batch_size
        self.batches: list[list[Input]] = []
        self.begun: list[str] = []
        self.prepared = 0
        self.encoded = 0
        self.most_held = 0

    def prepare(self, source: str | Path) -> Iterator[Input]:
        name, count = str(source).split()
        self.begun.append(name)
        for index in range(int(count)):
            if name.startswith("cut") and index == int(name[3:]):
                raise VideoCutOffError(f"{name}: ends; record it again")
            if name == "broken" and index == 1:
                raise VideoError("broken: stops; record it again")
            if name == "odd":
                raise ZeroDivisionError("by zero")
            if name == "huge":
                raise MemoryError
            self.prepared += 1
            yield name, index

    def encode(self, inputs: Sequence[Input]) -> list[np.ndarray]:
        self.batches.append(list(inputs))
        self.most_held = max(self.most_held, self.prepared - self.encoded)
        for name, index in inputs:
            if name == "guilty" and index == 1:
                raise RuntimeError("no such kernel")
            if name == "greedy":
                raise MemoryError
            if name == "stop":
                raise KeyboardInterrupt
        self.encoded += len(inputs)
        return [np.full((2, 1), index, np.float32) for _, index in inputs]

    def provenance(self) -> Provenance:
        return Provenance(backbone=self.name, dim=1, rows_per_s=1.0, revision="1")


def encode(backbone: Counting, *sources: str, workers: int = 1) -> dict[str, Any]:
    outcomes = encode_all({source.split()[0]: source for source in sources}, backbone, workers)
    return {name: plain(outcome) for name, outcome in outcomes}


def plain(outcome: Outcome) -> Any:
    return outcome if isinstance(outcome, str) else outcome[:, 0].tolist()


def test_batches_are_filled_across_sources() -> None:
    backbone = Counting(batch_size=4)
    assert encode(backbone, "a 3", "b 2", "c 4") == {
        "a": [0, 0, 1, 1, 2, 2],
        "b": [0, 0, 1, 1],
        "c": [0, 0, 1, 1, 2, 2, 3, 3],
    }
    assert backbone.batches == [
        [("a", 0), ("a", 1), ("a", 2), ("b", 0)],
        [("b", 1), ("c", 0), ("c", 1), ("c", 2)],
        [("c", 3)],
    ]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers(workers: int) -> None:
    counts = {f"v{index}": index % 5 + 1 for index in range(20)}
    found = encode(Counting(batch_size=3), *(f"{name} {n}" for name, n in counts.items()), workers=workers)
    assert found == {name: [index for index in range(n) for _ in "xx"] for name, n in counts.items()}


def test_begun_in_order() -> None:
    backbone = Counting()
    encode(backbone, "c 1", "a 1", "b 1")
    assert backbone.begun == ["c", "a", "b"]


def test_each_is_given_as_soon_as_it_is_known() -> None:
    backbone = Counting(batch_size=2)
    outcomes = encode_all({"a": "a 2", "b": "b 1000"}, backbone, 1)
    assert next(outcomes)[0] == "a"
    assert backbone.batches == [[("a", 0), ("a", 1)]]
    outcomes.close()


def test_sources_prepared_at_a_time_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cores, together, lent = Cores(4), threading.Barrier(2), {}

    def prepare(_: Counting, source: str | Path) -> Iterator[Input]:
        with cores.lend() as lent[str(source)]:
            if source != "last 1":
                together.wait(timeout=300)  # the first two are under way at a time
            yield "any", 0

    monkeypatch.setattr(Counting, "prepare", prepare)
    encode(Counting(), "a 1", "b 1", workers=2)
    assert lent == {"a 1": 2, "b 1": 2}
    encode(Counting(), "last 1", workers=2)
    assert lent["last 1"] == 4


def test_query_rows_are_averaged() -> None:
    backbone = Counting()
    backbone.kind = "speech"
    assert encode(backbone, "a 3") == {"a": [1.0]}


def test_failures_stop_no_other_source() -> None:
    backbone = Counting(batch_size=4)
    assert encode(backbone, "a 2", "broken 3", "odd 1", "empty 0", "guilty 3", "b 2") == {
        "a": [0, 0, 1, 1],
        "broken": "broken: stops; record it again",
        "odd": "ZeroDivisionError: by zero",
        "empty": "there is nothing in it to encode",
        "guilty": "RuntimeError: no such kernel",
        "b": [0, 0, 1, 1],
    }
    together = [("guilty", 1), ("guilty", 2), ("b", 0), ("b", 1)]
    assert backbone.batches[1] == together
    assert sorted(backbone.batches[2:]) == [together[2:], together[:2]]  # one by one


@pytest.mark.parametrize("batch_size", [1, 4])
def test_of_a_video_that_ends_before_its_time_there_is_what_there_is_if_wanted(batch_size: int) -> None:
    sources = {"a": "cut0 9", "b": "cut2 9", "c": "broken 9"}
    failed = dict(encode_all(sources, Counting(batch_size), 1))
    assert failed["b"] == "cut2: ends; record it again"
    taken = {name: plain(rows) for name, rows in encode_all(sources, Counting(batch_size), 1, take_cut_off=True)}
    assert taken == {
        "a": "cut0: ends; record it again",
        "b": [0, 0, 1, 1],
        "c": "broken: stops; record it again",
    }


def test_failed_source_is_not_prepared_further() -> None:
    backbone = Counting(batch_size=2)
    assert encode(backbone, "guilty 1000000", "a 1") == {"guilty": "RuntimeError: no such kernel", "a": [0, 0]}
    assert backbone.prepared < 100


def test_held_inputs_do_not_grow_with_a_source() -> None:
    backbone = Counting(batch_size=4)
    encode(backbone, "a 500", "b 500", workers=2)
    # Queued (2 + 4), in the batch (4), and one in the hand of each thread.
    assert backbone.most_held <= 12


def test_rows_are_kept_in_one_piece() -> None:
    """Not as the many arrays that batches give, which would lie scattered among those of later batches."""
    given: list[weakref.ref[np.ndarray]] = []

    class Watched(Counting):
        def encode(self, inputs: Sequence[Input]) -> list[np.ndarray]:
            rows = super().encode(inputs)
            given.extend(weakref.ref(row) for row in rows)
            return rows

        def prepare(self, source: str | Path) -> Iterator[Input]:
            for item in super().prepare(source):
                assert sum(row() is not None for row in given) <= 3 * self.batch_size
                yield item

    assert encode(Watched(), "a 500")["a"] == [index for index in range(500) for _ in range(2)]
    assert len(given) == 500


@pytest.mark.parametrize("name", ["huge", "greedy"])
def test_out_of_memory_ends_all(name: str) -> None:
    with pytest.raises(MemoryError):
        encode(Counting(), f"{name} 4", "a 4")


def test_interrupt_stops_the_threads() -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        encode(Counting(), "stop 1000000", "a 1000000", workers=2)
    assert threading.active_count() == before


def test_interrupt_does_not_wait_for_a_thread_deep_in_a_decoder() -> None:
    released, went_on = threading.Event(), threading.Event()

    class Stuck(Counting):
        def prepare(self, source: str | Path) -> Iterator[Input]:
            yield from super().prepare(source)
            if source == "a 0":
                released.wait(300)
                went_on.set()

    with pytest.raises(KeyboardInterrupt):
        encode(Stuck(batch_size=1), "a 0", "stop 5", workers=2)
    assert not went_on.is_set()
    released.set()


def test_nothing_to_do() -> None:
    assert encode(Counting()) == {}


def test_who_watches_is_told_how_far_each_is() -> None:
    told: list[tuple[str, int]] = []
    outcomes = dict(
        encode_all({"a": "a 6"}, Counting(batch_size=4), 1, watch=lambda name, count: told.append((name, count)))
    )
    assert len(outcomes["a"]) == 12
    assert [each for each in dict.fromkeys(told) if each[1]] == [("a", 8), ("a", 12)]


def test_who_watches_may_end_it_even_where_nothing_comes() -> None:
    class Stop(BaseException):
        pass

    class Stuck(Counting):
        def prepare(self, source: str | Path) -> Iterator[Input]:
            yield from super().prepare(source)
            hang.wait()

    hang = threading.Event()
    calls: list[int] = []

    def watch(_: str, count: int) -> None:
        calls.append(count)
        if len(calls) == 3:
            raise Stop

    with pytest.raises(Stop):
        list(encode_all({"a": "a 2"}, Stuck(batch_size=4), 1, watch=watch))
    hang.set()
    assert calls == [0, 0, 0]
