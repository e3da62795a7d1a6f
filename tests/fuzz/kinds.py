"""Hostile input of every kind: a case is a function of its kind and its number alone."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import torch
from safetensors.torch import load_file, save

from mrnet.data.annotations import read_annotations
from mrnet.features.store.reader import open_store
from tests.fuzz.hostile import (
    TOKENS,
    VALUES,
    change_bytes,
    change_text,
    change_tree,
    lasts_long,
    spoil_media,
    spoil_text,
)  # fmt: skip
from tests.fuzz.inputs import DIM, IDS, LENGTH_S, Inputs
from tests.fuzz.judge import Case, all_finite
from tests.fuzz.libraries import libraries
from tests.fuzz.requests import requests

Kind = Callable[[Inputs, Path, Random], Case]


def annotations(inputs: Inputs, folder: Path, random: Random) -> Case:
    """An annotation file of any format."""
    name = random.choice(["a.json", "a.jsonl", "own.jsonl", "a.csv", "a.txt", "a.vtt", "a.eaf"])
    spoil_text(inputs.folder / name, folder / name, random)

    def check(_: str) -> None:
        for record in read_annotations(folder / name, durations=lambda _: LENGTH_S):
            record.video_id.encode()
            for query in record.queries:
                assert query.text.strip()
                query.text.encode()
                for start_s, end_s in query.moments:
                    assert 0 <= start_s <= end_s <= record.duration_s < 1e8
                assert all(0 <= rating <= 4 for ratings in query.saliency for rating in ratings)

    if random.random() < 0.3:
        words = ["features", "text", name, "--backbone", "hashed-words", "--out", "out.h5"]
        return Case(words, ("out.h5",))
    return Case(["data", "check", name], check=check)


def predictions(inputs: Inputs, folder: Path, random: Random) -> Case:
    """A prediction file, or the annotations that it is scored by."""
    spoilt = random.choice(["p.jsonl", "p.jsonl", "a.jsonl"])
    for name in ("p.jsonl", "a.jsonl"):
        if name == spoilt:
            spoil_text(inputs.folder / name, folder / name, random)
        else:
            shutil.copy(inputs.folder / name, folder / name)
    metrics = random.choice(["recall", "qvhighlights"])

    def check(printed: str) -> None:
        document = json.loads(printed)
        assert all_finite(document)
        flat = [value for value in document.values() if isinstance(value, float)]
        assert all(0 <= value <= 100 for value in flat)

    words = ["evaluate", "--predictions", "p.jsonl", "--annotations", "a.jsonl", "--metrics", metrics, "--json"]
    return Case(words, check=check)


def stores(inputs: Inputs, folder: Path, random: Random) -> Case:
    """A feature store of any layout, a PCA, or what a store says of itself."""
    name = random.choice(["videos.h5", "npy", "pt", "hdf5"])
    store = folder / name
    refused = random.random() < 0.4
    shutil.copytree(inputs.folder / name, store) if (inputs.folder / name).is_dir() else shutil.copy(
        inputs.folder / name, store
    )
    if refused:
        impossible_rows(store, random)
    else:
        files = sorted(store.iterdir()) if store.is_dir() else [store]
        spoilt = random.choice(files)
        if spoilt.suffix in (".json", ".jsonl"):
            spoil_text(spoilt, spoilt, random)
        else:
            spoilt.write_bytes(change_bytes(spoilt.read_bytes(), random, head=300))
    shutil.copy(inputs.folder / "a.jsonl", folder / "a.jsonl")

    def check(_: str) -> None:
        found = open_store(store)
        for video_id in IDS:
            rows = found.read(video_id)
            assert rows.ndim == 2
            assert np.isfinite(rows).all()

    def check_reduced(_: str) -> None:
        reduced = open_store(folder / "out.h5")
        assert all(np.isfinite(reduced.read(video_id)).all() for video_id in reduced.ids())

    how = random.choice(["check", "pca", "apply", "add"])
    if how == "check":
        return Case(["data", "check", "a.jsonl", "--features", name], refused=refused, check=check)
    if how == "pca":
        words = ["features", "pca", name, "--dim", "2", "--fit-on", "all", "--out", "out.h5"]
        return Case(words, ("out.h5", "out.pca.safetensors"), refused, check_reduced)
    if how == "apply":
        content = (inputs.folder / "videos.pca.safetensors").read_bytes()
        (folder / "x.pca.safetensors").write_bytes(change_bytes(content, random, head=600))
        words = ["features", "pca", name, "--apply", "x.pca.safetensors", "--out", "out.h5"]
        return Case(words, ("out.h5",), check=check_reduced)
    shutil.copy(inputs.folder / "v.mp4", folder / "v.mp4")
    return Case(["features", "video", "v.mp4", "--backbone", "color-hog-motion", "--out", name], (name,))


def checkpoints(inputs: Inputs, folder: Path, random: Random) -> Case:
    """A checkpoint, a run, or a released one."""
    how = random.choice(["answer", "answer", "resume", "convert"])
    source = inputs.folder / {"answer": "model", "resume": "run", "convert": "released"}[how]
    shutil.copytree(source, folder / "x")
    files = [
        path for path in sorted((folder / "x").rglob("*")) if path.is_file() and "tensorboard" not in path.parts
    ]
    spoilt = random.choice(files)
    refused = False
    if spoilt.suffix == ".safetensors" and random.random() < 0.5:
        refused = spoil_weights(spoilt, random)
    elif spoilt.suffix in (".json", ".yaml", ".yml"):
        spoil_text(spoilt, spoilt, random)
    elif random.random() < 0.1:
        spoilt.unlink()
    else:
        spoilt.write_bytes(change_bytes(spoilt.read_bytes(), random, head=2000))

    def check(printed: str) -> None:
        answer = json.loads(printed)
        assert all_finite(answer)
        assert answer["moments"] or answer["best_guess"]
        assert all(0 <= moment["start_s"] < moment["end_s"] <= LENGTH_S for moment in answer["moments"])

    if how == "answer":
        shutil.copy(inputs.folder / "v.mp4", folder / "v.mp4")
        words = ["find", "v.mp4", "a dog", "--checkpoint", "x", "--json", "--no-cache", "--no-subtitles"]
        return Case(words, refused=refused, check=check)
    if how == "resume":
        return Case(["train", "--resume", "--cpu", "--out", "x"], ("x",))
    pth, settings = (
        next(path for path in files if path.suffix in suffixes) for suffixes in ((".pth",), (".yml", ".yaml"))
    )
    return Case(["convert", str(pth), "--config", str(settings), "--out", "out"], ("out",))


def configurations(inputs: Inputs, folder: Path, random: Random) -> Case:
    """Settings: a file of them, or ``--set``."""
    tree = inputs.config.model_dump(mode="json")
    words = ["train", "--config", "c.yaml", "--cpu", "--out", "out"]
    if random.random() < 0.5:
        text = json.dumps(tree, indent=random.choice([None, 1]))
        changed = change_text(text, random) if random.random() < 0.4 else json.dumps(change_tree(tree, random))
        (folder / "c.yaml").write_text(changed, encoding="utf-8", errors="surrogatepass")
    else:
        (folder / "c.yaml").write_text(json.dumps(tree))
        section = random.choice(list(tree))
        key = section if not isinstance(tree[section], dict) else f"{section}.{random.choice(list(tree[section]))}"
        value = (
            json.dumps(change_tree([1], random)[0:1])[1:-1]
            if random.random() < 0.7
            else change_text("[1, 2]", random)
        )
        words += ["--set", f"{key}={value}"]
    # What is right is trained, and not for long.
    return Case([*words, "--set", "train.epochs=1", "--set", "train.workers=0"], ("out",))


def media(inputs: Inputs, folder: Path, random: Random) -> Case:
    """A video, its subtitles, or a sound."""
    name = random.choice(
        ["v.mp4", "v.mp4", "v.mkv", "v.avi", "v.mpg", "v.gif", "v.srt", "v.vtt", "v.ass", "s.wav"]
    )
    spoil_media(inputs.folder / name, folder / name, random)
    video = name
    if video.endswith((".srt", ".vtt", ".ass")):
        video = "v.mp4"
        shutil.copy(inputs.folder / video, folder / video)
    if name == "s.wav":
        words = ["features", "speech", name, "--backbone", "speech-embedding", "--out", "out.h5"]
        return Case(words, ("out.h5",))
    if lasts_long(folder / video):  # which may be so, and takes as long as any video of that length
        shutil.copy(inputs.folder / "a.jsonl", folder / "a.jsonl")
        return Case(["data", "check", "a.jsonl", "--features", "."])
    if video == name and random.random() < 0.3:
        words = ["features", "video", name, "--backbone", "color-hog-motion", "--out", "out.h5"]
        return Case(words, ("out.h5",))

    def check(printed: str) -> None:
        answer = json.loads(printed)
        assert all_finite(answer)
        length_s = answer["duration_s"]
        assert 0 < length_s < 20_000
        assert all(0 <= moment["start_s"] < moment["end_s"] <= length_s + 1e-6 for moment in answer["moments"])

    checkpoint = str(inputs.folder / "model")
    query = random.choice(["a dog", '"the dog"'])
    return Case(["find", video, query, "--checkpoint", checkpoint, "--json", "--no-cache"], check=check)


def questions(inputs: Inputs, folder: Path, random: Random) -> Case:
    """What is asked of a sound video, and what becomes of the answer."""
    query = random.choice([value for value in [*VALUES, *TOKENS] if isinstance(value, str)])
    query = random.choice([query, f"a {query} dog", f'"{query}"', change_text("a dog jumps", random)])
    shutil.copy(inputs.folder / "v.mp4", folder / "v.mp4")
    words = ["find", "v.mp4", "--checkpoint", str(inputs.folder / "model"), "--no-cache"]
    form = random.choice([["--json"], ["--csv"], [], ["-k", "1"], ["-k", "1000"]])
    if random.random() < 0.3:
        text = "".join(f"{line}\n" for line in ["a dog", query, "a cat"])
        (folder / "q.txt").write_text(text, encoding="utf-8", errors="surrogatepass")
        return Case([*words, *form, "--queries", "q.txt"])
    option, name = random.choice(
        [("--subtitles", "o.vtt"), ("--subtitles", "o.srt"), ("--edl", "o.edl"), ("--edl", "o.otio"),
         ("--plot", "o.png"), ("--cut", "o"), ("--subtitles", "v.mp4"), ("--plot", "/dev/null"),
         ("--cut", "v.mp4"), ("--json", "")]
    )  # fmt: skip
    if option == "--json":
        return Case([*words, "--json", "--", query])
    # Where the answer is printed and the file cannot be written, that is said after it.
    return Case([*words, option, name, "--", query], (name,) if name.startswith("o") else (), printed=True)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        annotations, predictions, stores, checkpoints, configurations, media, questions, libraries, requests,
    )
}  # fmt: skip


def spoil_weights(path: Path, random: Random) -> bool:
    """Change weights so that they may not be taken; whether that is certain."""
    weights = load_file(path)
    name = random.choice(sorted(weights))
    how = random.choice(["nan", "shape", "dtype", "gone", "more"])
    is_floating = weights[name].is_floating_point()
    if how == "nan":
        if not is_floating:
            return False
        weights[name] = torch.full_like(weights[name], random.choice([math.nan, math.inf, -math.inf]))
    elif how == "shape":
        weights[name] = weights[name].unsqueeze(0).contiguous()
    elif how == "dtype":
        weights[name] = weights[name].to(random.choice([torch.int8, torch.bool, torch.float64, torch.float16]))
    elif how == "gone":
        del weights[name]
    else:
        weights["more"] = torch.ones(2)
    path.write_bytes(save(weights))
    return how in ("nan", "shape", "gone", "more") and "model" in path.name


def impossible_rows(store: Path, random: Random) -> None:
    """Put something in the place of the rows of one video that no rows are."""
    wrong: dict[str, Any] = {
        "nan": np.full((12, DIM), np.nan, np.float32),
        "empty": np.zeros((0, DIM), np.float32),
        "cube": np.ones((3, 4, DIM), np.float32),
        "scalar": np.float32(1),
        "complex": np.ones((12, DIM), np.complex64),
        "text": np.array([["x"] * DIM]).astype("S1"),
        "bool": np.ones((12, DIM), bool),
        "narrow": np.zeros((12, 0), np.float32),
        "records": np.ones(12, [("a", "f4"), ("b", "f4")]),
        "overflow": np.full((12, DIM), 1e300),
    }
    array = wrong[random.choice(list(wrong))]
    video_id = random.choice(IDS)
    if store.is_dir() and store.name == "npy":
        np.save(store / f"{video_id}.npy", array)
    elif store.is_dir() and store.name == "pt":
        if np.asarray(array).dtype.kind in "SV":
            torch.save({"x": "y"}, store / f"{video_id}.pt")
        else:
            torch.save(torch.from_numpy(np.asarray(array)), store / f"{video_id}.pt")
    else:
        path, name = (store / f"{video_id}.h5", "feature") if store.is_dir() else (store, video_id)
        with h5py.File(path, "r+") as file:
            del file[name]
            if random.random() < 0.3:
                file[name] = random.choice(
                    [np.dtype("f4"), h5py.ExternalLink("elsewhere.h5", "v0"), h5py.SoftLink(f"/{name}")]
                )
            elif random.random() < 0.3:
                file.create_dataset(
                    name, shape=(10 ** random.choice([7, 9, 12]), DIM), dtype="f4", chunks=(1000, DIM)
                )
            else:
                file[name] = array
