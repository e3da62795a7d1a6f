"""What is taken, what is refused, and that nothing is left of the latter."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mrnet.web import uploads as module
from mrnet.web.records import Records
from mrnet.web.refusals import Busy, Refused, TooLarge, WrongType
from mrnet.web.uploads import Limits, Uploads, suffix_of
from tests.web.conftest import made_video

Make = Callable[..., Uploads]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(**limits: float) -> Uploads:
        return Uploads(tmp_path / "videos", Records(tmp_path / "records.sqlite"), Limits(**limits))  # type: ignore[arg-type]

    return made


async def pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def take(uploads: Uploads, content: bytes, stated: int | None = None, name: str = "a.mp4") -> str:
    return asyncio.run(uploads.take(pieces(content), name, stated)).id


def refused(uploads: Uploads, content: bytes, kind: type[Refused], stated: int | None = None) -> str:
    with pytest.raises(kind) as caught:
        take(uploads, content, stated)
    assert list(uploads.path(module.Video("x", "", "", 1, 1, 1, 1, 1)).parent.iterdir()) == []
    return str(caught.value)


def test_types_by_first_bytes() -> None:
    assert suffix_of(b"\0\0\0\x20ftypisom") == ".mp4"
    assert suffix_of(b"\0\0\0\x14ftypqt  ") == ".mov"
    assert suffix_of(b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x1f\x42\x86\x81\x01\x42\x82\x84webm") == ".webm"
    assert suffix_of(b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska") == ".mkv"
    assert suffix_of(b"RIFF\x10\0\0\0AVI LIST") == ".avi"


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"\x89PNG\r\n\x1a\n",
        b"",
    ],
)
def test_what_leads_elsewhere_is_refused(make: Make, content: bytes) -> None:
    assert "no video of a type that is taken" in refused(make(), content, WrongType)


def test_a_wrong_type_is_refused_before_the_rest_comes(make: Make) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 4096

    with pytest.raises(WrongType):
        asyncio.run(make().take(endless(), "a.mp4", None))


def test_damage_is_told_by_the_name_it_came_under(make: Make) -> None:
    message = refused(make(), b"\0\0\0\x20ftypisom" + bytes(5000), Refused)
    assert message.startswith("a.mp4: cannot be opened as a video file")


def test_limits(make: Make, film: Path, tmp_path: Path) -> None:
    content = film.read_bytes()
    size = len(content)
    assert "at most 0.0 MB are taken" in refused(make(upload_bytes=size - 1), content, TooLarge, size)
    assert "more than 0.0 MB" in refused(make(upload_bytes=size - 1), content, TooLarge)
    assert "more than 0.0 MB" in refused(make(), content, TooLarge, stated=size - 1)
    assert "at most 0 are taken" in refused(make(duration_s=7.9), content, TooLarge)
    uploads = make(upload_bytes=size, stored_bytes=2 * size - 1)
    take(uploads, content, size)
    with pytest.raises(TooLarge, match="all videos together may have"):
        take(uploads, made_video(tmp_path / "b.mp4", seed=1).read_bytes(), size)


def test_a_pause_ends_an_upload(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.05)

    async def halting() -> AsyncIterator[bytes]:
        yield b"\0\0\0\x20ftypisom"
        await asyncio.sleep(60)

    uploads = make()
    with pytest.raises(Refused, match="came to a halt"):
        asyncio.run(uploads.take(halting(), "a.mp4", None))


def test_a_client_that_goes_leaves_nothing(make: Make, film: Path, tmp_path: Path) -> None:
    content = film.read_bytes()

    async def going() -> AsyncIterator[bytes]:
        yield content[:1000]
        raise ConnectionError

    uploads = make(stored_bytes=len(content))
    with pytest.raises(ConnectionError):
        asyncio.run(uploads.take(going(), "a.mp4", len(content)))
    assert list((tmp_path / "videos").iterdir()) == []
    take(uploads, content, len(content))  # its room is free again


def test_few_are_taken_at_once(make: Make, film: Path) -> None:
    content = film.read_bytes()

    async def all_at_once() -> list[object]:
        uploads = make()
        slow = asyncio.Event()

        async def waiting() -> AsyncIterator[bytes]:
            await slow.wait()
            yield content

        first = [asyncio.create_task(uploads.take(waiting(), "a", None)) for _ in range(module.MOST_AT_ONCE)]
        await asyncio.sleep(0.01)
        try:
            await uploads.take(pieces(content), "b", None)
        except Busy as busy:
            refusal: object = busy.retry_after_s
        slow.set()
        return [refusal, {video.name for video in await asyncio.gather(*first)}]

    assert asyncio.run(all_at_once()) == [10, {"a"}]


def test_what_a_killed_server_left_is_removed(make: Make, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / ".part-0123").write_bytes(b"x")
    make()
    assert list((tmp_path / "videos").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("C:\\films\\a.mp4", "a.mp4"),
        ("../../x", "x"),
        ("a\0\n\u202eb.mp4", "ab.mp4"),
        ("..", "video"),
        ("é" * 500, "é" * 120),
    ],
)
def test_names_are_words(make: Make, film: Path, name: str, shown: str) -> None:
    assert asyncio.run(make().take(pieces(film.read_bytes()), name, None)).name == shown
