"""Extraction on a Ray cluster: every actor has the backbone, and sources go to whichever is free."""

import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrnet.errors import ConfigError, FeatureError, one_line
from mrnet.features.backbone import Backbone, Modality
from mrnet.features.extraction.extract import Report, collect
from mrnet.features.extraction.pipeline import Outcome, Outcomes, Source, encode_all
from mrnet.features.registry import REGISTRY, make_backbone
from mrnet.features.store.writer import StoreWriter

# Sources that an actor is given, and gives back, at a time: few, as a kill loses them, but enough for a batch.
_SOURCES: Mapping[Modality, int] = {"video": 1, "speech": 8, "text": 64}
# How often they are begun, if the actor dies of them: a decoder crashes, memory runs out, or the machine goes.
_ATTEMPTS = 2


@dataclass(frozen=True)
class BackboneSpec:
    """What actors make their backbone from: the arguments of :func:`mrnet.features.registry.make_backbone`."""

    kind: Modality
    name: str
    rate: float | None = None
    device: str | None = None

    def make(self) -> Backbone:
        return make_backbone(self.kind, self.name, rate=self.rate, device=self.device)

    @property
    def uses_gpu(self) -> bool:
        """Whether its network would run on a GPU where there is one."""
        family, colon, _ = self.name.partition(":")
        networks = {entry.name for entry in REGISTRY if entry.kind == self.kind and "device" in entry.options}
        return family + colon in networks and (self.device is None or self.device.startswith("cuda"))


def extract_with_ray(
    sources: Mapping[str, Source], spec: BackboneSpec, writer: StoreWriter, *, workers: int | None = None
) -> Report:
    """As :func:`mrnet.features.extraction.extract.extract`, on the cluster of ``RAY_ADDRESS``, or on this machine.

    Args:
        sources: id -> file, under a path where the workers see it too; for a text backbone, the sentence.
        spec: the encoder.
        writer: the store, written here, completed at the end.
        workers: actors at work at a time; as the cluster has room for if left out.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be reached.
        FeatureError: the store cannot be written, or the job as a whole fails.
    """
    with _cluster() as ray:
        return collect(sources, spec.kind, writer, lambda todo: _outcomes(ray, todo, spec, workers))


def encode_with_ray(sources: Mapping[str, Source], spec: BackboneSpec, *, take_cut_off: bool = False) -> Outcomes:
    """As :func:`mrnet.features.extraction.pipeline.encode_all`, where :func:`extract_with_ray` would.

    Raises:
        ConfigError, FeatureError: as there.
    """
    with _cluster() as ray:
        yield from _outcomes(ray, sources, spec, take_cut_off=take_cut_off)


def _outcomes(
    ray: Any,
    sources: Mapping[str, Source],
    spec: BackboneSpec,
    workers: int | None = None,
    *,
    take_cut_off: bool = False,
) -> Outcomes:
    import pyarrow as pa

    if not sources:
        return
    # As JSON, whose ASCII carries what Arrow refuses: half a surrogate pair in a sentence.
    entries = [
        {"id": source_id, "source": json.dumps(source if spec.kind == "text" else str(Path(source).absolute()))}
        for source_id, source in sources.items()
    ]
    size = _SOURCES[spec.kind]
    blocks = [pa.Table.from_pylist(entries[start : start + size]) for start in range(0, len(entries), size)]
    resources = ray.cluster_resources()
    gpu = spec.uses_gpu and resources.get("GPU", 0) >= 1
    room = max(int(resources.get("GPU" if gpu else "CPU", 1)), 1)
    results = ray.data.from_arrow(blocks).map_batches(
        _Encoder,
        fn_constructor_args=(spec, take_cut_off, ray.remote(num_cpus=0)(_Attempts).remote()),
        batch_size=size,
        batch_format="pyarrow",
        # None queues at an actor: a video must not wait behind a long one while another actor is free.
        compute=ray.data.ActorPoolStrategy(
            size=min(workers or room, len(blocks)), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=1,
        num_gpus=1 if gpu else None,
    )
    try:
        # Without reading ahead, for which a result would wait for the one after it.
        for table in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for result in table.to_pylist():
                rows = np.frombuffer(result["rows"], np.float32).reshape(-1, result["dim"]).copy()
                yield result["id"], result["reason"] or rows
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise FeatureError(f"the Ray job failed: {reason}; what it finished is kept, run it again") from error


class _Encoder:
    """Encodes blocks of sources in an actor."""

    def __init__(self, spec: BackboneSpec, take_cut_off: bool, attempts: Any) -> None:
        self._backbone = spec.make()
        self._take_cut_off = take_cut_off
        self._attempts = attempts

    def __call__(self, block: Any) -> Any:
        import pyarrow as pa
        import ray

        sources = {entry["id"]: json.loads(entry["source"]) for entry in block.to_pylist()}
        if ray.get(self._attempts.begin.remote(next(iter(sources)))) > _ATTEMPTS:
            reason = f"the process that encoded it died {_ATTEMPTS} times; it may need more memory than there is"
            return pa.Table.from_pylist([_packed(source_id, reason) for source_id in sources])
        encoded = encode_all(sources, self._backbone, len(sources), take_cut_off=self._take_cut_off)
        return pa.Table.from_pylist([_packed(source_id, outcome) for source_id, outcome in encoded])


class _Attempts:
    """Counts how often each block was begun, by its first source."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}

    def begin(self, source_id: str) -> int:
        self._begun[source_id] = self._begun.get(source_id, 0) + 1
        return self._begun[source_id]


def _packed(source_id: str, outcome: Outcome) -> dict[str, Any]:
    """A line of a result table."""
    if isinstance(outcome, str):
        return {"id": source_id, "rows": b"", "dim": 1, "reason": outcome}
    return {"id": source_id, "rows": outcome.tobytes(), "dim": outcome.shape[1], "reason": ""}


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected and quiet; a connection made here ends here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = os.environ.get("RAY_ADDRESS", "local")
    if (
        address == "local"
    ):  # asks for no others, on any system: Ray would listen on all of this machine's addresses
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f"--engine ray needs Ray ({error}): pip install 'mrnet[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            _knock(address)
            with _silence():  # the level set above is announced
                ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, RuntimeError, ValueError) as error:
            reason = one_line(error)
            raise ConfigError(
                f"no Ray cluster at {address} ({reason}): correct RAY_ADDRESS, or unset it"
            ) from None
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody answers: Ray itself would try for many minutes, deaf to Ctrl-C."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _silence() -> Iterator[None]:
    """Lets what native code writes to standard error go nowhere."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
