"""Sound input of every kind, made once, for others to spoil."""

import contextlib
import io
import json
import shutil
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import torch

from mrnet.cli import main
from mrnet.config.parse import parse_config
from mrnet.config.run import RunConfig
from mrnet.features.registry import make_backbone
from mrnet.features.store.pca import Pca
from mrnet.features.store.writer import write_store
from mrnet.media.video import write_video
from mrnet.provenance import Provenance
from tests.conftest import TINY, as_overrides, merge, save_untrained, spec_of
from tests.weights.test_released import Released

IDS = ("v0", "v1", "v2", "v3")
LENGTH_S = 12.0
DIM, QUERY_DIM = 6, 5


@dataclass(frozen=True)
class Inputs:
    """Where all of it lies.

    Attributes:
        folder: of all.
        config: of a tiny training on its annotations and features.
        overrides: the same, as ``--set`` takes it.
    """

    folder: Path
    config: RunConfig
    overrides: list[str]

    @classmethod
    def make(cls, folder: Path) -> "Inputs":
        """Make it, which takes some seconds."""
        _annotations(folder)
        _stores(folder)
        _media(folder)
        tree = _settings(folder)
        config = parse_config(tree, "tiny")
        (folder / "config.yaml").write_text(json.dumps(tree))
        video, text = (make_backbone("video", "color-hog-motion"), make_backbone("text", "hashed-words"))
        raw = parse_config(merge(tree, {"model": {"video_dim": video.dim, "query_dim": text.dim}}), "raw")
        spec = spec_of(raw, video=video.provenance(), text=text.provenance())
        save_untrained(folder / "model", raw, spec)
        _released(folder)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            words = ["--config", str(folder / "config.yaml"), "--cpu", "--out", str(folder / "run")]
            assert main(["train", *words]) == 0
            words = ["a dog", "--checkpoint", str(folder / "model"), "--no-cache", "--json"]
            assert main(["find", str(folder / "v.mp4"), *words]) == 0
            _shelve(folder)
            assert main(["index", str(folder / "videos"), "--library", str(folder / "library")]) == 0
        return cls(folder, config, as_overrides(tree))


def queries() -> list[dict[str, Any]]:
    """Rows of QVHighlights, three queries to a video."""
    return [
        {
            "qid": 10 * number + index,
            "query": f"sentence {index} of {video_id}",
            "vid": video_id,
            "duration": LENGTH_S,
            "relevant_windows": [[2.0 * index, 2.0 * index + 3]],
            "relevant_clip_ids": [index, index + 1],
            "saliency_scores": [[4, 3, 2], [1, 0, 4]],
        }
        for number, video_id in enumerate(IDS)
        for index in range(3)
    ]


def _annotations(folder: Path) -> None:
    rows = queries()
    by_video = {
        video_id: {
            "duration": LENGTH_S,
            "timestamps": [row["relevant_windows"][0] for row in rows if row["vid"] == video_id],
            "sentences": [row["query"] for row in rows if row["vid"] == video_id],
        }
        for video_id in IDS
    }
    own = [
        {
            "video": row["vid"],
            "start": start,
            "end": end,
            "query": row["query"],
            "duration": LENGTH_S,
            "qid": row["qid"],
        }
        for row in rows
        for start, end in row["relevant_windows"]
    ]
    table = "".join(f"{','.join(str(value) for value in row.values())}\n" for row in own)
    cues = "".join(f"00:0{i}.000 --> 00:0{i + 2}.500\na dog &amp; <b>cat</b> {i}\n\n" for i in range(4))
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="t{i}" TIME_VALUE="{1000 * i}"/>' for i in range(4))
    aligned = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{i}" TIME_SLOT_REF1="t{i}" TIME_SLOT_REF2="t{i + 1}">'
        f"<ANNOTATION_VALUE>a dog {i}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i in range(3)
    )
    texts = {
        "a.json": json.dumps(by_video),
        "a.jsonl": "".join(f"{json.dumps(row)}\n" for row in rows),
        "own.jsonl": "".join(f"{json.dumps(row)}\n" for row in own),
        "a.csv": "video,start,end,query,duration,qid\n" + table,
        "a.txt": "".join(f"{row['vid']} 1.0 3.5##{row['query']}\n" for row in rows),
        "a.vtt": f"WEBVTT\n\n{cues}",
        "a.eaf": f"<ANNOTATION_DOCUMENT><HEADER/><TIME_ORDER>{slots}</TIME_ORDER><TIER TIER_ID='x'>{aligned}</TIER>"
        "</ANNOTATION_DOCUMENT>",
        "p.jsonl": "".join(
            json.dumps(
                {
                    "qid": row["qid"],
                    "query": row["query"],
                    "vid": row["vid"],
                    "pred_relevant_windows": [[1.0, 4.0, 0.9], [5.0, 8.0, 0.5]],
                    "pred_saliency_scores": [0.5, 0.25, 1.0, 0.0, 0.75, 0.125],
                }
            )
            + "\n"
            for row in rows
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)


def _stores(folder: Path) -> None:
    random = np.random.default_rng(0)
    rows = {video_id: random.standard_normal((12, DIM)).astype(np.float32) for video_id in IDS}
    eyes = Provenance(backbone="eyes", dim=DIM, rows_per_s=1.0)
    write_store(folder / "videos.h5", rows.items(), eyes)
    words = {str(row["qid"]): random.standard_normal((1, QUERY_DIM)) for row in queries()}
    write_store(folder / "queries.h5", words.items(), Provenance(backbone="ears", dim=QUERY_DIM))
    for layout in ("npy", "pt", "hdf5"):
        (folder / layout).mkdir()
    for video_id, values in rows.items():
        np.save(folder / "npy" / f"{video_id}.npy", values)
        torch.save(torch.from_numpy(values), folder / "pt" / f"{video_id}.pt")
        with h5py.File(folder / "hdf5" / f"{video_id}.h5", "w") as file:
            file["feature"] = values
    (folder / "npy" / "provenance.json").write_text(eyes.model_dump_json())
    (folder / "npy" / "origins.jsonl").write_text("".join(f'{{"id": "{name}", "origin": "x"}}\n' for name in IDS))
    Pca.fit(rows.items(), 3, eyes, "all").save(folder / "videos.pca.safetensors")


def _media(folder: Path) -> None:
    random = np.random.default_rng(0)
    frames = [
        np.kron(random.integers(0, 255, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8)) for _ in range(20)
    ]
    write_video(folder / "v.mp4", frames, fps=5)
    for name, codec in {"v.mkv": "libx264", "v.avi": "mpeg4", "v.mpg": "mpeg2video", "v.gif": "gif"}.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            container.mux(stream.encode())
    with wave.open(str(folder / "s.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((random.standard_normal(24_000) * 3000).astype("<i2").tobytes())
    cues = "".join(f"{i}\n00:00:0{i},000 --> 00:00:0{i + 1},000\nthe dog {i} that you know\n\n" for i in range(3))
    (folder / "v.srt").write_text(cues)
    (folder / "v.vtt").write_text("WEBVTT\n\n" + cues.replace(",000", ".000"))
    (folder / "v.ass").write_text(
        "[Script Info]\nScriptType: v4.00+\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:00.00,0:00:02.00,Default,,0,0,0,,{\\i1}the dog{\\i0}\\Nthat you know\n"
    )


def _shelve(folder: Path) -> None:
    """A folder of videos for a library, one of them with subtitles."""
    (folder / "videos" / "trip").mkdir(parents=True)
    for name in ("v.mp4", "v.srt"):
        shutil.copy(folder / name, folder / "videos" / name)
    shutil.copy(folder / "v.mkv", folder / "videos" / "trip" / "w.mkv")


def _settings(folder: Path) -> dict[str, Any]:
    data = {
        "train": [str(folder / "a.jsonl")],
        "val_fraction": 0.25,
        "video_features": str(folder / "videos.h5"),
        "text_features": str(folder / "queries.h5"),
    }
    quick = {"epochs": 1, "milestones": [], "full_loss_epochs": 1, "batch_size": 4}
    return merge(TINY, {"data": data, "train": quick, "model": {"layers": 1}})


def _released(folder: Path) -> None:
    (folder / "released").mkdir()
    Released(folder / "released")
