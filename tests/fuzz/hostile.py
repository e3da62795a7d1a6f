"""What is done to sound input: to values, to trees of values, to text, to bytes. All of it by chance, from a seed."""

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

from mrnet.errors import VideoError
from mrnet.media.video import probe

VALUES: list[Any] = [
    None, True, False, "", " ", "x", "0", "1_0", "nan", "true", "\0", "\ud800", "\u202e", "é", "../../etc/passwd",
    "/dev/zero", -1, 0, 1, 2, 7, 0.5, -0.0, 1e-320, 1e11, 1e308, float("inf"), float("nan"), 2**31, 2**63, 10**12,
    10**400, -(10**6), [], {}, [[]], [None], [[[[[[[[[[]]]]]]]]]], {"a": {"b": {"c": {}}}}, ["x"] * 3, [0, 1], [1, 0],
    [-5, 1e9], "x" * 5000, list(range(300)),
]  # fmt: skip

TOKENS = [
    "[" * 3000, "{" * 3000, '{"a":' * 2000, "9" * 5000, "-", "\0", "\ufeff", "\u2028", "<" * 5000,
    "&#" + "9" * 5000 + ";", "&a [*a]", "*a", "!!int x", "!!timestamp x", "0b_", "<<: 3", "? ", "| ", "%YAML 9.9\n",
    "\r", "\r\n", "\n\n", '"', "'", ",", ":", "##", "-->", "NaN", "1e999", "1_0", "null", "true", "\\ud800", "\t",
    "]]>", "<!DOCTYPE x>", "\x1b[2J",
]  # fmt: skip


def change_tree(tree: Any, random: Random, most: int = 3) -> Any:
    """A copy of nested lists and objects in which some values are hostile, doubled, or gone."""
    changed = copy.deepcopy(tree)
    for _ in range(random.randint(1, most)):
        parent, key = random.choice(_places(changed))
        how = random.random()
        if how < 0.7:
            parent[key] = copy.deepcopy(random.choice(VALUES))
        elif how < 0.8:
            del parent[key]
        elif how < 0.9 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif isinstance(parent, dict):
            parent[random.choice(["", "x", "\ud800", "é" * 300, "../x"])] = parent[key]
        if not _places(changed):
            return changed
    return changed


def _places(tree: Any) -> list[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [place for key in keys for place in [(tree, key), *_places(tree[key])]]


def change_text(text: str, random: Random) -> str:
    """Text with something hostile in it, something twice, or something gone."""
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice([0, 0, 1, 5, 40]))
        middle = random.choice([random.choice(TOKENS), text[start:end] * random.choice([0, 2, 50])])
        text = text[:start] + middle + text[end:]
    return text


def change_bytes(content: bytes, random: Random, head: int | None = None) -> bytes:
    """Bytes some of which are others, twice, or gone; those of the first ``head`` more often."""
    changed = bytearray(content)
    for _ in range(random.choice([1, 1, 2, 4, 16])):
        reach = len(changed) if head is None or random.random() < 0.3 else min(head, len(changed))
        at = random.randrange(reach) if reach else 0
        how = random.random()
        if how < 0.35:
            changed[at : at + 1] = bytes([random.randrange(256)])
        elif how < 0.55:
            changed[at : at + 4] = random.choice(
                [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1"]
            )
        elif how < 0.65:
            changed[at : at + 8] = random.choice([b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7])
        elif how < 0.75:
            del changed[at:]
        elif how < 0.85:
            del changed[at : at + random.choice([1, 4, 100])]
        else:
            changed[at:at] = changed[at : at + random.choice([1, 4, 100])] * random.choice([1, 3])
    return bytes(changed)


def spoil_text(source: Path, target: Path, random: Random) -> None:
    """Write a text file with something hostile in it: in its values, where it is JSON, or in its letters."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".json" and random.random() < 0.6:
        text = json.dumps(change_tree(json.loads(text), random))
    elif source.suffix == ".jsonl" and random.random() < 0.6:
        lines = text.splitlines()
        number = random.randrange(len(lines))
        lines[number] = json.dumps(change_tree(json.loads(lines[number]), random))
        text = "\n".join(lines) + "\n"
    elif random.random() < 0.2:
        target.write_bytes(change_bytes(text.encode(), random))
        return
    else:
        text = change_text(text, random)
    target.write_text(text, encoding="utf-8", errors="surrogatepass")


def spoil_media(source: Path, target: Path, random: Random) -> None:
    """Write a video, a sound, or subtitles with something hostile in it."""
    content = source.read_bytes()
    if source.suffix in (".srt", ".vtt", ".ass"):
        target.write_text(change_text(content.decode(), random), encoding="utf-8", errors="surrogatepass")
        return
    head = 1500 if random.random() < 0.6 else None
    spoilt = change_bytes(content, random, head)
    if source.suffix == ".mp4" and random.random() < 0.6:  # where an MP4 file says what it holds
        at = content.rindex(b"moov")
        spoilt = content[:at] + change_bytes(content[at:], random)
    target.write_bytes(spoilt)


def lasts_long(video: Path) -> bool:
    """Whether it does, which may be so, and takes as long as any video of that length."""
    try:
        return probe(video).duration_s > 60
    except VideoError:
        return False
