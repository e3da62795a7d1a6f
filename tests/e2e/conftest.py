"""A small folder that holds every file the documents' commands name."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

import mrnet.config.recipes
from mrnet.cli import main
from mrnet.config.recipes import recipe_names
from mrnet.demo import DEFAULT_RUNS
from mrnet.documents import parse_yaml
from mrnet.media.audio import write_audio
from mrnet.media.video import write_video
from mrnet.retrieval.aligned import ClassBridge
from mrnet.weights.released import released_names
from mrnet.weights.released_config import import_config
from tests.conftest import TINY, merge
from tests.features.conftest import hub_model as hub_model
from tests.features.conftest import no_network as no_network

VIDEO_S = 6
SIZES = {
    "model": {key: value for key, value in TINY["model"].items() if key not in ("video_dim", "query_dim")},
    "train": TINY["train"],
}
SENTENCES = ("the triangle is blue", "a red circle rises")
HUB_MODELS = {"clip": "clip", "wav2vec2": "wav2vec2", "distilbert": "distilbert"}  # part of an id -> family
RELEASED = {
    "MODEL.RET.FEATPOOL.INPUT_SIZE": 500, "MODEL.RET.FEATPOOL.KERNEL_SIZE": 2, "MODEL.RET.FEATPOOL.HIDDEN_SIZE": 12,
    "MODEL.RET.INPUT_TEXT_DIM": 768, "MODEL.RET.NUM_CLIPS": 8, "MODEL.RET.JOINT_SPACE_SIZE": 8,
    "MODEL.RET.FEAT2D.POOLING_COUNTS": [3, 2], "MODEL.RET.PREDICTOR.HIDDEN_SIZE": 8,
    "MODEL.RET.PREDICTOR.KERNEL_SIZE": 3, "MODEL.RET.PREDICTOR.NUM_STACK_LAYERS": 2, "INPUT.NUM_PRE_CLIPS": 16,
    "SOLVER.TRANS_LAYER": 1, "SOLVER.N_HEAD": 2, "SOLVER.ATT_MODE": "all",
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_recipes(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The recipes at their own feature widths, all other sizes tiny; for ``mrnet.config.recipes.resources``."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "recipes").mkdir()
    for name in recipe_names():
        path = Path("recipes") / f"{name}.yaml"
        tree = parse_yaml((mrnet.config.recipes.resources.files("mrnet") / str(path)).read_text(encoding="utf-8"))
        tree = merge(tree, SIZES)
        if tree["train"].get("schedule") == "cosine":  # which takes none
            del tree["train"]["milestones"]
        (folder / path).write_text(yaml.safe_dump(tree), encoding="utf-8")
    return SimpleNamespace(files=lambda _: folder)


@pytest.fixture(scope="session")
def template(
    tmp_path_factory: pytest.TempPathFactory, tiny_recipes: SimpleNamespace, hub_model: Callable[[str], Path]
) -> Path:
    """The files, made once."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(mrnet.config.recipes, "resources", tiny_recipes)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        _benchmark_features()
        _videos_and_sounds()
        _highlights()
        _released_checkpoint()
        _demo()
        torch.set_num_threads(threads)
    for part, family in HUB_MODELS.items():
        (folder / f".{part}").symlink_to(hub_model(family))
    return folder


@pytest.fixture
def fill(
    template: Path, tiny_recipes: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """``fill(block)``: a fresh working folder with what the commands of a block expect, nothing that they make."""

    def make(block: str) -> Path:
        shutil.copytree(template, tmp_path, dirs_exist_ok=True, symlinks=True)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MRNET_CACHE", str(tmp_path / ".cache"))
        monkeypatch.setattr(mrnet.config.recipes, "resources", tiny_recipes)
        monkeypatch.setattr("mrnet.library.library.default_uri", lambda: str(tmp_path / ".library"))
        known = ClassBridge.calibration  # nothing that an encoder knows is in these videos
        assert known is not None
        monkeypatch.setattr(ClassBridge, "calibration", known.model_copy(update={"threshold": 0.0}))
        for made in re.findall(r"--out (\S+)", block):
            path = tmp_path / made
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for model in re.findall(r"\bhf:([\w./-]+)", block):  # a folder of that name is taken in place of the hub's
            (tmp_path / model).parent.mkdir(parents=True, exist_ok=True)
            family = next(part for part in HUB_MODELS if part in model)
            (tmp_path / model).symlink_to(tmp_path / f".{family}")
        for video in dict.fromkeys(re.findall(r"\bDIR/(\S+\.mp4)", block)):
            _own_dataset(tmp_path / "DIR" / video)
        return tmp_path

    return make


def table_of_the_readme() -> str:
    """The rows that the README shows as a table of moments."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```text\n(video,start,end,query\n.*?)```", readme, flags=re.DOTALL)
    return str(table)


def _own_dataset(video: Path) -> None:
    """A folder of five videos around one, and a table of moments: the README's, where that is its video."""
    shown = table_of_the_readme()
    rows = (
        [shown.rstrip()] if video.name in shown else ["video,start,end,query", f"{video.name},1,4,{SENTENCES[0]}"]
    )
    names = [video.name, *(f"other_{number}.mp4" for number in range(4))]
    video.parent.mkdir(parents=True)
    for number, name in enumerate(names):
        _video(video.parent / name, seconds=42 if name in shown else VIDEO_S, seed=number)
    rows += [f"{name},1,4,{sentence}" for name in names[1:] for sentence in SENTENCES]
    folder = video.parent.parent if video.parent.name == "videos" else video.parent
    (folder / "moments.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _video(path: Path, seconds: float = VIDEO_S, seed: int = 0) -> None:
    frames = np.random.default_rng(seed).integers(0, 255, (4, 48, 64, 3), np.uint8)
    write_video(path, (frames[index * 4 // round(seconds * 5)] for index in range(round(seconds * 5))), fps=5)


def _sound(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, 16_000)
    write_audio(path, noise.astype(np.float32))


def _annotations(path: Path, ids: Iterable[str], *, spoken: bool = True) -> list[str]:
    """ActivityNet's form, or that of ActivityNet Speech; returns the names of the sound files."""
    tree: dict[str, Any] = {}
    for video_id in ids:
        tree[video_id] = {
            "duration": VIDEO_S,
            "timestamps": [[0.5, 3.0], [2.0, 5.5]],
            "sentences": list(SENTENCES),
        }
        if spoken:
            tree[video_id]["audios"] = [f"{video_id}_{number}.wav" for number in range(len(SENTENCES))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree), encoding="utf-8")
    return [name for record in tree.values() for name in record.get("audios", [])]


def _split_ids(prefix: str, counts: Sequence[int] = (4, 2, 2)) -> dict[str, list[str]]:
    return {
        split: [f"{prefix}{split}_{number:04}" for number in range(count)]
        for split, count in zip(("train", "val", "test"), counts, strict=True)
    }


def _query_files(folder: Path, sounds: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sounds):
        vector = torch.randn(1, 768, generator=torch.Generator().manual_seed(number))
        torch.save(vector, folder / f"{Path(name).stem}.pt")


def _benchmark_features() -> None:
    """ActivityNet's and Charades-STA's, in the released layouts and widths."""
    rng = np.random.default_rng(0)
    Path("c3d").mkdir()
    sounds: list[str] = []
    for split, ids in _split_ids("v_").items():
        sounds += _annotations(Path(f"{split}_audio_new.json"), ids)
        for video_id in ids:
            with h5py.File(f"c3d/{video_id}.h5", "w") as file:
                file["feature"] = rng.standard_normal((20, 500), np.float32)
    for folder in ("text", "wav2vec2"):
        _query_files(Path(folder), sounds)
    Path("wavs").mkdir()
    for seed, name in enumerate(sounds):
        _sound(Path("wavs") / name, seed)
    Path("charades/i3d").mkdir(parents=True)
    for split, ids in _split_ids("c_").items():
        _query_files(Path("charades/text"), _annotations(Path(f"charades/{split}.json"), ids))
        for video_id in ids:
            np.save(f"charades/i3d/{video_id}.npy", rng.standard_normal((20, 1, 1, 1024), np.float32))
    # As wide as a PCA to 500 needs: 4096 would take it minutes.
    splits = _split_ids("p_", (2, 1, 1))
    for split, ids in splits.items():
        _annotations(Path(f"{split}.json"), ids, spoken=False)
    for name in ("c3d_4096.h5", "new_videos.h5"):
        with h5py.File(name, "w") as file:
            for video_id in (video_id for ids in splits.values() for video_id in ids):
                file[video_id] = rng.standard_normal((260, 510), np.float32)


def _videos_and_sounds() -> None:
    Path("videos").mkdir()
    for number, name in enumerate(("a", "b")):
        _video(Path(f"videos/{name}.mp4"), seed=number)
    for name in ("talk.mp4", "holiday.mp4"):
        _video(Path(name))
    shutil.copy("holiday.mp4", "VIDEO")
    Path("queries.txt").write_text("a dog\na person dances\n", encoding="utf-8")
    _sound(Path("question.wav"), seed=9)


def _highlights() -> None:
    """Annotations in the form of QVHighlights."""
    row = {
        "qid": 7, "query": SENTENCES[0], "vid": "q", "duration": 150, "relevant_windows": [[10, 30]],
        "relevant_clip_ids": list(range(5, 15)), "saliency_scores": [[2, 3, 4]] * 10,
    }  # fmt: skip
    Path("highlight_val_release.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")


def _released_checkpoint() -> None:
    Path("config.yml").write_text(yaml.safe_dump(RELEASED), encoding="utf-8")
    model = import_config(RELEASED, modality=True, source="tiny").model
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.rand(rename.shape, generator=generator) / 4
        for name, rename in released_names(model, modality=True).items()
    }
    torch.save({"model": weights}, "pool_model_14.pth")


def _demo() -> None:
    """What ``mrnet demo`` leaves: a benchmark, and a run for each kind of query."""
    benchmark = Path("mrnet-demo/benchmark")
    for split, ids in _split_ids("").items():
        for seed, name in enumerate(_annotations(benchmark / f"{split}.json", ids)):
            (benchmark / "speech").mkdir(exist_ok=True)
            _sound(benchmark / "speech" / name, seed)
        for seed, video_id in enumerate(ids):
            (benchmark / "videos").mkdir(exist_ok=True)
            _video(benchmark / "videos" / f"{video_id}.mp4", seed=seed)
    (written, run), (said, run_of_sounds) = DEFAULT_RUNS.items()
    train = ["train", "--recipe", "demo", "--cpu", "--out"]
    assert main([*train, str(run), "--set", f"data.query_kinds=[{written}]"]) == 0
    fields = (f"data.query_kinds=[{said}]", f"data.speech_features={benchmark / 'speech'}", "model.query_dim=1152")
    assert main([*train, str(run_of_sounds), *(word for field in fields for word in ("--set", field))]) == 0
