"""Many clients of one server: how it holds up, and whether every answer is right.

A server of its own process, with the packaged encoders, on loopback. Some videos are rendered (simulated footage) and
what they answer is asked of the predictor first. Then every client, again and again, uploads a video, asks it, waits
for the answer, reads a range of the file, has a clip cut; one in eight goes away in the middle of an upload, one in
eight cancels. An answer is right if it is the predictor's, to the digit; a refusal is a 429. Anything else is wrong.
"""

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from mrnet.answer import AnswerJson
from mrnet.media.video import write_video
from mrnet.predictor import Predictor

QUERIES = ("a red screen", "the sea", "a dog jumps into the water", "a person in a kitchen")
_HOW_OFTEN_S = 2.0
# A client that is told to wait does so for the time it is told, and no longer than this.
_LONGEST_WAIT_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, and print what came of it as JSON; returns 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="Puts a server under load, and checks every answer.")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=300.0)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="mrnet-load-") as name:
        folder = Path(name)
        films = [_rendered(folder / f"film_{seed}.mp4", seed) for seed in range(4)]
        predictor = Predictor.auto()
        right = {
            (film.name, query): replace(predictor.find(film, query), video=Path(film.name)).to_dict()
            for film in films
            for query in QUERIES
        }
        server, url = _start(folder)
        try:
            load = _Load(url, films, right)
            memory = asyncio.run(load.go(arguments.clients, arguments.seconds, server.pid))
        finally:
            server.terminate()
            server.wait(30)
        left = sorted(path.name for path in (folder / "data" / "videos").glob(".part-*"))
    print(json.dumps({"counts": dict(sorted(load.counts.items())), "memory_mb": memory, "left": left}, indent=2))
    for example in load.wrong[:5]:
        print(example, file=sys.stderr)
    return int(bool(load.wrong or left))


class _Load:
    """Clients, and what came of their requests."""

    def __init__(self, url: str, films: list[Path], right: dict[tuple[str, str], AnswerJson]) -> None:
        self._url, self._films, self._right = url, films, right
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def go(self, clients: int, seconds: float, pid: int) -> list[int]:
        """Resident memory of the server, in MB, now and then."""
        until_s = time.monotonic() + seconds
        tasks = [asyncio.create_task(self._client(number, until_s)) for number in range(clients)]
        memory = []
        while not all(task.done() for task in tasks):
            memory.append(_resident_mb(pid))
            await asyncio.wait(tasks, timeout=max(seconds / 20, _HOW_OFTEN_S))
        for task in tasks:
            task.result()
        return memory

    async def _client(self, number: int, until_s: float) -> None:
        chance = random.Random(number)
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
            while time.monotonic() < until_s:
                await self._visit(client, chance)

    async def _visit(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        film, query = chance.choice(self._films), chance.choice(QUERIES)
        content = film.read_bytes()
        if chance.random() < 1 / 8:
            await self._go_away(client, content)
            return
        video = await self._send(client, "POST", "/api/videos", 201, params={"name": film.name}, content=content)
        if video is None:
            return
        job = await self._send(client, "POST", "/api/jobs", 202, json={"video": video["id"], "query": query})
        if job is None:
            return
        if chance.random() < 1 / 8:
            await self._send(client, "POST", f"/api/jobs/{job['id']}/cancel", 200)
            return
        while job is not None and job["state"] in ("queued", "running"):
            await asyncio.sleep(0.2)
            job = await self._send(client, "GET", f"/api/jobs/{job['id']}", 200)
        if job is None:
            return
        self._hold(job["answer"] == self._right[film.name, query], "answer", f"{film.name}, {query}: {job}")
        part = await client.get(f"/api/videos/{video['id']}/file", headers={"range": "bytes=100-199"})
        self._hold(part.content == content[100:200], "range", f"{part.status_code} {len(part.content)}")
        clip = await client.get(f"/api/jobs/{job['id']}/clips/1")
        if clip.status_code == 429:
            self.counts["refused"] += 1
        else:
            self._hold(clip.status_code == 200 and clip.content[4:8] == b"ftyp", "clip", clip.text[:200])

    async def _go_away(self, client: httpx.AsyncClient, content: bytes) -> None:
        """Break off in the middle of an upload."""

        async def half() -> Any:
            yield content[: len(content) // 2]
            raise ConnectionAbortedError

        try:
            await client.post("/api/videos", params={"name": "half.mp4"}, content=half())
        except (ConnectionAbortedError, httpx.HTTPError):
            self.counts["gone away"] += 1

    async def _send(self, client: httpx.AsyncClient, method: str, path: str, status: int, **more: Any) -> Any:
        """The JSON of an answer; ``None`` where it was refused, after the wait that was asked for."""
        response = await client.request(method, path, **more)
        if response.status_code == 429:
            self.counts["refused"] += 1
            await asyncio.sleep(min(float(response.headers["retry-after"]), _LONGEST_WAIT_S))
            return None
        is_right = response.status_code == status
        self._hold(is_right, f"{method} {re.sub(r'/[A-Za-z0-9_-]{20,}', '/ID', path)}", response.text[:200])
        return response.json() if is_right else None

    def _hold(self, is_right: bool, what: str, otherwise: str) -> None:
        self.counts[f"{what}: {'right' if is_right else 'wrong'}"] += 1
        if not is_right:
            self.wrong.append(f"{what}: {otherwise}")


def _start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    words = ["serve", "--port", "0", "--data", str(folder / "data")]
    environment = os.environ | {"MRNET_CACHE": str(folder / "cache"), "MRNET_TOKEN": ""}
    server = subprocess.Popen(
        [sys.executable, "-m", "mrnet", *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert server.stderr is not None
    for line in server.stderr:
        if line.startswith("open "):
            return server, line.removeprefix("open ").strip()
    raise RuntimeError("the server did not start")


def _rendered(path: Path, seed: int) -> Path:
    """Ten seconds of five drifting colours: simulated footage."""
    rng = np.random.default_rng(seed)
    colors, noise = rng.integers(0, 255, (5, 3)), rng.integers(-20, 20, (180, 320, 3))
    frames = ((colors[index // 20] + noise + index % 20).clip(0, 255).astype(np.uint8) for index in range(100))
    write_video(path, frames, fps=10)
    return path


def _resident_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, flags=re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
