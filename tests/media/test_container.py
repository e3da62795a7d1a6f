"""Opening media files: what is wrong with them, tags of any encoding, lengths they state."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from mrnet.errors import AudioError, VideoError
from mrnet.media.audio import read_audio, write_audio
from mrnet.media.container import media_reason, media_url, open_media, stated_duration
from mrnet.media.video import probe, sample_frames


def write_video_with_tags(path: Path, encoding: str) -> None:
    """Two seconds of grey, with tags of the container and of its stream."""
    with av.open(str(path), "w", metadata_encoding=encoding) as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.metadata["title"] = stream.metadata["title"] = "un café"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), "rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_tags_of_a_video_that_are_not_utf8(tmp_path: Path, name: str) -> None:
    write_video_with_tags(tmp_path / name, "latin-1")
    assert b"un caf\xe9" in (tmp_path / name).read_bytes()
    assert probe(tmp_path / name).duration_s == pytest.approx(2.0, abs=0.01)
    assert len(list(sample_frames(tmp_path / name, 2.0, (16, 16)))) == 4


def test_tags_of_a_sound_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, np.full(8000, 0.5, np.float32))
    info = b"INFOINAM" + struct.pack("<I", 8) + b"un caf\xe9\0"
    tagged = path.read_bytes() + b"LIST" + struct.pack("<I", len(info)) + info
    path.write_bytes(tagged[:4] + struct.pack("<I", len(tagged) - 8) + tagged[8:])
    with open_media(path, "sound", AudioError) as container:
        assert container.metadata["title"] == "un caf\ufffd"
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
        write_video_with_tags(tmp_path / name, "utf-8")
        with open_media(tmp_path / name, "video", VideoError) as container:
            assert stated_duration(container, container.streams.video[0]) == pytest.approx(2.0, abs=0.01)


def test_names_and_reasons() -> None:
    assert media_url(Path("talk: part 1.mp4")) == "file:talk: part 1.mp4"
    assert media_reason(OSError(28, "No space left on device")) == "no space left on device"
    assert media_reason(ValueError("First line\nsecond")) == "first line"
