"""Opening media files: what is wrong with them, tags of any encoding, lengths they state."""

import os
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from mrnet.errors import AudioError, VideoError
from mrnet.media.audio import read_audio, write_audio
from mrnet.media.container import media_reason, media_url, open_media, stated_duration
from mrnet.media.subtitles import Track, read_cues
from mrnet.media.video import probe, sample_frames, write_video


def write_video_with_tags(path: Path) -> None:
    """Two seconds of grey, with tags in Latin-1 of the container and of its stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.metadata["title"] = stream.metadata["title"] = "un caf?"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), "rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"un caf?", "un café".encode("latin-1")))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_tags_of_a_video_that_are_not_utf8(tmp_path: Path, name: str) -> None:
    write_video_with_tags(tmp_path / name)
    assert b"un caf\xe9" in (tmp_path / name).read_bytes()
    assert probe(tmp_path / name).duration_s == pytest.approx(2.0, abs=0.01)
    assert len(list(sample_frames(tmp_path / name, 2.0, (16, 16)))) == 4


def test_tags_of_a_sound_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, np.full(8000, 0.5, np.float32))
    info = b"INFOINAM" + struct.pack("<I", 8) + b"un caf\xe9\0"
    tagged = path.read_bytes() + b"LIST" + struct.pack("<I", len(info)) + info
    path.write_bytes(tagged[:4] + struct.pack("<I", len(tagged) - 8) + tagged[8:])
    errors = "replace" if int(av.__version__.split(".")[0]) < 19 else "surrogateescape"
    with open_media(path, "sound", AudioError) as container:
        assert container.metadata["title"] == b"un caf\xe9".decode(errors=errors)
    assert len(read_audio(path)) == 8000


def test_what_is_no_media_file(tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(VideoError) as caught, open_media(path, "video", VideoError):
            pass
        return str(caught.value)

    (tmp_path / "notes.bin").write_bytes(bytes(range(200)))
    assert refusal(tmp_path) == f"{tmp_path}: is a directory; name a video file"
    assert refusal(tmp_path / "none.mp4") == f"{tmp_path / 'none.mp4'}: no such file; check the path of the video"
    assert refusal(tmp_path / "notes.bin") == (
        f"{tmp_path / 'notes.bin'}: cannot be opened as a video file (invalid data found when processing input); "
        "it is none, or it is incomplete"
    )


def test_length_that_a_file_states(tmp_path: Path) -> None:
    for name in ("a.mkv", "a.mp4"):
        write_video_with_tags(tmp_path / name)
        with open_media(tmp_path / name, "video", VideoError) as container:
            assert stated_duration(container, container.streams.video[0]) == pytest.approx(2.0, abs=0.01)


def test_names_and_reasons() -> None:
    assert media_url(Path("talk: part 1.mp4")) == "file:talk: part 1.mp4"
    assert media_reason(OSError(28, "No space left on device")) == "no space left on device"
    assert media_reason(ValueError("First line\nsecond")) == "first line"


def grey(path: Path) -> bytes:
    """Four seconds, as H.264 in an MP4 file."""
    write_video(path, (np.full((48, 64, 3), 10 * i, np.uint8) for i in range(20)), fps=5)
    return path.read_bytes()


class TestFilesThatReadOthers:
    """A playlist shows what lies elsewhere: its content decides, whatever its name."""

    @pytest.mark.parametrize("name", ["x.mp4", "x.m3u8", "x.ffconcat"])
    @pytest.mark.parametrize(
        "text",
        [
            "ffconcat version 1.0\nfile secret.mp4\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        ],
    )
    def test_as_a_video(self, tmp_path: Path, name: str, text: str) -> None:
        grey(tmp_path / "secret.mp4")
        (tmp_path / name).write_text(text)
        with pytest.raises(VideoError, match="cannot be opened as a video file"):
            probe(tmp_path / name)
        with pytest.raises(AudioError, match="cannot be opened as a sound file"):
            read_audio(tmp_path / name)

    def test_as_subtitles(self, tmp_path: Path) -> None:
        (tmp_path / "secret.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nsecret\n")
        (tmp_path / "x.srt").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'secret.srt'}\n")
        with pytest.raises(VideoError, match="the subtitles cannot be read"):
            read_cues(Track(tmp_path / "x.srt"))

    def test_numbered_pictures(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "x%d.png"), "w", format="image2") as container:
            stream = container.add_stream("png", rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
            container.mux(stream.encode(av.VideoFrame(64, 48, "rgb24")))
            container.mux(stream.encode())
        assert (tmp_path / "x1.png").is_file()
        with pytest.raises(VideoError, match="cannot be opened as a video file"):
            probe(tmp_path / "x%d.png")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(VideoError) as caught:
            probe(path)
        assert str(caught.value) == f"{path}: is no regular file; name a video file"


@pytest.mark.parametrize(("box", "damage"), [(b"avc1", b"zzzz"), (b"stsd", b"stse")])
def test_a_codec_that_is_not_known(tmp_path: Path, box: bytes, damage: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(grey(path).replace(box, damage))
    with pytest.raises(VideoError) as caught:
        probe(path)
    assert str(caught.value) == (
        f"{path}: its pictures are coded in a way that is not known here; convert it to H.264"
    )


def test_sound_of_a_codec_that_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 1024), 0.1, np.float32), "fltp", "mono")
        frame.rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"stsd", b"stse"))
    with pytest.raises(AudioError, match="its sound is coded in a way that is not known here; convert it to WAV"):
        read_audio(path)


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_length_of_an_mpeg_program_stream_is_counted(tmp_path: Path, codec: str) -> None:
    with av.open(str(tmp_path / "a.mpg"), "w", format="mpeg") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(50):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    assert probe(tmp_path / "a.mpg").duration_s == pytest.approx(2.0, abs=0.05)
