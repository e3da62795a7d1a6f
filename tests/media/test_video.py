"""Sampling by timestamp, writing, and what is said of files that will not decode."""

import itertools
import struct
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mrnet.errors import OutputError, VideoCutOffError, VideoError
from mrnet.media.video import VideoInfo, probe, sample_frames, write_video


def grey(level: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), level, dtype=np.uint8)


def noise(count: int) -> list[np.ndarray]:
    """Frames that compress badly, so that a file cut in half loses frames."""
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, 48, 64, 3), dtype=np.uint8))


def levels(path: Path, rate: float) -> tuple[list[float], list[int]]:
    """Tick times, and the index of the frame each shows in a video whose frame k is grey 20 k."""
    sampled = list(sample_frames(path, rate, (24, 32)))
    return [time_s for time_s, _ in sampled], [round(frame.mean() / 20) for _, frame in sampled]


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """Ten frames at 4 a second, frame k of grey 20 k."""
    path = tmp_path / "ramp.mp4"
    write_video(path, (grey(20 * k) for k in range(10)), 4)
    return path


def write_timed(path: Path, times_ms: list[int]) -> None:
    """Frame k of grey 20 k at a given time: a variable frame rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for k, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(grey(20 * k), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_faststart(path: Path, frames: list[np.ndarray]) -> None:
    """An .mp4 with its index at the front: cut short, it still opens."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())


def test_probe(ramp: Path) -> None:
    assert probe(ramp) == VideoInfo(ramp, 2.5, 4.0, 64, 48, 10)


def test_own_rate_gives_every_frame_once(ramp: Path) -> None:
    times, shown = levels(ramp, 4)
    assert times == [k / 4 for k in range(10)]
    assert shown == list(range(10))


def test_lower_rate_skips(ramp: Path) -> None:
    assert levels(ramp, 1) == ([0.0, 1.0, 2.0], [0, 4, 8])
    # Ticks at 0, 1/3, 2/3, 1, ... s; frame k is on screen from k/4 s to (k+1)/4 s.
    assert levels(ramp, 3)[1] == [0, 1, 2, 4, 5, 6, 8, 9]


def test_higher_rate_repeats_up_to_the_end_of_the_last_frame(ramp: Path) -> None:
    times, shown = levels(ramp, 8)
    assert times[-1] == 2.375
    assert shown == [k // 2 for k in range(20)]


def test_rate_below_one_frame(ramp: Path) -> None:
    assert levels(ramp, 0.1) == ([0.0], [0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_from_a_late_first_timestamp(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"variable{suffix}"
    write_timed(path, [500, 600, 1500, 1625, 2500])
    times, shown = levels(path, 4)
    # Seconds from the first frame: 0, 0.1, 1, 1.125, 2.
    assert times[:9] == [k / 4 for k in range(9)]
    assert shown[:9] == [0, 1, 1, 1, 2, 3, 3, 3, 4]
    assert set(shown[9:]) <= {4}


def test_frames_are_scaled_rgb(tmp_path: Path) -> None:
    frame = grey(0)
    frame[:, :32] = (230, 20, 20)
    frame[:, 32:] = (20, 20, 230)
    write_video(tmp_path / "halves.mp4", [frame] * 3, 8)
    (_, sampled), *_ = sample_frames(tmp_path / "halves.mp4", 8, (12, 20))
    assert sampled.shape == (12, 20, 3)
    assert sampled.dtype == np.uint8
    np.testing.assert_allclose(sampled[6, 3].astype(int), (230, 20, 20), atol=12)
    np.testing.assert_allclose(sampled[6, 16].astype(int), (20, 20, 230), atol=12)


def test_length_of_the_shorter_edge(tmp_path: Path) -> None:
    write_video(tmp_path / "wide.mp4", [grey(100, height=48, width=86)] * 3, 8)
    (_, sampled), *_ = sample_frames(tmp_path / "wide.mp4", 8, 20)
    assert sampled.shape == (20, 36, 3)  # 86 * 20 / 48 is 35.8
    (_, sampled), *_ = sample_frames(tmp_path / "wide.mp4", 8, 96)
    assert sampled.shape == (96, 172, 3)


def turned(path: Path) -> Path:
    """A video of 64x48, white on top of black, which its file says to turn clockwise by a quarter."""
    frame = grey(0)
    frame[:24] = 240
    write_video(path, [frame] * 3, 8)
    # The track header's display matrix.
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    matrix = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
    return path


def test_rotated_as_the_file_says(tmp_path: Path) -> None:
    (_, sampled), *_ = sample_frames(turned(tmp_path / "phone.mp4"), 8, (64, 48))
    # What was on top is now on the right.
    assert sampled.shape == (64, 48, 3)
    assert sampled[:, 40:].min() > 220
    assert sampled[:, :8].max() < 20


def test_the_shorter_edge_is_that_of_the_upright_frame(tmp_path: Path) -> None:
    (_, sampled), *_ = sample_frames(turned(tmp_path / "phone.mp4"), 8, 24)
    assert sampled.shape == (32, 24, 3)


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
def test_interpolation(interpolation: Any, tmp_path: Path) -> None:
    write_video(tmp_path / "noise.mp4", noise(3), 8)
    with av.open(str(tmp_path / "noise.mp4")) as container:
        frame = next(container.decode(video=0))
    scaled = {
        name: frame.reformat(width=32, height=20, format="rgb24", interpolation=name.upper()).to_ndarray()
        for name in ("area", "bilinear", "bicubic")
    }
    (_, sampled), *_ = sample_frames(tmp_path / "noise.mp4", 8, (20, 32), interpolation)
    assert {name for name in scaled if np.array_equal(sampled, scaled[name])} == {interpolation}


def test_frames_come_before_the_file_is_read_to_its_end(tmp_path: Path) -> None:
    write_faststart(tmp_path / "half.mp4", noise(80))
    data = (tmp_path / "half.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    first = list(itertools.islice(sample_frames(tmp_path / "half.mp4", 8, (24, 32)), 5))
    assert [time_s for time_s, _ in first] == [0.0, 0.125, 0.25, 0.375, 0.5]


def write_live(path: Path) -> None:
    """Twelve frames at 8 a second, without a length in the header, as a camera streams to disk."""
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(20 * k), format="rgb24")))
        container.mux(stream.encode())


def test_unknown_length_is_counted(tmp_path: Path) -> None:
    write_live(tmp_path / "live.mkv")
    info = probe(tmp_path / "live.mkv")
    assert info.num_frames == 12
    assert info.duration_s == pytest.approx(1.5, abs=0.002)
    assert info.fps == pytest.approx(8)


def write_sound(container: av.container.OutputContainer) -> None:
    """Add a track of a few milliseconds of silence."""
    stream = container.add_stream("aac", rate=16000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 16000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def both(path: Path) -> str:
    """The error of decoding a file, which is that of probing it."""
    with pytest.raises(VideoError) as decoding:
        list(sample_frames(path, 8, (24, 32)))
    with pytest.raises(VideoError) as probing:
        probe(path)
    assert str(decoding.value) == str(probing.value)
    assert "\n" not in str(decoding.value)
    return str(decoding.value)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.mp4"
    assert both(path) == f"{path}: no such file; check the path of the video"


def test_directory(tmp_path: Path) -> None:
    assert both(tmp_path) == f"{tmp_path}: is a directory; name a video file"


def test_text_named_mp4(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("this is no video\n" * 50)
    assert both(path) == (
        f"{path}: cannot be opened as a video file (invalid data found when processing input); "
        "it is none, or it is incomplete"
    )


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert "cannot be opened as a video file" in both(path)


def test_header_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "header.mkv"
    write_live(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # Matroska's mark of a first cluster
    assert "cannot be opened as a video file (end of file)" in both(path)


def test_video_stream_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "hollow.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        write_sound(container)
    with pytest.raises(VideoError) as caught:
        list(sample_frames(path, 8, (24, 32)))
    assert str(caught.value) == (
        f"{path}: no frame of its video can be decoded; the file is empty or damaged, replace it"
    )


def test_cut_in_half_without_its_index(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    write_video(path, noise(40), 8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "it is none, or it is incomplete" in both(path)


def test_cut_in_half_with_its_index(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    write_faststart(path, noise(80))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert probe(path).duration_s == 10.0
    times_s: list[float] = []
    with pytest.raises(
        VideoCutOffError, match=r"the video stops at 4\.\d s of 10\.0 s; the file is incomplete, copy or download"
    ):
        times_s.extend(time_s for time_s, _ in sample_frames(path, 8, (24, 32)))
    assert times_s == [k / 8 for k in range(len(times_s))]
    assert 4 <= times_s[-1] < 5


def test_cut_in_half_without_a_stated_length(tmp_path: Path) -> None:
    """A transport stream states no length: what is there counts as all there is."""
    with av.open(str(tmp_path / "whole.ts"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for array in noise(80):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    data = (tmp_path / "whole.ts").read_bytes()
    (tmp_path / "half.ts").write_bytes(data[: len(data) // 2])
    assert len(list(sample_frames(tmp_path / "whole.ts", 8, (24, 32)))) == 80
    assert 36 <= len(list(sample_frames(tmp_path / "half.ts", 8, (24, 32)))) <= 44


def remux(source: Path, target: Path, moved_ms: dict[int, int]) -> Path:
    """Copy a video without B-frames, packet ``k`` stamped ``moved_ms[k]`` milliseconds later."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        video = read.streams.video[0]
        stream = written.add_stream_from_template(video)
        for k, packet in enumerate(packet for packet in read.demux(video) if packet.size):
            shift = round(moved_ms.get(k, 0) / 1000 / packet.time_base)
            # Times of decoding must ascend, and are not stored.
            packet.pts, packet.dts, packet.stream = packet.pts + shift, k, stream
            written.mux(packet)
    return target


def test_timestamps_that_go_back(tmp_path: Path) -> None:
    write_timed(tmp_path / "even.mkv", [250 * k for k in range(10)])
    path = remux(tmp_path / "even.mkv", tmp_path / "back.mkv", {7: -1650, 8: -1650, 9: -1650})
    with pytest.raises(VideoError) as caught:
        list(sample_frames(path, 8, (24, 32)))
    assert str(caught.value) == (
        f"{path}: its timestamps jump from 1.5 s to 0.1 s; they are broken, convert the video again"
    )


def test_a_small_step_back_counts_as_none(tmp_path: Path) -> None:
    write_timed(tmp_path / "even.mkv", [250 * k for k in range(10)])
    path = remux(tmp_path / "even.mkv", tmp_path / "back.mkv", {5: -400})
    # Frame 5, at 0.85 s, comes after frame 4, at 1 s: it is shown from then on.
    assert levels(path, 4)[1] == [0, 1, 2, 3, 5, 5, 6, 7, 8, 9]


def test_timestamps_that_jump(tmp_path: Path) -> None:
    write_timed(tmp_path / "even.mkv", [250 * k for k in range(10)])
    path = remux(tmp_path / "even.mkv", tmp_path / "jump.mkv", dict.fromkeys(range(6, 10), 7200000))
    frames = sample_frames(path, 8, (24, 32))
    assert [time_s for time_s, _ in itertools.islice(frames, 10)] == [k / 8 for k in range(10)]
    with pytest.raises(VideoError) as caught:
        next(frames)
    assert str(caught.value) == (
        f"{path}: its timestamps jump from 1.2 s to 7201.5 s; they are broken, convert the video again"
    )


def test_a_slide_may_stand_for_long(tmp_path: Path) -> None:
    write_timed(tmp_path / "slides.mkv", [0, 1_800_000, 3_600_000])
    times, shown = levels(tmp_path / "slides.mkv", 1 / 600)
    assert times[:7] == pytest.approx([600.0 * k for k in range(7)])
    assert shown[:7] == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("length", [10**7, 2**31 - 1])
def test_a_last_frame_is_shown_no_longer_than_the_video_lasts(ramp: Path, length: int) -> None:
    content = ramp.read_bytes()
    at = content.index(b"stts") + 16  # the length of every frame
    ramp.write_bytes(content[:at] + struct.pack(">I", length) + content[at + 4 :])
    assert probe(ramp).duration_s == 2.5
    assert [time_s for time_s, _ in sample_frames(ramp, 2.0, (24, 32))] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_a_small_file_does_not_last_for_days(tmp_path: Path) -> None:
    write_timed(tmp_path / "v.mkv", [3_600_000 * hour for hour in range(10)])
    size = (tmp_path / "v.mkv").stat().st_size
    with pytest.raises(VideoError) as caught:
        list(sample_frames(tmp_path / "v.mkv", 0.01, (24, 32)))
    assert size < 3600 * 3
    assert str(caught.value) == (
        f"{tmp_path / 'v.mkv'}: claims to last 7200 s and is far too small for that; it is damaged, convert it again"
    )


def test_without_timestamps_frames_follow_at_the_stated_rate(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "bare.h264"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(20 * k), format="rgb24")))
        container.mux(stream.encode())
    assert levels(tmp_path / "bare.h264", 4) == ([k / 4 for k in range(6)], [0, 2, 4, 6, 8, 10])


def test_three_hours(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        return (grey(k % 240, height=16, width=16) for k in range(3 * 3600))

    write_video(tmp_path / "long.mp4", frames(), 1)
    sampled = [(time_s, round(frame.mean())) for time_s, frame in sample_frames(tmp_path / "long.mp4", 0.1, 16)]
    assert [time_s for time_s, _ in sampled] == [10.0 * k for k in range(1080)]
    assert max(abs(level - 10 * k % 240) for k, (_, level) in enumerate(sampled)) <= 2


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    write_video(path, noise(80), 8)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 4] = bytes(len(data) // 4)
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"damaged\.mp4: decoding fails after [45]\.\d s \(invalid data found"):
        list(sample_frames(path, 8, (24, 32)))


def test_a_failed_decode_leaves_no_thread_hanging(tmp_path: Path) -> None:
    """A log callback in Python once held the decoder's threads, and the process at its end."""
    path = tmp_path / "damaged.mp4"
    write_video(path, noise(80), 8)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) * 3 // 4] = bytes(len(data) * 3 // 4 - len(data) // 2)
    path.write_bytes(data)
    program = (
        "import sys\nfrom mrnet.media.video import sample_frames\n"
        "try:\n    list(sample_frames(sys.argv[1], 8, (24, 32)))\n"
        "except Exception as error:\n    kept = error\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], timeout=300, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        write_sound(container)
    assert both(path) == f"{path}: holds no video stream, sound only perhaps; name a video file"


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new.mp4"
    path.write_text("old")
    write_video(path, [grey(100)] * 4, 8)
    assert probe(path).num_frames == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.mp4"]


def test_write_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield grey(0)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_video(tmp_path / "new.mp4", broken(), 8)
    assert list(tmp_path.iterdir()) == []


def test_write_errors(tmp_path: Path) -> None:
    path = tmp_path / "new.mp4"
    with pytest.raises(VideoError, match=r"new\.mp4: there are no frames to write$"):
        write_video(path, [], 8)
    with pytest.raises(VideoError, match=r"frames are 65x48; H\.264 needs an even width and height"):
        write_video(path, [grey(0, width=65)], 8)
    with pytest.raises(VideoError, match=r"frame 1 has shape \(48, 32, 3\), the first one \(48, 64, 3\)"):
        write_video(path, [grey(0), grey(0, width=32)], 8)
    assert list(tmp_path.iterdir()) == []
    path.mkdir()
    with pytest.raises(OutputError, match=r"new\.mp4: is a folder, where a file should be written"):
        write_video(path, [grey(0)], 8)
    assert list(tmp_path.rglob("*")) == [path]


def _matroska(path: Path, video_s: int, audio_s: int) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        video = container.add_stream("libx264", rate=8)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        rng = np.random.default_rng(0)
        for _ in range(8 * video_s):
            pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        for second in range(audio_s):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 8000 * second
            container.mux(sound.encode(frame))
        container.mux(sound.encode())


def test_length_of_matroska_is_that_of_its_video_not_of_its_sound(tmp_path: Path) -> None:
    _matroska(tmp_path / "long.mkv", video_s=4, audio_s=12)
    assert probe(tmp_path / "long.mkv").duration_s == pytest.approx(4.0, abs=0.05)
    assert len(list(sample_frames(tmp_path / "long.mkv", 2.0, (16, 16)))) == 8


def test_matroska_cut_in_half_is_refused(tmp_path: Path) -> None:
    _matroska(tmp_path / "whole.mkv", video_s=6, audio_s=6)
    whole = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError, match=r"half\.mkv: (the video stops at|decoding fails after)"):
        list(sample_frames(tmp_path / "half.mkv", 2.0, (16, 16)))


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("talk: part 1.mp4"), (np.zeros((16, 16, 3), dtype=np.uint8) for _ in range(8)), fps=8)
    assert probe("talk: part 1.mp4").duration_s == pytest.approx(1.0, abs=0.05)
