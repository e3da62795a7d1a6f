"""Encoded videos kept by content, encoder and rate, and no more of them than there is room for."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mrnet.features.cache import FOLDER_VARIABLE, FeatureCache, fingerprint
from mrnet.provenance import Provenance

EYES = Provenance(backbone="eyes", dim=3, rows_per_s=2.0, revision="1")
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(range(256)) * 20_000)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def test_rows_return_for_the_same_content_by_any_name(video: Path, cache: FeatureCache) -> None:
    assert cache.get(video, EYES) is None
    cache.put(video, EYES, ROWS)
    moved = video.rename(video.with_name("other name.mkv"))
    found = cache.get(moved, EYES)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ROWS)


def test_a_text_is_kept_beside_rows(video: Path, cache: FeatureCache) -> None:
    cache.put(video, EYES, ROWS, "été | #1")
    found = cache.get_with_text(video, EYES)
    assert found is not None
    np.testing.assert_array_equal(found[0], ROWS)
    assert found[1] == "été | #1"
    cache.put(video, EYES, ROWS)
    assert cache.get_with_text(video, EYES) is not None
    assert cache.get_with_text(video, EYES)[1] == ""  # type: ignore[index]


@pytest.mark.parametrize("changes", [{"backbone": "ears"}, {"revision": "2"}, {"rows_per_s": 1.0}, {"dim": 4}])
def test_another_encoder_or_rate_is_another_entry(
    changes: dict[str, object], video: Path, cache: FeatureCache
) -> None:
    cache.put(video, EYES, ROWS)
    assert cache.get(video, EYES.model_copy(update=changes)) is None


@pytest.mark.parametrize("at", [0, 2_560_000, 5_119_999])
def test_a_byte_at_the_start_middle_or_end_makes_another_file(at: int, video: Path) -> None:
    before = fingerprint(video)
    content = bytearray(video.read_bytes())
    content[at] ^= 1
    video.write_bytes(content)
    seen = before != fingerprint(video)
    # Between the pieces that are looked at, a single byte is not seen; a cut or a new encoding always is.
    assert seen or at == 2_560_000
    video.write_bytes(content[:-1])
    assert fingerprint(video) != before


def test_the_least_recently_used_goes(tmp_path: Path) -> None:
    videos = []
    for name in "abc":
        videos.append(tmp_path / f"{name}.mp4")
        videos[-1].write_bytes(name.encode())
    rows = np.zeros((1000, 3), np.float32)
    cache = FeatureCache(tmp_path / "cache", most_bytes=2 * rows.nbytes + 2000)
    for age, video in enumerate(videos[:2]):
        cache.put(video, EYES, rows)
        path = next(entry.path for entry in cache.entries() if entry.name == video.name)
        os.utime(path, (1000 + age, 1000 + age))
    assert cache.get(videos[0], EYES) is not None  # and is used thereby
    cache.put(videos[2], EYES, rows)
    assert {entry.name for entry in cache.entries()} == {"a.mp4", "c.mp4"}
    assert [entry.backbone for entry in cache.entries()] == ["eyes", "eyes"]
    assert cache.clear() == 2
    assert cache.entries() == []


def test_damage_is_no_answer(video: Path, cache: FeatureCache) -> None:
    cache.put(video, EYES, ROWS)
    [entry] = cache.entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-5])
    assert cache.get(video, EYES) is None
    assert [entry.name for entry in cache.entries()] == ["?"]


def test_no_room_is_a_warning(video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("a file")
    caplog.set_level(logging.WARNING, logger="mrnet")
    FeatureCache(tmp_path / "taken").put(video, EYES, ROWS)
    [message] = caplog.messages
    assert message.startswith("the encoded video is not kept for the next question: ")


def test_a_video_that_is_not_there_is_for_its_decoder_to_say(tmp_path: Path, cache: FeatureCache) -> None:
    assert cache.get(tmp_path / "none.mp4", EYES) is None
    cache.put(tmp_path / "none.mp4", EYES, ROWS)
    assert not cache.folder.exists()


def test_the_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "here"))
    assert FeatureCache().folder == tmp_path / "here"


@pytest.mark.parametrize(
    ("rows", "about"),
    [
        (ROWS, "[]"),
        (ROWS, "[" * 3000),
        (np.full_like(ROWS, np.nan), "{}"),
        (ROWS[:, :2], "{}"),
        (ROWS.astype(np.float64), "{}"),
        (ROWS[0], "{}"),
    ],
)
def test_entries_of_others(video: Path, cache: FeatureCache, rows: np.ndarray, about: str) -> None:
    cache.put(video, EYES, ROWS, "text")
    [path] = cache.folder.iterdir()
    save_file({"rows": np.ascontiguousarray(rows)}, path, {"mrnet": about})
    found = cache.get_with_text(video, EYES)
    assert found is None or found[1] == ""
    [entry] = cache.entries()
    assert (entry.name, entry.backbone) == ("?", "?")
