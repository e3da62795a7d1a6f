"""Clips: which frames, when, with what sound; and what is left when they cannot be written."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mrnet.errors import OutputError, VideoError
from mrnet.export.clips import clip_name, cut
from mrnet.media.audio import write_audio
from mrnet.media.video import probe, sample_frames
from mrnet.types import Moment
from tests.export.footage import RATE, Footage, lag_s, read_footage, write_footage

STEADY = [Fraction(k, 25) for k in range(150)]
NTSC = [Fraction(k * 1001, 30_000) for k in range(180)]
UNSTEADY = list(accumulate(np.random.default_rng(1).integers(15, 80, 149).tolist(), initial=0))
VARIABLE = [Fraction(time_ms, 1000) for time_ms in UNSTEADY]
INDEX_FIRST = {"movflags": "faststart"}
B_FRAMES = {"bf": "3", "g": "40", "x264-params": "b-pyramid=normal"}

SOURCES: dict[str, dict[str, Any]] = {
    "silent.mp4": {},
    "b_frames.mp4": {"options": B_FRAMES, "sounds": ["aac"]},
    "tracks.mkv": {"options": B_FRAMES, "sounds": ["aac", "libopus"]},
    "open_gop.mkv": {"options": {"bf": "3", "x264-params": "open-gop=1"}, "sounds": ["aac"]},
    "late.mp4": {"start_s": 1.5, "sounds": ["aac"]},
    "camera.mov": {"sounds": ["aac", "aac"]},
    "web.webm": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "realtime", "cpu-used": "8"},
        "time_base": Fraction(1, 1000),
        "sounds": ["libopus"],
    },
    "broadcast.ts": {"options": {"bf": "2"}, "sounds": ["aac"]},
    "old.flv": {"time_base": Fraction(1, 1000), "sounds": ["aac"]},
    "older.avi": {"codec": "mpeg4", "time_base": Fraction(1, 25), "sounds": ["libmp3lame"]},
    "oldest.mpg": {"codec": "mpeg2video", "time_base": Fraction(1, 25), "sounds": ["mp2"]},
}
CASES = [
    *((name, "STEADY") for name in SOURCES),
    *((name, "VARIABLE") for name in ("b_frames.mp4", "tracks.mkv", "late.mp4", "web.webm", "broadcast.ts")),
    ("b_frames.mp4", "NTSC"),
]
MOMENTS = [Moment(2.013, 3.51, 0.8), Moment(0.0, 0.98, 0.5), Moment(4.31, 5.99, 0.4)]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("footage")


@pytest.fixture(params=CASES, ids="-".join, scope="module")
def case(request: pytest.FixtureRequest, footage: Path) -> tuple[Path, Footage]:
    """A video, and what it holds, timed from its first frame."""
    name, times = request.param
    path = footage / f"{times}_{name}"
    write_footage(path, globals()[times], **SOURCES[name])
    return path, read_footage(path, from_first=True)


def shown_in(source: Footage, moment: Moment) -> list[int]:
    """Frames from the one that is on when a moment starts to the last that comes on before it ends, give or take
    1 ms."""
    first = max(index for index, time_s in enumerate(source.times_s) if time_s <= moment.start_s + 1e-3)
    return list(
        range(first, 1 + max(k for k, time_s in enumerate(source.times_s) if time_s < moment.end_s - 1e-3))
    )


def check_in_step(clip: Footage, source: Footage, starts_s: float, lag: float = 2e-3) -> None:
    """Every frame is shown, and all sound heard, as much earlier as the clip starts after the video's first frame."""
    shown_s = [max(source.times_s[index] - starts_s, 0.0) for index in clip.indices]
    np.testing.assert_allclose(clip.times_s, shown_s, atol=2e-3)
    assert len(clip.sounds) == len(source.sounds)
    for (heard_s, sound), (offset_s, original) in zip(clip.sounds, source.sounds, strict=True):
        assert abs(heard_s) < 0.06  # a packet's length
        assert len(sound) / RATE > clip.times_s[-1] - 0.15
        assert abs(lag_s(sound, original, starts_s + heard_s - offset_s)) < lag


def test_copies_start_at_the_key_frame_before(case: tuple[Path, Footage], tmp_path: Path) -> None:
    path, source = case
    for moment, clip_path in zip(MOMENTS, cut(path, MOMENTS, tmp_path / "clips"), strict=True):
        clip, wanted = read_footage(clip_path), shown_in(source, moment)
        key = max(index for index in source.keys if index <= wanted[0])
        kept = range(key, wanted[-1] + 1)
        assert clip.indices[: len(kept)] == list(kept)
        assert clip.indices[0] == clip.keys[0]
        assert all(wanted[-1] < index <= wanted[-1] + 4 for index in clip.indices[len(kept) :])
        # Sound in AVI has the times of its packets alone.
        check_in_step(clip, source, source.times_s[key], 0.027 if path.suffix == ".avi" else 2e-3)
    assert {file.suffix for file in (tmp_path / "clips").iterdir()} == {
        ".mkv" if path.suffix in (".ts", ".flv", ".mpg") else path.suffix
    }


def test_exact_clips_start_and_end_with_the_moment(case: tuple[Path, Footage], tmp_path: Path) -> None:
    path, source = case
    for moment, clip_path in zip(MOMENTS, cut(path, MOMENTS, tmp_path / "clips", exact=True), strict=True):
        clip = read_footage(clip_path)
        assert clip.indices == shown_in(source, moment)
        check_in_step(clip, source, moment.start_s)
        assert clip_path.suffix == ".mp4"
        assert probe(clip_path).duration_s == pytest.approx(moment.end_s - moment.start_s, abs=1e-3)


def test_moments_of_any_time_of_a_long_take(tmp_path: Path) -> None:
    """One key frame in the whole of it; moments within a frame, and up to the end."""
    write_footage(tmp_path / "a.mp4", STEADY, options={"g": "1000", "sc_threshold": "0"})
    moments = [Moment(5.01, 5.02, 0.9), Moment(0.0, 6.0, 0.8), Moment(3.0, 3.04, 0.7), Moment(5.9, 6.5, 0.6)]
    exact = [read_footage(path).indices for path in cut(tmp_path / "a.mp4", moments, tmp_path, exact=True)]
    assert exact == [[125], list(range(150)), [75], [147, 148, 149]]
    copies = [read_footage(path).indices[0] for path in cut(tmp_path / "a.mp4", moments, tmp_path)]
    assert copies == [0, 0, 0, 0]


@pytest.mark.parametrize(("start_s", "end_s"), [(2.0, 2.001), (2.0, 2.0001), (2.01, 2.0105), (2.03, 2.0302)])
def test_a_moment_of_a_millisecond_is_the_frame_that_is_on(tmp_path: Path, start_s: float, end_s: float) -> None:
    write_footage(tmp_path / "a.mp4", STEADY)
    [clip] = cut(tmp_path / "a.mp4", [Moment(start_s, end_s, 0.9)], tmp_path, exact=True)
    assert read_footage(clip).indices == [50]


def turned(path: Path) -> None:
    """Have a video say that it's to be shown turned clockwise by a quarter."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the track header's display matrix
    matrix = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


def test_a_turned_video_stays_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    write_footage(path, STEADY[:50])
    turned(path)
    source = read_footage(path)
    assert (source.size, source.rotation) == ((48, 64), 270)
    (copy,) = cut(path, [Moment(1.0, 1.5, 0.5)], tmp_path)
    assert (read_footage(copy).size, read_footage(copy).rotation) == ((48, 64), 270)
    (exact,) = cut(path, [Moment(1.0, 1.5, 0.5)], tmp_path, exact=True)
    assert (read_footage(exact).size, read_footage(exact).rotation) == ((64, 48), 0)
    for clip in (copy, exact):
        shown = [frame.astype(int) for _, frame in sample_frames(clip, 25, (64, 48))]
        wanted = [frame for _, frame in sample_frames(path, 25, (64, 48))][25:]
        np.testing.assert_allclose(shown[0], wanted[0], atol=30)
        assert len(shown) == 13


def test_odd_sizes_and_pixels_that_are_not_square(tmp_path: Path) -> None:
    settings = {"codec": "ffv1", "size": (49, 65), "time_base": Fraction(1, 1000)}
    write_footage(tmp_path / "odd.mkv", STEADY[:50], **settings)
    write_footage(tmp_path / "wide.mp4", STEADY[:50], sample_aspect_ratio=Fraction(4, 3))
    (odd,) = cut(tmp_path / "odd.mkv", [Moment(0.5, 1.5, 0.5)], tmp_path, exact=True)
    (wide,) = cut(tmp_path / "wide.mp4", [Moment(0.5, 1.5, 0.5)], tmp_path, exact=True)
    (copy,) = cut(tmp_path / "wide.mp4", [Moment(0.5, 1.5, 0.5)], tmp_path / "copies")
    assert (read_footage(odd).size, read_footage(wide).size) == ((48, 64), (48, 84))  # 64 * 4 / 3, made even
    assert read_footage(odd).indices == read_footage(wide).indices == list(range(12, 38))
    with av.open(str(copy)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_tracks_that_the_container_cannot_hold_go_into_matroska(tmp_path: Path) -> None:
    write_footage(tmp_path / "a.mkv", STEADY[:50], sounds=["flac"], codec="ffv1", time_base=Fraction(1, 1000))
    (tmp_path / "a.mkv").rename(tmp_path / "a.webm")
    (clip,) = cut(tmp_path / "a.webm", [Moment(0.5, 1.5, 0.5)], tmp_path / "clips")
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["a_01_0m00s-0m02s.mkv"]
    assert read_footage(clip).indices[-1] == 37


def test_no_moments_make_a_folder(tmp_path: Path) -> None:
    assert cut(tmp_path / "none.mp4", [], tmp_path / "clips") == []
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.mark.parametrize(
    ("video", "start_s", "end_s", "name"),
    [
        ("talk.mp4", 12.4, 18.6, "talk_03_0m12s-0m19s.mp4"),
        ("talk: part 1?.mkv", 59.7, 3723.2, "talk_part_1__03_1m00s-1h02m03s.mp4"),
        ("-rf.été.mp4", 0.0, 1.0, "rf.été_03_0m00s-0m01s.mp4"),
        ("\udcff.mp4", 0.0, 1.0, "__03_0m00s-0m01s.mp4"),
        ("...mp4", 0.0, 1.0, "video_03_0m00s-0m01s.mp4"),
        ("視" * 80 + ".mp4", 0.0, 1.0, "視" * 50 + "_03_0m00s-0m01s.mp4"),
    ],
)
def test_names(video: str, start_s: float, end_s: float, name: str) -> None:
    assert clip_name(Path(video), Moment(start_s, end_s, 0.5), 3, ".mp4") == name


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file can be written beyond a size, as on a full disk."""
    resource = pytest.importorskip("resource", reason="file size limits are of Unix")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("exact", [False, True])
def test_a_disk_that_fills_leaves_the_clips_that_are_complete(tmp_path: Path, exact: bool) -> None:
    write_footage(tmp_path / "a.mp4", STEADY, size=(240, 320), sounds=["aac"])
    moments = [Moment(1.0, 1.2, 0.9), Moment(0.0, 6.0, 0.8), Moment(2.0, 2.2, 0.7)]
    with limited(60_000), pytest.raises(OutputError) as caught:
        cut(tmp_path / "a.mp4", moments, tmp_path / "clips", exact=exact)
    assert str(caught.value) == (
        f"{tmp_path / 'clips' / 'a_02_0m00s-0m06s.mp4'}: cannot be written (File too large); choose another place"
    )
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["a_01_0m01s-0m01s.mp4"]
    assert 25 in read_footage(tmp_path / "clips" / "a_01_0m01s-0m01s.mp4").indices


@pytest.mark.parametrize("exact", [False, True])
def test_a_video_that_ends_early(tmp_path: Path, exact: bool) -> None:
    path = tmp_path / "a.mkv"
    write_footage(path, STEADY, sounds=["aac"])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    end_s = read_footage(path).times_s[-1]
    assert 2 < end_s < 4
    with pytest.raises(VideoError) as caught:
        cut(path, [Moment(0.5, 1.0, 0.9), Moment(1.0, 5.5, 0.8)], tmp_path / "clips", exact=exact)
    assert re.fullmatch(
        re.escape(f"{path}: the video stops at ")
        + r"\d\.\d s, before moment 2 ends \(5\.5 s\); the file is incomplete, copy or download it again",
        str(caught.value),
    )
    assert [path.name[:4] for path in (tmp_path / "clips").iterdir()] == ["a_01"]


def test_up_to_where_a_video_breaks_off(tmp_path: Path) -> None:
    """Within a frame, which does not decode."""
    path = tmp_path / "a.mp4"
    write_footage(tmp_path / "whole.mp4", STEADY)
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(path), "w", options=INDEX_FIRST) as written:
        stream = written.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                packet.stream = stream
                written.mux(packet)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    times_s: list[float] = []
    with pytest.raises(av.FFmpegError), av.open(str(path)) as container:
        times_s.extend(frame.time for frame in container.decode(video=0))
    assert 1.5 < times_s[-1] < 5
    [clip] = cut(path, [Moment(1.0, times_s[-1] + 0.5, 0.9)], tmp_path / "clips", exact=True)
    indices = read_footage(clip).indices
    assert indices == list(range(25, 25 + len(indices)))
    assert indices[-1] >= round(times_s[-1] * 25) - 16  # what threads of the decoder held is lost
    with pytest.raises(VideoError, match="reading fails after"):
        cut(path, [Moment(1.0, times_s[-1] + 2, 0.9)], tmp_path / "clips", exact=True)


@pytest.mark.parametrize("exact", [False, True])
def test_moments_beyond_the_end(tmp_path: Path, exact: bool) -> None:
    write_footage(tmp_path / "a.mp4", STEADY[:50])
    with pytest.raises(VideoError, match=r"a\.mp4: the video stops at \d\.\d s, before moment 1 ends \(9\.0 s\)"):
        cut(tmp_path / "a.mp4", [Moment(8.0, 9.0, 0.5)], tmp_path / "clips", exact=exact)
    assert list((tmp_path / "clips").iterdir()) == []


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    with pytest.raises(VideoError, match=r"a\.mp4: cannot be opened as a video file"):
        cut(tmp_path / "a.mp4", MOMENTS, tmp_path / "clips")
    with pytest.raises(VideoError, match=r"none\.mp4: no such file; check the path of the video"):
        cut(tmp_path / "none.mp4", MOMENTS, tmp_path / "clips")
    write_audio(tmp_path / "a.wav", np.zeros(16_000, np.float32))
    with pytest.raises(VideoError, match=r"a\.wav: holds no video stream, sound only perhaps"):
        cut(tmp_path / "a.wav", MOMENTS, tmp_path / "clips")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    write_footage(tmp_path / "a.mp4", STEADY[:5])
    with pytest.raises(OutputError) as caught:
        cut(tmp_path / "a.mp4", MOMENTS, tmp_path / "a.mp4")
    assert str(caught.value) == f"{tmp_path / 'a.mp4'}: cannot be written (File exists); choose another place"
