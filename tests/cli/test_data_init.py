"""From a folder of videos and moments to a model that answers: init, train, evaluate, find."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrnet.cli import main
from mrnet.media.video import write_video

TINY_SET = [
    "model.num_pre_clips=16", "model.num_clips=8", "model.clip_hidden=12", "model.dim=8", "model.layers=1",
    "model.heads=2", "model.ffn_dim=16", "model.pooling_counts=[3,2]", "model.head_hidden=8",
    "model.head_layers=2", "train.batch_size=4", "train.epochs=1", "train.milestones=[]",
    "train.full_loss_epochs=1",
]  # fmt: skip

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, standard output and standard error of the command, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return command


def _videos(folder: Path) -> None:
    """Four videos of 4 s."""
    folder.mkdir(parents=True)
    for i in range(4):
        frames = (np.full((32, 32, 3), 8 * k + i, np.uint8) for k in range(8))
        write_video(folder / f"v{i}.mp4", frames, fps=2)


def _train(run: Run, folder: str) -> str:
    """Train on the dataset in a folder, and say what was printed on standard error."""
    sets = [word for override in TINY_SET for word in ("--set", override)]
    status, out, err = run("train", "--data", folder, *sets, "--out", "runs/own", "--cpu")
    assert (status, out) == (0, "best checkpoint: runs/own/checkpoints/epoch-0001\n"), err
    return err


def _answers(run: Run, video: Path, queries: int) -> None:
    status, out, err = run("evaluate", "--checkpoint", "runs/own", "--json")
    assert status == 0, err
    assert json.loads(out)["queries"] == queries
    status, out, err = run("find", video, "it brightens", "--checkpoint", "runs/own", "-k", "1", "--json")
    assert status == 0, err
    (moment,) = json.loads(out)["moments"]
    assert 0 <= moment["start_s"] < moment["end_s"] <= 4.0


def test_a_csv(run: Run) -> None:
    _videos(Path("lab data/videos"))
    rows = "".join(f"v{i}.mp4,1,2.5,it brightens\nv{i}.mp4,0,1,dark\n" for i in range(4))
    Path("lab data/moments.csv").write_text(f"video,start,end,query\n{rows}")
    status, out, err = run("data", "init", "lab data")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "4 videos, 8 queries, features of 4",
        "no problems found",
        "lab data/train.jsonl: videos 2, queries 4",
        "lab data/val.jsonl: videos 1, queries 2",
        "lab data/test.jsonl: videos 1, queries 2",
        "next: mrnet train --data 'lab data' --out 'runs/lab data'",
    ]
    _train(run, "lab data")
    config = json.loads(Path("runs/own/run.json").read_text())["config"]
    root = Path("lab data").resolve()
    assert (config["name"], config["data"]["test"]) == ("lab data", [str(root / "test.jsonl")])
    assert Path("lab data/videos.color-hog-motion.h5").is_file()
    _answers(run, root / "videos" / "v0.mp4", queries=2)
    assert run("data", "check", "lab data/train.jsonl", "--features", "lab data/videos")[0] == 0

    status, _, err = run("train", "--resume", "--data", "lab data", "--out", "runs/own", "--cpu")
    assert (status, err.count("\n")) == (2, 1)  # without the same --set
    assert "was begun with" in err


def test_a_vtt_for_every_video(run: Run) -> None:
    _videos(Path("own"))
    for i in range(4):
        Path(f"own/v{i}.vtt").write_text(
            f"WEBVTT\n\n00:00.500 --> 00:02.000\nit brightens\n\n00:02.000 --> 00:0{3 + i}.000\n<b>bright</b>\n"
        )
    status, out, err = run("data", "init", "own", "--seed", "1")
    assert (status, err) == (0, "")
    assert out.startswith("4 videos, 8 queries, features of 4\nwarning: moment outside the video: 2\n")
    assert "own/v2.vtt: line 6: `start, end` is [2.0, 5.0]: it reaches out of the 4 s of the video" in out
    _train(run, "own")
    _answers(run, Path("own/v0.mp4"), queries=2)


def test_errors_are_listed_and_nothing_is_written(run: Run) -> None:
    _videos(Path("own"))
    Path("own/v0.vtt").write_text("WEBVTT\n\n00:50.000 --> 00:52.000\nit brightens\n")
    before = sorted(Path("own").iterdir())
    status, out, err = run("data", "init", "own")
    assert (status, err) == (1, "")
    assert "error: moment outside the video: 1\n" in out
    assert out.endswith("\nnothing was written: mend the errors, and run this again\n")
    assert sorted(Path("own").iterdir()) == before


def test_again(run: Run) -> None:
    _videos(Path("own"))
    Path("own/a.csv").write_text("video,start,end,query\n" + "".join(f"v{i},0,1,dark\n" for i in range(4)))
    assert run("data", "init", "own")[0] == 0
    assert run("data", "init", "own") == (
        2,
        "",
        "mrnet: error: own: is a dataset already, by its dataset.yaml; make it anew with --force\n",
    )
    assert run("data", "init", "own", "--force")[0] == 0


def test_train_without_init(run: Run) -> None:
    Path("own").mkdir()
    for folder in ("own", "nowhere"):
        assert run("train", "--data", folder, "--out", "run") == (
            2,
            "",
            f"mrnet: error: {folder}/dataset.yaml: no such file; make it with `mrnet data init {folder}`, or write "
            "one that names the files\n",
        )
    assert not Path("run").exists()


def test_another_recipe(run: Run) -> None:
    """A recipe gives the settings, the dataset its paths and widths, --set the rest."""
    _videos(Path("own"))
    Path("own/a.csv").write_text("video,start,end,query\n" + "".join(f"v{i},0,1,dark\n" for i in range(4)))
    assert run("data", "init", "own")[0] == 0
    words = [
        "--data",
        "own",
        "--recipe",
        "activitynet-speech",
        "--set",
        "model.query_dim=7",
        "--out",
        "run",
        "--cpu",
    ]
    status, _, err = run("train", *words)
    assert status == 2
    assert err.splitlines()[-1].endswith(
        "has features of width 512, but model.query_dim is 7: use the features the model was made for, or train "
        "with --set model.query_dim=512"
    )
