"""Edit lists, read back by OpenTimelineIO."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mrnet.errors import OutputError, VideoError
from mrnet.export.edits import timecode, timecode_rate, write_edits
from mrnet.types import Moment
from tests.export.footage import write_footage

otio = pytest.importorskip("opentimelineio")

MOMENTS = [
    Moment(12.34, 19.01, 0.82),
    Moment(59.99, 60.04, 0.6),
    Moment(0.0, 0.001, 0.5),
    Moment(3599.2, 4210.77, 0.4),
]
FILM, NTSC, NTSC_60 = (Fraction(fps * 1000, 1001) for fps in (24, 30, 60))
RATES = [FILM, Fraction(25), NTSC, Fraction(30), NTSC_60, Fraction(60)]


def video_at(path: Path, rate: Fraction, **settings: Any) -> Path:
    write_footage(path, [k / rate for k in range(12)], **settings)
    return path


def read(path: Path, rate: Fraction) -> list[Any]:
    """The clips of each track."""
    arguments = {"rate": float(rate)} if path.suffix == ".edl" else {}
    timeline = otio.adapters.read_from_file(str(path), **arguments)
    return [[clip.deepcopy() for clip in track] for track in timeline.tracks]


@pytest.mark.parametrize("suffix", [".edl", ".otio"])
@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.2f}")
def test_read_back_to_within_a_frame(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    path = tmp_path / f"edits{suffix}"
    write_edits(path, video_at(tmp_path / "a.mp4", rate), MOMENTS, "a dog jumps")
    (clips,) = read(path, rate)
    assert len(clips) == len(MOMENTS)
    for clip, moment in zip(clips, MOMENTS, strict=True):
        start, length = clip.source_range.start_time, clip.source_range.duration
        assert start.rate == length.rate == pytest.approx(float(rate), abs=1e-5)
        assert abs(start.value - moment.start_s * rate) <= 0.5
        assert abs(start.value + length.value - max(moment.end_s * rate, start.value + 1)) <= 0.5
        assert abs(start.to_seconds() - moment.start_s) <= 0.5001 / rate


def test_cmx_3600(tmp_path: Path) -> None:
    video = video_at(tmp_path / "Ma fête (2).mp4", NTSC, sounds=["aac"])
    write_edits(tmp_path / "a.edl", video, [Moment(60.06, 61.0, 0.82), Moment(1.0, 2.0, 0.5)], "a dog\njumps")
    assert (tmp_path / "a.edl").read_text() == (
        "TITLE: a dog jumps\n"
        "FCM: DROP FRAME\n"
        "\n"
        "001  MAFTE2   AA/V  C        00:01:00;02 00:01:01;00 00:00:00;00 00:00:00;28\n"
        "* FROM CLIP NAME: Ma fête (2).mp4\n"
        "* COMMENT: 1. a dog jumps (82%)\n"
        "\n"
        "002  MAFTE2   AA/V  C        00:00:01;00 00:00:02;00 00:00:00;28 00:00:01;28\n"
        "* FROM CLIP NAME: Ma fête (2).mp4\n"
        "* COMMENT: 2. a dog jumps (50%)\n"
    )
    tracks = read(tmp_path / "a.edl", NTSC)
    assert [[clip.name for clip in track] for track in tracks] == [["Ma fête (2).mp4"] * 2] * 3
    assert tracks[0][0].metadata["cmx_3600"]["reel"] == "MAFTE2"


def test_open_timeline_io(tmp_path: Path) -> None:
    video = video_at(tmp_path / "été 1.mp4", Fraction(25), sounds=["aac"])
    write_edits(tmp_path / "a.otio", video, MOMENTS[:1], "a dog jumps", "score")
    timeline = otio.adapters.read_from_file(str(tmp_path / "a.otio"))
    assert timeline.name == "a dog jumps"
    assert [track.kind for track in timeline.tracks] == ["Video", "Audio"]
    for track in timeline.tracks:
        (clip,) = track
        assert clip.name == "1. a dog jumps (0.82)"
        assert clip.media_reference.target_url == video.as_uri()
        assert clip.media_reference.available_range.duration == otio.opentime.RationalTime(12, 25)


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.2f}")
def test_timecode_of_every_kind_of_frame(rate: Fraction) -> None:
    frames = {
        round(minute * 60 * rate) + k for minute in (0, 1, 9, 10, 11, 59, 60, 71, 1439) for k in range(-70, 70)
    }
    for frame in sorted(frames):
        if frame >= 0:
            assert timecode(frame, rate) == otio.opentime.RationalTime(frame, float(rate)).to_timecode()


def test_rates() -> None:
    wanted = {29.97: NTSC, 23.98: FILM, 24.0: 24, 29.87: NTSC, 59.9: NTSC_60, 119.88: 60, 9.5: FILM}
    assert {fps: timecode_rate(fps) for fps in wanted} == wanted


def test_a_video_that_has_another_name_elsewhere(tmp_path: Path) -> None:
    video = video_at(tmp_path / "0123abcd.mp4", Fraction(25))
    for suffix in (".edl", ".otio"):
        write_edits(tmp_path / f"a{suffix}", video, MOMENTS[:1], "a dog jumps", name="my film.mp4")
    timeline = otio.adapters.read_from_file(str(tmp_path / "a.otio"))
    media = next(iter(timeline.find_clips())).media_reference
    assert (media.target_url, media.name) == ("my%20film.mp4", "my film.mp4")
    assert "* FROM CLIP NAME: my film.mp4\n" in (tmp_path / "a.edl").read_text()
    assert "0123abcd" not in (tmp_path / "a.edl").read_text() + (tmp_path / "a.otio").read_text()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    video = video_at(tmp_path / "a.mp4", Fraction(25))
    with pytest.raises(OutputError) as caught:
        write_edits(tmp_path / "a.xml", video, MOMENTS, "a dog")
    assert str(caught.value) == (
        f"{tmp_path / 'a.xml'}: edits are written as .edl (CMX 3600) or .otio (OpenTimelineIO); name such a file"
    )
    with pytest.raises(VideoError, match=r"none\.mp4: no such file"):
        write_edits(tmp_path / "a.edl", tmp_path / "none.mp4", MOMENTS, "a dog")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("suffix", [".edl", ".otio"])
def test_no_moments(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_edits(path, video_at(tmp_path / "a.mp4", Fraction(25)), [], "a dog")
    assert [clips for clips in read(path, Fraction(25)) if clips] == []
