"""Leaving frames undecoded changes no frame that is given."""

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from mrnet.media import video
from mrnet.media.sampling import Ticks, UnexpectedFrames, decode_shown
from mrnet.media.video import sample_frames

HEIGHT, WIDTH, NUM_FRAMES = 48, 64, 90
SIZE = (12, 16)
RATES = (0.5, 2, 8, 60)


def scenes(count: int = NUM_FRAMES) -> Iterator[np.ndarray]:
    """Texture that drifts, with a cut every 37 frames: frames differ, and are built from each other."""
    texture = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1)
    for k in range(count):
        y, x = (2 * k + k // 37 * 90) % 250, (3 * k + k // 37 * 50) % 230
        yield texture[y : y + HEIGHT, x : x + WIDTH]


def write(
    path: Path,
    codec: str,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    times_ms: list[int] | None = None,
    count: int = NUM_FRAMES,
) -> None:
    """Frames at 30 a second, or at given times."""
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"no encoder {codec} here")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.thread_count = 1
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for k, array in enumerate(scenes(count)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def every_frame(path: Path) -> tuple[list[float], list[np.ndarray], float]:
    """Times and pictures of all frames, decoded one by one, and the time at which the last one ends."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.video[0]))
        last_s = float(frames[-1].duration * frames[-1].time_base)
        times = [k * last_s if f.time is None else f.time - frames[0].time for k, f in enumerate(frames)]
        pictures = [
            frame.reformat(
                width=SIZE[1], height=SIZE[0], format="rgb24", interpolation=Interpolation.AREA
            ).to_ndarray()
            for frame in frames
        ]
    return times, pictures, times[-1] + last_s


@pytest.fixture
def num_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames come out of the decoder: a list with one number."""
    counter = [0]

    def counted(decode: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def wrapper(*arguments: Any) -> Iterator[Any]:
            for frame in decode(*arguments):
                counter[0] += 1
                yield frame

        return wrapper

    monkeypatch.setattr(video, "decode_shown", counted(video.decode_shown))
    monkeypatch.setattr(video, "decode_all", counted(video.decode_all))
    return counter


def check(path: Path, num_decoded: list[int]) -> int:
    """Compare with a full decode at several rates; returns how many frames were decoded at the lowest."""
    times, pictures, end_s = every_frame(path)
    counts = []
    for rate in RATES:
        num_decoded[0] = 0
        sampled = list(sample_frames(path, rate, SIZE))
        counts.append(num_decoded[0])
        ticks = [k / rate for k in range(max(int(end_s * rate) + 2, 1)) if k / rate < end_s - 1e-3 or k == 0]
        assert [time_s for time_s, _ in sampled] == ticks
        for time_s, picture in sampled:
            # A millisecond of tolerance, and a little for the arithmetic.
            latest = max(k for k, frame_s in enumerate(times) if frame_s <= time_s + 1e-3 + 1e-9)
            np.testing.assert_array_equal(picture, pictures[latest], err_msg=f"at {time_s} s, {rate} a second")
    return counts[0]


# What becomes of the frames that are not shown: most are left out, some, or none.
MOST, SOME, NONE = range(3)


@pytest.mark.parametrize(
    ("name", "codec", "options", "left_out"),
    [
        ("b-frames.mp4", "libx264", {"bf": "3"}, SOME),
        ("pyramid.mkv", "libx264", {"x264-params": "bframes=8:b-adapt=0:b-pyramid=normal:keyint=48"}, SOME),
        ("open.mp4", "libx264", {"x264-params": "open-gop=1:keyint=16:min-keyint=16:bframes=3:b-adapt=0"}, SOME),
        ("open.ts", "libx264", {"x264-params": "open-gop=1:keyint=16:min-keyint=16:bframes=3:b-adapt=0"}, SOME),
        ("refresh.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=2:b-adapt=0"}, SOME),
        ("refresh.ts", "libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=2:b-adapt=0"}, SOME),
        ("short.mp4", "libx264", {"g": "10"}, MOST),
        ("short.ts", "libx264", {"g": "10"}, MOST),
        ("intra.mp4", "libx264", {"g": "1"}, MOST),
        ("h264.avi", "libx264", {"bf": "0"}, NONE),
        ("bare.h264", "libx264", {"bf": "2"}, NONE),
        ("interlaced.mp4", "libx264", {"x264-params": "interlaced=1:bframes=3"}, NONE),
        ("hevc.mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}, SOME),
        ("hevc.ts", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=24"}, SOME),
        (
            "layers.mp4",
            "libx265",
            {"x265-params": "log-level=none:temporal-layers=3:bframes=7:b-adapt=0"},
            NONE,
        ),
        ("mpeg4.mp4", "mpeg4", {"bf": "2", "g": "12"}, SOME),
        ("mpeg4.mkv", "mpeg4", {"bf": "2", "g": "12"}, SOME),
        ("mpeg4.avi", "mpeg4", {"bf": "2", "g": "12"}, NONE),
        ("mpeg2.ts", "mpeg2video", {"bf": "2", "g": "15", "b": "2M"}, SOME),
        ("vp9.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, NONE),
        ("av1.mp4", "libsvtav1", {"preset": "13"}, NONE),
    ],
)
def test_frames_are_those_of_a_full_decode(
    name: str, codec: str, options: dict[str, str], left_out: int, tmp_path: Path, num_decoded: list[int]
) -> None:
    write(tmp_path / name, codec, options)
    count = check(tmp_path / name, num_decoded)
    assert count <= 30 if left_out == MOST else count < NUM_FRAMES if left_out == SOME else count == NUM_FRAMES


@pytest.mark.parametrize("name", ["motion.avi", "motion.mkv"])
def test_of_motion_jpeg_only_what_is_shown_is_decoded(name: str, tmp_path: Path, num_decoded: list[int]) -> None:
    write(tmp_path / name, "mjpeg", pix_fmt="yuvj420p")
    assert check(tmp_path / name, num_decoded) <= 5


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_variable_frame_rate(name: str, tmp_path: Path, num_decoded: list[int]) -> None:
    gaps_ms = np.random.default_rng(1).choice([1, 17, 33, 33, 33, 250, 900], NUM_FRAMES)
    write(tmp_path / name, "libx264", {"bf": "3", "g": "20"}, times_ms=(500 + np.cumsum(gaps_ms)).tolist())
    assert check(tmp_path / name, num_decoded) < NUM_FRAMES


def test_a_start_and_an_end_cut_away_by_an_edit_list(tmp_path: Path, num_decoded: list[int]) -> None:
    write(tmp_path / "whole.mp4", "libx264", {"bf": "3"})
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        source = whole.streams.video[0]
        stream = cut.add_stream_from_template(source)
        for packet in whole.demux(source):
            if packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                shift = round(0.7 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                cut.mux(packet)
    assert len(every_frame(tmp_path / "cut.mp4")[0]) == NUM_FRAMES - 21
    assert check(tmp_path / "cut.mp4", num_decoded) < NUM_FRAMES - 21

    data = bytearray((tmp_path / "cut.mp4").read_bytes())
    at, clock = data.index(b"elst") + 12, data.index(b"mvhd") + 16
    units_per_s = int.from_bytes(data[clock : clock + 4])
    assert int.from_bytes(data[at : at + 4]) == round(2.3 * units_per_s)  # shown
    data[at : at + 4] = round(1.333 * units_per_s).to_bytes(4)
    (tmp_path / "short.mp4").write_bytes(data)
    assert len(every_frame(tmp_path / "short.mp4")[0]) == 40
    assert check(tmp_path / "short.mp4", num_decoded) < 40


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "open-gop=1:keyint=16:bframes=3:b-adapt=0"}),
        ("mpeg2video", {"bf": "2", "g": "15", "b": "2M"}),
    ],
)
def test_a_recording_that_begins_amid_a_picture_group(
    codec: str, options: dict[str, str], tmp_path: Path, num_decoded: list[int]
) -> None:
    write(tmp_path / "whole.ts", codec, options)
    data = (tmp_path / "whole.ts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[len(data) // 3 // 188 * 188 :])
    times, *_ = every_frame(tmp_path / "cut.ts")
    assert 10 < len(times) < NUM_FRAMES - 15
    assert check(tmp_path / "cut.ts", num_decoded) < len(times)


class Packets:
    """A container whose packets are changed on the way to the decoder, and counted."""

    def __init__(self, container: InputContainer, **changes: Any) -> None:
        self._container, self._changes = container, changes
        self.format = container.format
        self.num_read = self.num_decoded = self.most_waiting = 0

    def demux(self, stream: VideoStream) -> Iterator["Changed"]:
        for packet in self._container.demux(stream):
            self.num_read += 1
            yield Changed(self, packet, self._changes if packet.size else {})


class Changed:
    def __init__(self, source: Packets, packet: Any, changes: dict[str, Any]) -> None:
        self._source, self._packet, self._changes = source, packet, changes

    def __getattr__(self, name: str) -> Any:
        return self._changes.get(name) if name in self._changes else getattr(self._packet, name)

    def __bytes__(self) -> bytes:
        return bytes(self._packet)

    def decode(self) -> list[Any]:
        source = self._source
        source.most_waiting = max(source.most_waiting, source.num_read - source.num_decoded)
        source.num_decoded += 1
        return [frame for frame in self._packet.decode() if frame.pts != self._changes.get("swallowed")]


def decode(path: Path, rate: float, **changes: Any) -> tuple[list[int], Packets, bool]:
    """Timestamps of the frames that come out, what became of the packets, and whether all was as expected."""
    timestamps = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = Packets(container, **changes)
        try:
            for frame in decode_shown(packets, stream, Ticks(rate, stream.time_base)):  # type: ignore[arg-type]
                timestamps.append(frame.pts)
        except UnexpectedFrames:
            return timestamps, packets, False
    return timestamps, packets, True


def test_a_frame_that_does_not_come_out_is_missed(tmp_path: Path) -> None:
    write(tmp_path / "motion.mkv", "mjpeg", pix_fmt="yuvj420p")
    timestamps, _, expected = decode(tmp_path / "motion.mkv", 2)
    assert expected
    assert timestamps[-4:] == [1500, 2000, 2500, 2967]
    timestamps, _, expected = decode(tmp_path / "motion.mkv", 2, swallowed=2000)
    assert not expected
    assert timestamps[-1] == 1500


def test_packets_without_timestamps_are_all_decoded(tmp_path: Path) -> None:
    write(tmp_path / "motion.mkv", "mjpeg", pix_fmt="yuvj420p")
    assert decode(tmp_path / "motion.mkv", 2, pts=None)[2] is False
    # Without times of decoding nothing is known of what follows, so frames are decoded that might be shown.
    timestamps, packets, expected = decode(tmp_path / "motion.mkv", 2, dts=None)
    assert expected
    assert len(timestamps) == packets.num_decoded - 1 == NUM_FRAMES


def test_memory_is_bounded_whatever_the_timestamps_say(tmp_path: Path) -> None:
    write(tmp_path / "motion.mkv", "mjpeg", pix_fmt="yuvj420p", count=600)
    timestamps, packets, expected = decode(tmp_path / "motion.mkv", 60, dts=0)
    assert expected
    assert len(timestamps) == 600
    assert 250 < packets.most_waiting < 270
    write(tmp_path / "long.mp4", "libx264", {"preset": "ultrafast", "g": "600", "bf": "3"}, count=600)
    timestamps, packets, expected = decode(tmp_path / "long.mp4", 0.01)
    assert expected
    assert len(timestamps) < packets.num_decoded - 1 == 600
    assert 250 < packets.most_waiting < 270


def test_after_doubt_the_video_is_decoded_whole(
    tmp_path: Path, num_decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubtful(*arguments: Any) -> Iterator[Any]:
        yield from itertools.islice(decode_shown(*arguments), 20)
        raise UnexpectedFrames

    write(tmp_path / "b-frames.mp4", "libx264", {"bf": "3"})
    monkeypatch.setattr(video, "decode_shown", doubtful)
    assert check(tmp_path / "b-frames.mp4", num_decoded) == NUM_FRAMES
