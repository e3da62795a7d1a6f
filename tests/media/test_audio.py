"""Sound files to samples, and what is said of files that hold no speech."""

import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from mrnet.errors import AudioError, OutputError
from mrnet.media.audio import SAMPLE_RATE, audio_windows, read_audio, write_audio
from mrnet.media.video import write_video

Make = Callable[..., np.ndarray]


def write(path: Path, channels: np.ndarray, rate: int, codec: str) -> None:
    """Encode (channels, n) float32 samples."""
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        size = stream.codec_context.frame_size or None
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate, frame_size=size)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
        frame.sample_rate = rate
        for given in (frame, None):
            for part in resampler.resample(given):
                container.mux(stream.encode(part))
        container.mux(stream.encode())


def tone(seconds: float, hertz: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def fails(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_written_samples_are_read_again(tmp_path: Path, samples: Make) -> None:
    path, sound = tmp_path / "talk: part 1.wav", samples(1.5)
    sound[0], sound[1] = 1, -1
    write_audio(path, sound)
    again = read_audio(path)
    assert again.dtype == np.float32
    assert again[0] == 32767 / 32768  # the largest there is
    np.testing.assert_allclose(again[1:], sound[1:], atol=0.5001 / 32768)
    assert [p.name for p in tmp_path.iterdir()] == ["talk: part 1.wav"]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "pcm_s16le"), ("a.wav", "pcm_f32le"), ("a.flac", "flac"), ("a.m4a", "aac")]
)
def test_any_format_rate_and_channels_become_16_khz_mono(tmp_path: Path, name: str, codec: str) -> None:
    left, right = 0.8 * tone(2, 440, 44100), 0.4 * tone(2, 440, 44100)
    write(tmp_path / name, np.stack([left, right]), 44100, codec)
    sound = read_audio(tmp_path / name)
    assert abs(len(sound) - 2 * SAMPLE_RATE) <= 1100  # AAC comes in frames of 1024 samples
    middle = sound[SAMPLE_RATE // 2 :][:SAMPLE_RATE]
    spectrum = abs(np.fft.rfft(middle))
    assert spectrum.argmax() == 440
    # The mean of the channels: an amplitude of 0.6.
    assert 2 * spectrum.max() / SAMPLE_RATE == pytest.approx(0.6, abs=0.01)


def test_soundtrack_of_a_video(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=4)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=48000, layout="mono")
        for _ in range(4):
            container.mux(
                video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24"))
            )
        frame = av.AudioFrame.from_ndarray(0.5 * tone(1, 300, 48000)[None], format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(video.encode())
        container.mux(sound.encode())
    assert abs(np.fft.rfft(read_audio(path)[:SAMPLE_RATE])).argmax() == 300


def test_windows_are_the_samples_in_order(tmp_path: Path, samples: Make) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, samples(5.25))
    windows = list(audio_windows(path, 2))
    # 2 s, then two that share what is left: (5.25 - 2) / 2 s.
    assert [len(window) for window in windows] == [32_000, 26_000, 26_000]
    np.testing.assert_array_equal(np.concatenate(windows), read_audio(path))
    assert [len(window) for window in audio_windows(path, 1)] == [16_000] * 4 + [10_000] * 2
    assert [len(window) for window in audio_windows(path, 5.25)] == [84_000]
    assert [len(window) for window in audio_windows(path, 30)] == [84_000]


def test_no_such_file_and_no_sound(tmp_path: Path) -> None:
    missing, note, silent_film = tmp_path / "no.wav", tmp_path / "note.txt", tmp_path / "film.mp4"
    assert fails(missing) == f"{missing}: no such file; check the path of the sound"
    assert fails(tmp_path) == f"{tmp_path}: is a directory; name a sound file"
    note.write_text("When does the red circle rise?")
    assert fails(note) == (
        f"{note}: cannot be opened as a sound file (invalid data found when processing input); "
        "it is none, or it is incomplete"
    )
    write_video(silent_film, [np.zeros((48, 64, 3), np.uint8)], 1)
    assert fails(silent_film) == f"{silent_film}: holds no sound track; name a sound file, or a video with sound"


def test_sound_that_says_nothing(tmp_path: Path, samples: Make) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, np.zeros(16_000, np.float32))
    assert fails(path) == f"{path}: is silent; record it again"
    write_audio(path, samples(1) * 1e-4)
    assert fails(path) == f"{path}: is silent; record it again"
    write_audio(path, samples(0.05))
    assert fails(path) == f"{path}: lasts 0.050 s, too short to say anything; record it again"
    write_audio(path, samples(0))
    assert fails(path) == f"{path}: no sound in it can be decoded; the file is empty or damaged, replace it"
    write(path, np.stack([samples(1), np.full(16_000, np.nan, np.float32)]), 16_000, "pcm_f32le")
    assert fails(path) == f"{path}: NaN or infinity among its samples; write the file again"


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.wav", "pcm_s16le", 16_000), ("a.flac", "flac", 16_000), ("a.mka", "libopus", 48_000)],
)
def test_a_file_that_is_cut_off(tmp_path: Path, samples: Make, name: str, codec: str, rate: int) -> None:
    path = tmp_path / name
    write(path, samples(6 * rate / 16_000)[None], rate, codec)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    message = fails(path)
    assert message.startswith(f"{path}: the sound stops at ")
    assert message.endswith(" s of 6.0 s; the file is incomplete, copy or download it again")
    with pytest.raises(AudioError):
        list(audio_windows(path, 1))


def test_the_start_of_a_file(tmp_path: Path, samples: Make) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, samples(3))
    whole = read_audio(path)
    assert len(whole) == 48_000
    for first_s, count in ((0.0001, 2), (1.3, 20_800), (3, 48_000), (9, 48_000)):
        np.testing.assert_array_equal(read_audio(path, first_s), whole[:count])
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(AudioError, match="the sound stops at"):  # the rest is looked at all the same
        read_audio(path, 0.5)


def test_wav_from_a_pipe_does_not_state_its_length(tmp_path: Path, samples: Make) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, samples(1))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_audio(path)) == 16_000


def test_writing_fails_without_a_trace(tmp_path: Path, samples: Make) -> None:
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(OutputError, match=r"a\.wav: is a folder, where a file should be written"):
        write_audio(tmp_path / "a.wav", samples(1))
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_too_few_samples_a_second(tmp_path: Path) -> None:
    """Made 16,000 a second, the seconds of such a file of a megabyte would be gigabytes."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 1, 0, "NONE", ""))
        file.writeframes(b"\x00\x10" * 1000)
    assert fails(tmp_path / "a.wav") == (
        f"{tmp_path / 'a.wav'}: has 1 samples a second, too few for speech; record it again"
    )
