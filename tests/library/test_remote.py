"""A library behind ``s3://`` and ``db://``, which emulations in this process answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from mrnet.errors import LibraryError
from mrnet.library.library import Library
from mrnet.predictor import Predictor
from tests.library.conftest import paint
from tests.library.service import Service
from tests.library.test_update import content, leaves_nothing, only, told


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in an empty one, and the environment that leads to it."""
    httpx.post(f"{endpoint}/moto-api/reset").raise_for_status()
    httpx.put(f"{endpoint}/videos").raise_for_status()
    for name, value in {
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return "s3://videos/family"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of LanceDB's service, and the environment that leads to it."""
    with Service(tmp_path / "service").running() as address:
        monkeypatch.setenv("LANCEDB_API_KEY", "secret")
        monkeypatch.setenv("LANCEDB_HOST_OVERRIDE", address)
        yield "db://family"


@pytest.fixture(params=["bucket", "service"])
def place(request: pytest.FixtureRequest) -> str:
    uri: str = request.getfixturevalue(request.param)
    return uri


def answers(library: Library) -> list[dict[str, Any]]:
    found = [library.search(query, k=5).to_dict() for query in ("green", "a blue sea", '"look at the sea"')]
    for answer in found:
        answer["library"].pop("uri")
    return found


def test_it_answers_as_a_folder_does(
    place: str, predictor: Predictor, open_library: Callable[[], Library], videos: Path
) -> None:
    def both() -> list[Library]:
        return [open_library(), Library.open(place, predictor)]

    (videos / "b.srt").write_text("1\n00:00:02,000 --> 00:00:04,000\nLook at the sea, it is so calm!\n")
    for library in both():
        assert told(library.update(videos)) == only(added=["a.mp4", "b.mp4", "c.mp4"])
    folder, remote = both()
    assert content(remote) == content(folder)
    assert answers(remote) == answers(folder)
    assert [Path(hit["video"]).name for hit in answers(remote)[2]["hits"]] == ["b.mp4"]

    (videos / "a.mp4").rename(videos / "trip" / "moved.mp4")
    (videos / "b.mp4").unlink()
    paint(videos / "trip" / "c.mp4", "green", "red")
    for library in both():
        assert told(library.update(videos)) == only(
            changed=["c.mp4"], moved=[("a.mp4", "moved.mp4")], deleted=["b.mp4"]
        )
    folder, remote = both()
    assert content(remote) == content(folder)
    assert answers(remote) == answers(folder)
    assert leaves_nothing(remote)


def test_a_stopped_update_goes_on(place: str, predictor: Predictor, videos: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Library.open(place, predictor).update(videos, stop)
    library = Library.open(place, predictor)
    kept = len(library.videos())
    report = library.update(videos)
    assert (len(report.added), report.unchanged) == (3 - kept, kept)
    assert content(library).keys() == {"a.mp4", "b.mp4", "c.mp4"}
    assert leaves_nothing(library)


def test_an_index_is_made_and_asked(
    place: str,
    predictor: Predictor,
    videos: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    for name in ("update.EXACT_ROWS", "vectors.EXACT_ROWS", "store._MOST_FRAGMENTS", "store._MOST_UNINDEXED"):
        monkeypatch.setattr(f"mrnet.library.{name}", 0)
    for name, colour in (("b.mp4", "yellow"), ("new.mp4", "green")):
        library = Library.open(place, predictor)
        library.update(videos)
        assert library._store.has_index("rows")
        found = library.search(colour, k=1)
        assert (Path(found[0].video).name, found.exact) == (name, False)
        (videos / "a.mp4").unlink(missing_ok=True)
        paint(videos / "new.mp4", "green")
    assert not [str(warning.message) for warning in recwarn if "optimize" in str(warning.message)]


def test_what_a_bucket_says_is_told(bucket: str, predictor: Predictor, videos: Path) -> None:
    with pytest.raises(
        LibraryError, match=r"s3://elsewhere/family: cannot be read or written \(.*bucket does not exist"
    ):
        Library.open("s3://elsewhere/family", predictor).update(videos)
    with pytest.raises(LibraryError, match="there is no library yet; make one: mrnet index"):
        Library.open(bucket, predictor).search("red")


def test_what_a_service_says_is_told(service: str, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LibraryError, match="there is no library yet; make one: mrnet index"):
        Library.open(service, predictor).search("red")
    monkeypatch.delenv("LANCEDB_API_KEY")
    with pytest.raises(LibraryError, match=r"db://family: cannot be read or written \(api_key is required"):
        Library.open(service, predictor).search("red")
