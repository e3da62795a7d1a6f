"""Tools asked by the protocol's own client over standard input and output, as a program that uses them does."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from mrnet.cli import main
from mrnet.errors import ConfigError, DataError
from mrnet.features.cache import FOLDER_VARIABLE
from mrnet.mcp_server import Stretch, Tools, make_server
from mrnet.media.video import probe, write_video

Call = tuple[str, dict[str, Any]]


def paint(path: Path) -> Path:
    """Twelve seconds: red, then a white square on blue that moves, then green."""
    frames = np.zeros((60, 96, 96, 3), np.uint8)
    frames[:20, ..., 0] = 200
    frames[20:40, ..., 2] = 200
    for index in range(20, 40):
        frames[index, 30:60, index : index + 30] = 255
    frames[40:, ..., 1] = 200
    write_video(path, iter(frames), fps=5)
    return path


def ask(words: list[str], calls: list[Call], folder: Path) -> tuple[list[Any], list[tuple[bool, Any]]]:
    """The tools that ``mrnet mcp`` with these words lists, and what it gives for calls: whether it refuses, and JSON or
    text."""
    environment = {FOLDER_VARIABLE: str(folder / "kept"), "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mrnet", "mcp", *words], env=environment, cwd=folder
    )

    async def session() -> tuple[list[Any], list[tuple[bool, Any]]]:
        async with Client(stdio_client(server)) as client:
            tools = (await client.list_tools()).tools
            given = []
            for name, arguments in calls:
                result = await client.call_tool(name, arguments)
                [content] = result.content
                given.append((result.is_error, content.text if result.is_error else json.loads(content.text)))
                if not result.is_error:
                    assert result.structured_content == given[-1][1]
            return tools, given

    return asyncio.run(session())


def printed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    """The JSON of the command line."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return json.loads(capsys.readouterr().out)


def test_gives_what_the_command_line_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))
    videos = tmp_path / "videos"
    videos.mkdir()
    video = paint(videos / "a.mp4")
    (videos / "a.srt").write_text("1\n00:00:04,000 --> 00:00:08,000\nThe square is on the move.\n")
    secret = paint(tmp_path / "secret.mp4")
    (videos / "link.mp4").symlink_to(secret)
    found = printed(capsys, "find", video, "a white square", "-k", "2", "--json")
    assert main(["index", str(videos), "--library", str(tmp_path / "library")]) == 0
    searched = printed(
        capsys, "search", '"on the move"', "--library", tmp_path / "library", "--folder", videos, "--json"
    )
    said = [{"start_s": 4.0, "end_s": 8.0, "source": "said", "words": "The square is on the move."}]
    before = sorted(path for path in tmp_path.rglob("*") if (tmp_path / "kept") not in path.parents)
    calls: list[Call] = [
        ("find", {"video": "a.mp4", "query": "a white square", "k": 2}),
        ("find", {"video": str(video), "query": "a white square", "k": 2}),
        ("search", {"query": '"on the move"'}),
        ("cut", {"video": "a.mp4", "moments": said, "exact": True}),
        ("find", {"video": "../secret.mp4", "query": "a dog"}),
        ("find", {"video": str(secret), "query": "a dog"}),
        ("find", {"video": "link.mp4", "query": "a dog"}),
        ("search", {"query": "a dog", "folder": "/"}),
        ("cut", {"video": "link.mp4", "moments": said}),
        ("find", {"video": "gone.mp4", "query": "a dog"}),
        ("find", {"video": "a.mp4", "query": " "}),
        ("find", {"video": "a.mp4", "query": "a dog", "k": 0}),
        ("cut", {"video": "a.mp4", "moments": [{"start_s": 5, "end_s": 4}]}),
    ]
    words = ["--root", str(videos), "--out", str(tmp_path / "clips"), "--library", str(tmp_path / "library")]
    tools, given = ask(words, calls, tmp_path)

    assert {tool.name: tool.annotations.read_only_hint for tool in tools} == {
        "find": True, "search": True, "cut": False,
    }  # fmt: skip
    assert [refused for refused, _ in given] == [False] * 4 + [True] * 9
    assert given[0][1] == given[1][1] == found
    assert given[2][1] == searched
    assert [hit["video"] for hit in searched["hits"]] == [str(video)]
    [clip] = given[3][1]["clips"]
    assert clip == {"start_s": 4.0, "end_s": 8.0, "path": str(tmp_path / "clips" / "a_01_0m04s-0m08s.mp4")}
    assert probe(Path(clip["path"])).duration_s == pytest.approx(4.0, abs=0.21)
    outside = f"may not be read, only what lies below {videos}; see `mrnet mcp --root DIR`"
    for refusal in given[4:9]:
        assert outside in refusal[1]
    assert "gone.mp4" in given[9][1]
    assert "query is empty" in given[10][1]
    assert "greater than or equal to 1" in given[11][1]
    assert "a moment ends at 4.0 s and starts at 5.0 s" in given[12][1]
    after = sorted(path for path in tmp_path.rglob("*") if (tmp_path / "kept") not in path.parents)
    assert sorted(set(after) - set(before)) == [tmp_path / "clips", Path(clip["path"])]


def test_nothing_is_cut_without_a_folder_for_it(tmp_path: Path) -> None:
    paint(tmp_path / "a.mp4")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        Tools([tmp_path]).cut("a.mp4", [Stretch(start_s=1, end_s=2)])
    assert str(caught.value) == (
        "no folder to write clips to was named: start the server with `mrnet mcp --out DIR`"
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_several_roots(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        paint(tmp_path / name / "a.mp4")
    tools = Tools([tmp_path / "one", tmp_path / "two"], tmp_path / "clips")
    for video in ("a.mp4", "../two/a.mp4", str(tmp_path / "two" / "a.mp4")):
        assert len(tools.cut(video, [Stretch(start_s=1, end_s=2)])["clips"]) == 1
    for video in ("../three/a.mp4", str(tmp_path / "three" / "a.mp4"), "../onetwo.mp4", "a\0.mp4"):
        with pytest.raises(DataError):
            tools.cut(video, [Stretch(start_s=1, end_s=2)])


def test_the_package_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    with pytest.raises(ConfigError) as caught:
        make_server(Tools([tmp_path]))
    assert str(caught.value) == "the server needs mcp: pip install 'mrnet[mcp]'"
