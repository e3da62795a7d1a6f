"""The `mrnet` command: what it prints, how it ends, and what it leaves behind when it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mrnet.demo.story
from mrnet import __version__
from mrnet.cli import main
from mrnet.config import RunConfig
from mrnet.features.registry import make_backbone
from mrnet.features.store.writer import write_store
from mrnet.media.video import write_video
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.weights.native import save_checkpoint

TINY_SET = [
    "model.video_dim=6", "model.query_dim=5", "model.num_pre_clips=16", "model.num_clips=8",
    "model.clip_hidden=12", "model.dim=8", "model.layers=1", "model.heads=2", "model.ffn_dim=16",
    "model.pooling_counts=[3,2]", "model.head_hidden=8", "model.head_layers=2",
    "train.batch_size=4", "train.epochs=1", "train.milestones=[]", "train.full_loss_epochs=1",
]  # fmt: skip


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def sets(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


class Command:
    """Runs the command in an empty working folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        out, err = self._capsys.readouterr()
        return status, out, err

    def refuses(self, *words: str | Path) -> str:
        """The one line of a refusal, which leaves the folder as it was."""
        before = tree(self.folder)
        status, out, err = self(*words)
        assert (status, out) == (2, ""), err
        assert err.endswith("\n")
        assert len(err.splitlines()) == 1, err
        assert err.startswith("mrnet")
        assert "Traceback" not in err
        assert tree(self.folder) == before
        return err.removesuffix("\n")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads cost such tiny models far more than they gain, all the more on a busy machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the processes started here
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, capsys)


@pytest.fixture
def data_set(dataset_files: dict[str, str]) -> list[str]:
    """``--set`` of the tiny dataset and a model that fits it."""
    return sets(*TINY_SET, *(f"data.{key}={json.dumps(path)}" for key, path in dataset_files.items()))


@pytest.fixture
def checkpoint(tmp_path: Path, tiny: Callable[..., RunConfig]) -> Path:
    """An untrained model of raw videos and typed queries."""
    video, text = (
        make_backbone("video", "color-hog-motion").provenance(),
        make_backbone("text", "hashed-words").provenance(),
    )
    config = tiny(model={"video_dim": video.dim, "query_dim": text.dim}).model_copy(
        update={"video_provenance": video, "query_provenance": text}
    )
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "model", config, MRNet(config.model).state_dict())
    return tmp_path / "model"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four seconds of a brightening picture."""
    write_video(tmp_path / "a.mp4", (np.full((64, 64, 3), 8 * i, np.uint8) for i in range(20)), fps=5)
    return tmp_path / "a.mp4"


class TestUsage:
    def test_version(self, command: Command) -> None:
        assert command("--version") == (0, f"mrnet {__version__}\n", "")

    @pytest.mark.parametrize(
        "words", [[], ["find"], ["train"], ["evaluate"], ["convert"], ["data", "check"], ["demo"]]
    )
    def test_help(self, command: Command, words: list[str]) -> None:
        status, out, err = command(*words, "--help")
        assert (status, err) == (0, "")
        assert out.startswith(" ".join(["usage: mrnet", *words]))

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["--nonsense", "find", "a.mp4", "a dog"],
                "mrnet: error: unrecognized arguments: --nonsense (see mrnet --help)",
            ),
            (
                ["find", "a.mp4", "a dog", "--nonsense"],
                "mrnet: error: unrecognized arguments: --nonsense (see mrnet --help)",
            ),
            ([], "mrnet: error: the following arguments are required: COMMAND (see mrnet --help)"),
            (
                ["find", "a.mp4"],
                "mrnet find: error: one of the arguments query --speech is required (see mrnet find --help)",
            ),
            (
                ["find", "a.mp4", "a dog", "-k", "0"],
                "mrnet find: error: argument -k: 0 is not at least 1 (see mrnet find --help)",
            ),
            (
                ["find", "a.mp4", "a dog", "-k", "-3"],
                "mrnet find: error: argument -k: -3 is not at least 1 (see mrnet find --help)",
            ),
            (
                ["find", "a.mp4", "a dog", "-k", "many"],
                "mrnet find: error: argument -k: invalid positive value: 'many' (see mrnet find --help)",
            ),
            (
                ["train", "--recipe", "tacos"],
                "mrnet train: error: the following arguments are required: --out (see mrnet train --help)",
            ),
            (
                ["evaluate"],
                "mrnet evaluate: error: one of the arguments --checkpoint --predictions is required "
                "(see mrnet evaluate --help)",
            ),
            (
                ["evaluate", "--checkpoint", "a", "--predictions", "b"],
                "mrnet evaluate: error: argument --predictions: not allowed with argument --checkpoint "
                "(see mrnet evaluate --help)",
            ),
            (
                ["convert", "a.pth", "--out", "b"],
                "mrnet convert: error: the following arguments are required: --config (see mrnet convert --help)",
            ),
            (["data"], "mrnet data: error: the following arguments are required: ACTION (see mrnet data --help)"),
            (
                ["data", "check", "a.json", "--dim", "0"],
                "mrnet data check: error: argument --dim: 0 is not at least 1 (see mrnet data check --help)",
            ),
            (
                ["demo", "--seed", "x"],
                "mrnet demo: error: argument --seed: invalid int value: 'x' (see mrnet demo --help)",
            ),
        ],
    )
    def test_one_line(self, command: Command, words: list[str], message: str) -> None:
        assert command.refuses(*words) == message

    def test_unknown_command(self, command: Command) -> None:
        line = command.refuses("fnid", "a.mp4")
        assert line.startswith("mrnet: error: argument COMMAND: invalid choice: 'fnid' (choose from ")
        for name in ("demo", "find", "train", "evaluate", "convert", "data"):
            assert name in line


class TestFind:
    def test_moments(self, command: Command, checkpoint: Path, video: Path) -> None:
        status, out, _ = command(
            "find", video, "it gets brighter", "--checkpoint", checkpoint, "-k", "3", "--json"
        )
        document = json.loads(out)
        assert status == 0
        assert (document["video"], document["query"]) == (str(video), "it gets brighter")
        scores = [moment["score"] for moment in document["moments"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        for moment in document["moments"]:
            assert 0 <= moment["start_s"] < moment["end_s"] <= 4.0
            assert moment["start_s"] * 2 == int(moment["start_s"] * 2)  # 4 s in 8 clips

        status, text, _ = command("find", video, "it gets brighter", "--checkpoint", checkpoint, "-k", "3")
        first = document["moments"][0]
        assert status == 0
        assert text.splitlines()[0] == (
            f"1.  {first['start_s']:7.2f} s - {first['end_s']:7.2f} s   score {first['score']:.3f}"
        )
        assert len(text.splitlines()) == 3

    def test_no_checkpoint(self, command: Command, video: Path) -> None:
        assert command.refuses("find", video, "a dog") == (
            "mrnet: error: no checkpoint: give one with --checkpoint, or run `mrnet demo` here first"
        )

    def test_checkpoint_missing(self, command: Command, video: Path) -> None:
        assert command.refuses("find", video, "a dog", "--checkpoint", "nowhere") == (
            "mrnet: error: nowhere does not exist: expected a folder with mrnet.json and model.safetensors, or a "
            "training run; `mrnet train`, `mrnet demo` and `mrnet convert` make one"
        )

    def test_checkpoint_is_a_file(self, command: Command, video: Path) -> None:
        line = command.refuses("find", video, "a dog", "--checkpoint", video)
        assert line.startswith(f"mrnet: error: {video} is not a checkpoint: ")

    def test_checkpoint_truncated(self, command: Command, checkpoint: Path, video: Path) -> None:
        path = checkpoint / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-8])
        line = command.refuses("find", video, "a dog", "--checkpoint", checkpoint)
        assert line.startswith(f"mrnet: error: {path} is missing or damaged (")

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("missing", "{path}: no such file; check the path of the video"),
            ("folder", "{path}: is a directory; name a video file"),
            (
                "text",
                "{path}: cannot be opened as a video file (invalid data found when processing input); it is none, "
                "or it is incomplete",
            ),
            (
                "empty",
                "{path}: cannot be opened as a video file (invalid data found when processing input); it is none, "
                "or it is incomplete",
            ),
            (
                "truncated",
                "{path}: cannot be opened as a video file (invalid data found when processing input); it is none, "
                "or it is incomplete",
            ),
        ],
    )
    def test_no_video(self, command: Command, checkpoint: Path, video: Path, kind: str, message: str) -> None:
        path = command.folder / "b.mp4"
        if kind == "folder":
            path.mkdir()
        elif kind != "missing":
            whole = video.read_bytes()
            path.write_bytes({"text": b"not a film\n", "empty": b"", "truncated": whole[: len(whole) // 2]}[kind])
        line = command.refuses("find", path, "a dog", "--checkpoint", checkpoint)
        assert line == f"mrnet: error: {message.format(path=path)}"

    @pytest.mark.parametrize("query", ["", "  ", "?!"])
    def test_empty_query(self, command: Command, checkpoint: Path, video: Path, query: str) -> None:
        assert command.refuses("find", video, query, "--checkpoint", checkpoint) == (
            f"mrnet: error: the query is empty or holds no words (got {query!r}); describe the moment to find"
        ).replace("  ", " ")

    def test_features_that_cannot_be_made(
        self, command: Command, tiny: Callable[..., RunConfig], video: Path
    ) -> None:
        config = tiny().model_copy(update={"query_provenance": Provenance(backbone="released", dim=5)})
        save_checkpoint(command.folder / "model", config, MRNet(config.model).state_dict())
        assert command.refuses("find", video, "a dog", "--checkpoint", "model") == (
            "mrnet: error: the model was trained on 'released' features, which cannot be made here (no text "
            'backbone is named "released"; use one of: hashed-words, hf:MODEL, st:MODEL, minilm-l6-v2, '
            "glove:MODEL): give features, not raw input"
        )


class TestTrainThenEvaluate:
    def test_one_epoch(self, command: Command, data_set: list[str]) -> None:
        status, out, err = command("train", "--recipe", "demo", *data_set, "--out", "run", "--cpu")
        assert (status, out) == (0, "best checkpoint: run/checkpoints/epoch-0001\n")
        assert "epoch 1/1  loss " in err
        assert "Traceback" not in err
        run = json.loads(Path("run/run.json").read_text())
        assert (run["best"], run["last"]) == ("epoch-0001", "epoch-0001")
        assert run["config"]["video_provenance"]["backbone"] == "random"

        status, out, err = command("evaluate", "--checkpoint", "run", "--json")
        report = json.loads(out)
        assert status == 0, err
        names = {f"R@{n},IoU={t}" for n in (1, 5) for t in (0.3, 0.5, 0.7)} | {"mIoU"}
        assert set(report["metrics"]) == {"single", "joint"}
        assert set(report["baselines"]) == {"constant", "rank_only"}
        for values in (*report["metrics"].values(), *report["baselines"].values()):
            assert set(values) == names
            assert all(0 <= value <= 100 for value in values.values())
        assert report["checkpoint"] == "run/checkpoints/epoch-0001"
        # The test split is the validation split here, and single is how the model was trained.
        assert report["metrics"]["single"] == pytest.approx(run["history"][0]["val"])
        assert json.loads(Path("run/test/report.json").read_text()) == report
        written = {path.name: path.read_text().splitlines() for path in Path("run/test").glob("*.jsonl")}
        assert set(written) == {"predictions.single.jsonl", "predictions.joint.jsonl"}
        assert {len(lines) for lines in written.values()} == {report["queries"]}
        assert not list(Path("run/test").glob(".*"))

        # The predictions it wrote score the same when read back, beside the same baselines.
        annotations = next(word for word in data_set if word.startswith("data.test=")).partition("=")[2]
        train = next(word for word in data_set if word.startswith("data.train=")).partition("=")[2]
        status, out, _ = command(
            "evaluate", "--predictions", "run/test/predictions.joint.jsonl", "--json",
            "--annotations", json.loads(annotations), "--train", json.loads(train),
        )  # fmt: skip
        given = json.loads(out)
        assert status == 0
        assert {name: given[name] for name in names} == pytest.approx(report["metrics"]["joint"])
        assert given["baselines"] == report["baselines"]

        # One protocol as a table.
        status, out, _ = command("evaluate", "--checkpoint", "run", "--protocol", "single", "--split", "val")
        lines = out.splitlines()
        assert status == 0
        assert [line.split("  ")[0] for line in lines[1:3]] == ["model, single", "best constant moment"]
        assert lines[-1] == "report: run/val/report.json"
        assert f"{report['metrics']['single']['mIoU']:.2f}" in lines[1]

        assert command.refuses("train", "--recipe", "demo", *data_set, "--out", "run", "--cpu") == (
            "mrnet: error: run already holds something: pass --resume to continue that run, or another --out"
        )
        assert command.refuses("evaluate", "--checkpoint", "run", "--set", "model.layers=2") == (
            "mrnet: error: --set model.layers=2: of a checkpoint's configuration only data.*, decode.*, "
            "evaluation.* and train.* can be changed"
        )
        line = command.refuses(
            "train", "--recipe", "demo", *data_set, "--set", "train.lr=1", "--out", "run", "--cpu", "--resume"
        )
        assert line == (
            "mrnet: error: run/run.json was begun with train.lr=0.001, not 1.0: resume without changing it, or "
            "start a new run"
        )
        Path("taken").write_text("mine")
        assert command.refuses("evaluate", "--checkpoint", "run", "--out", "taken") == (
            "mrnet: error: cannot write taken: File exists"
        )
        assert command.refuses("evaluate", "--checkpoint", "run", "--set", "decode.nms=1") == (
            "mrnet: error: run/checkpoints/epoch-0001: unknown key 'decode.nms'; known here: nms_threshold, "
            "score_power"
        )

    def test_resume_of_a_finished_run(self, command: Command, data_set: list[str]) -> None:
        assert command("train", "--recipe", "demo", *data_set, "--out", "run", "--cpu")[0] == 0
        before = json.loads(Path("run/run.json").read_text())
        status, out, _ = command("train", "--resume", "--out", "run", "--cpu")
        assert (status, out) == (0, "best checkpoint: run/checkpoints/epoch-0001\n")
        assert json.loads(Path("run/run.json").read_text()) == before


class TestTrainRefuses:
    def refuses(self, command: Command, data_set: list[str], *more: str) -> str:
        return command.refuses("train", "--recipe", "demo", *data_set, *sets(*more), "--out", "run", "--cpu")

    def test_no_recipe(self, command: Command) -> None:
        assert command.refuses("train", "--out", "run") == (
            "mrnet: error: say what to train with --recipe: one of activitynet, activitynet-speech, charades, "
            "demo, qvhighlights, tacos"
        )

    def test_unknown_recipe(self, command: Command) -> None:
        assert command.refuses("train", "--recipe", "demoo", "--out", "run") == (
            "mrnet: error: unknown recipe 'demoo': choose one of activitynet, activitynet-speech, charades, "
            "demo, qvhighlights, tacos"
        )

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("layers", "override 'layers' is not of the form key=value, e.g. model.layers=4"),
            ("model.layers=[", "override 'model.layers=[': '[' is not a YAML value"),
            ("decode.nms=1", "recipe demo: unknown key 'decode.nms'; known here: nms_threshold, score_power"),
            (
                "train.epochs=0",
                "recipe demo: train.epochs: Input should be greater than or equal to 1, got 0",
            ),
        ],
    )
    def test_set(self, command: Command, data_set: list[str], override: str, message: str) -> None:
        assert self.refuses(command, data_set, override) == f"mrnet: error: {message}"

    def test_nothing_to_resume(self, command: Command) -> None:
        assert command.refuses("train", "--resume", "--out", "run") == (
            "mrnet: error: run holds no run to resume: leave out --resume to start one"
        )

    @pytest.mark.parametrize("key", ["train", "video_features"])
    def test_not_set(self, command: Command, data_set: list[str], key: str) -> None:
        assert self.refuses(command, data_set, f"data.{key}=null").startswith(
            f"mrnet: error: data.{key} is not set: add --set data.{key}="
        )

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            (
                "nowhere.json",
                None,
                "nowhere.json: cannot be read (No such file or directory); give the annotation file",
            ),
            (
                "cut.json",
                '{"v0": {"duration": 3, "times',
                "cut.json: line 1, column 24: not JSON (Unterminated string starting at); get a whole copy, or "
                "name the file .jsonl if every line is an object of its own",
            ),
            ("list.json", "[]", "list.json: is a JSON list; it should be an object, video id -> record"),
            ("empty.json", "{}", "empty.json: holds no queries; give a file with at least one"),
            ("notes.doc", "x", 'notes.doc: unknown format ".doc"; name it .json, .jsonl, .csv, .txt, .vtt, .eaf'),
            ("folder.json", "<folder>", "folder.json: cannot be read (Is a directory); give the annotation file"),
        ],
    )
    @pytest.mark.parametrize("key", ["train", "val"])
    def test_annotations(
        self, command: Command, data_set: list[str], key: str, name: str, content: str | None, message: str
    ) -> None:
        if content == "<folder>":
            Path(name).mkdir()
        elif content is not None:
            Path(name).write_text(content)
        assert self.refuses(command, data_set, f"data.{key}={name}") == f"mrnet: error: {message}"

    def test_video_without_features(self, command: Command, data_set: list[str]) -> None:
        record = {"duration": 9.0, "timestamps": [[0, 3]], "sentences": ["a dog"]}
        Path("more.json").write_text(json.dumps({"v0": record, "zebra": record}))
        line = self.refuses(command, data_set, "data.train=more.json")
        assert line.startswith("mrnet: error: 1 of 2 videos have no features in ")
        assert line.endswith("the first being 'zebra': extract them, or see `mrnet data check`")

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("missing", "bad.h5: no such file or folder; give the path of the features"),
            ("text", "bad.h5: not an HDF5 file; copy or extract the features again"),
            ("truncated", "bad.h5: truncated or damaged; copy or extract the features again"),
            ("folder", "bad.h5: no feature files in this folder; it should hold ID.h5, ID.npy or ID.pt"),
        ],
    )
    @pytest.mark.parametrize("key", ["video_features", "text_features"])
    def test_features(
        self,
        command: Command,
        data_set: list[str],
        dataset_files: dict[str, str],
        key: str,
        kind: str,
        message: str,
    ) -> None:
        if kind == "folder":
            Path("bad.h5").mkdir()
        elif kind != "missing":
            whole = Path(dataset_files[key]).read_bytes()
            Path("bad.h5").write_bytes(b"not HDF5" if kind == "text" else whole[: len(whole) // 2])
        assert self.refuses(command, data_set, f"data.{key}=bad.h5") == f"mrnet: error: {message}"

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            (
                "model.video_dim=7",
                "has features of width 6, but model.video_dim is 7: use the features the model was made for, or "
                "train with --set model.video_dim=6",
            ),
            (
                "model.query_dim=7",
                "has features of width 5, but model.query_dim is 7: use the features the model was made for, or "
                "train with --set model.query_dim=5",
            ),
        ],
    )
    @pytest.mark.parametrize("workers", [0, 1])
    def test_width(self, command: Command, data_set: list[str], override: str, message: str, workers: int) -> None:
        line = self.refuses(command, data_set, override, f"train.workers={workers}")
        assert line.endswith(message)

    def test_out_is_here(self, command: Command, data_set: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        here = command.folder / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        status, out, _ = command("train", "--recipe", "demo", *data_set, "--out", ".", "--cpu")
        assert (status, out) == (0, "best checkpoint: checkpoints/epoch-0001\n")
        assert (here / "run.json").is_file()

    def test_precision(self, command: Command, data_set: list[str]) -> None:
        assert self.refuses(command, data_set, "train.precision=fp16") == (
            "mrnet: error: train.precision fp16 needs a CUDA device: use fp32, or bf16"
        )

    def test_out_is_a_file(self, command: Command, data_set: list[str]) -> None:
        Path("run").write_text("mine")
        assert self.refuses(command, data_set) == (
            "mrnet: error: run already holds something: pass --resume to continue that run, or another --out"
        )

    def test_seed_too_large(self, command: Command, data_set: list[str]) -> None:
        assert "train.seed" in self.refuses(command, data_set, "train.seed=1000000000000000")


def predictions(path: Path, *rows: tuple[Any, list[list[float]]]) -> Path:
    lines = [
        json.dumps({"qid": qid, "query": "a dog", "vid": "v", "pred_relevant_windows": windows})
        for qid, windows in rows
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


class TestScorePredictions:
    @pytest.fixture
    def annotations(self, tmp_path: Path) -> Path:
        """Two videos of 100 s; the qids are v#0, v#1 and w#0."""
        path = tmp_path / "a.json"
        videos = {
            "v": {"duration": 100, "timestamps": [[0, 10], [50, 60]], "sentences": ["a dog", "a cat"]},
            "w": {"duration": 100, "timestamps": [[20, 40]], "sentences": ["a cow"]},
        }
        path.write_text(json.dumps(videos))
        return path

    @pytest.fixture
    def predicted(self, tmp_path: Path) -> Path:
        return predictions(
            tmp_path / "p.jsonl",
            ("w#0", [[20, 30, 0.9]]),  # tIoU 0.5
            ("v#0", [[0, 10, 0.9]]),  # tIoU 1
            ("v#1", [[0, 10, 0.9], [52, 60, 0.4]]),  # tIoU 0, then 0.8
        )

    def test_recall(self, command: Command, annotations: Path, predicted: Path) -> None:
        status, out, _ = command("evaluate", "--predictions", predicted, "--annotations", annotations, "--json")
        document = json.loads(out)
        intervals = document.pop("intervals_95")
        assert status == 0
        assert document == pytest.approx(
            {
                "R@1,IoU=0.3": 200 / 3,
                "R@1,IoU=0.5": 200 / 3,
                "R@1,IoU=0.7": 100 / 3,
                "R@5,IoU=0.3": 100,
                "R@5,IoU=0.5": 100,
                "R@5,IoU=0.7": 200 / 3,
                "mIoU": 50,
            }
        )
        assert set(intervals) == set(document)
        assert intervals["R@5,IoU=0.3"] == [100, 100]
        assert intervals["R@1,IoU=0.7"] == [0, 50]  # w alone, v alone

    def test_recall_with_baselines(self, command: Command, annotations: Path, predicted: Path) -> None:
        train = Path("train.json")
        record = {"duration": 64, "timestamps": [[0, 16], [32, 48]], "sentences": ["x", "y"]}
        train.write_text(json.dumps(dict.fromkeys("abc", record)))
        words = ["evaluate", "--predictions", predicted, "--annotations", annotations, "--train", train]
        status, out, _ = command(*words, "--tious", "0.2", "0.5", "--json")
        document = json.loads(out)
        assert status == 0
        assert document["R@1,IoU=0.2"] == pytest.approx(200 / 3)
        assert "R@1,IoU=0.3" not in document
        # Rank 0 of 2 -> [0, 25] s, rank 1 of 2 -> [50, 75] s: tIoU 0.4 each. Rank 0 of 1 is unseen: all
        # training queries are within half a rank, the median of [0, 25] and [50, 75] is [25, 50]; 15 / 30.
        rank_only = document["baselines"]["rank_only"]
        assert rank_only["R@1,IoU=0.2"] == 100
        assert rank_only["R@1,IoU=0.5"] == pytest.approx(100 / 3)
        assert rank_only["mIoU"] == pytest.approx((40 + 40 + 50) / 3)
        assert set(document["baselines"]) == {"constant", "rank_only"}

        status, out, _ = command(*words)
        lines = out.splitlines()
        assert status == 0
        assert [line.split("  ")[0] for line in lines[1:]] == [
            "predictions",
            "best constant moment",
            "rank only (for joint)",
        ]
        assert lines[1].split()[1:] == ["66.67", "66.67", "33.33", "100.00", "100.00", "66.67", "50.00"]

    def qvhighlights(self, folder: Path) -> tuple[Path, Path]:
        row = {"query": "a dog", "vid": "v", "duration": 150, "relevant_clip_ids": [], "saliency_scores": []}
        rows = [
            row | {"qid": 1, "relevant_windows": [[0, 20], [40, 60]]},
            row | {"qid": 2, "relevant_windows": [[100, 150]]},
        ]
        annotations = folder / "a.jsonl"
        annotations.write_text("\n".join(map(json.dumps, rows)))
        # Query 1: the first moment at rank 1, exactly; the second one never. AP = 1/2 at every threshold.
        # Query 2: a miss, then [100, 138]: true IoU 0.76. AP = 1/2 up to 0.75, nothing above.
        given = predictions(folder / "p.jsonl", (1, [[0, 20, 0.9]]), (2, [[0, 50, 0.9], [100, 138, 0.5]]))
        return given, annotations

    def test_qvhighlights(self, command: Command) -> None:
        given, annotations = self.qvhighlights(command.folder)
        status, out, _ = command(
            "evaluate", "--predictions", given, "--annotations", annotations, "--metrics", "qvhighlights", "--json"
        )
        document = json.loads(out)
        assert status == 0
        assert document["brief"] == {
            "MR-full-R1@0.5": 50.0,
            "MR-full-R1@0.7": 50.0,
            "MR-full-mAP": 40.0,  # (50 + 50 x 6 / 10) / 2
            "MR-full-mAP@0.5": 50.0,
            "MR-full-mAP@0.75": 50.0,
            "MR-long-mAP": 30.0,
            "MR-middle-mAP": 50.0,
        }
        assert document["full"]["MR-mAP"]["0.8"] == 25.0
        assert "baselines" not in document

    def test_qvhighlights_with_baselines(self, command: Command) -> None:
        given, annotations = self.qvhighlights(command.folder)
        words = ["evaluate", "--predictions", given, "--annotations", annotations, "--train", annotations]
        status, out, _ = command(*words, "--metrics", "qvhighlights", "--json")
        document = json.loads(out)
        assert status == 0
        assert document["brief"]["MR-full-mAP"] == 40.0
        assert set(document["baselines"]) == {"constant", "rank_only"}
        # Both queries belong to one video: rank 0 of 2 and rank 1 of 2, each seen once, so the median is
        # over relative ranks within a quarter of 1/4 and of 3/4: their own moments, [0, 20] and [100, 150].
        rank_only = document["baselines"]["rank_only"]
        assert rank_only["MR-full-R1@0.7"] == 100.0
        assert rank_only["MR-full-mAP"] == 75.0  # one of the two moments of query 1

        status, out, _ = command(*words, "--metrics", "qvhighlights")
        assert status == 0
        assert "40.00" in out.splitlines()[1]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "p.jsonl: there is no such prediction file; check the path"),
            ("", "p.jsonl: the prediction file is empty; it needs one JSON line a query"),
            ("{", "p.jsonl:1: "),
            (
                '{"qid": 1}',
                "p.jsonl:1: key 'query' is missing; a line needs qid, query, vid, pred_relevant_windows",
            ),
        ],
    )
    def test_bad_predictions(self, command: Command, annotations: Path, content: str | None, message: str) -> None:
        if content is not None:
            Path("p.jsonl").write_text(content)
        line = command.refuses("evaluate", "--predictions", "p.jsonl", "--annotations", annotations)
        assert line.startswith(f"mrnet: error: {message}")

    def test_predictions_are_a_folder(self, command: Command, annotations: Path) -> None:
        line = command.refuses("evaluate", "--predictions", ".", "--annotations", annotations)
        assert line.startswith("mrnet: error: .: cannot be read as UTF-8 text (")

    def test_of_another_split(self, command: Command, annotations: Path) -> None:
        given = predictions(Path("p.jsonl"), ("v#0", [[0, 10, 1]]))
        assert command.refuses("evaluate", "--predictions", given, "--annotations", annotations) == (
            "mrnet: error: 2 of 3 annotated queries have no prediction: qid v#1, w#0; predict the whole split"
        )

    def test_annotations_not_json(self, command: Command, predicted: Path) -> None:
        Path("cut.json").write_text('{"v": ')
        assert command.refuses("evaluate", "--predictions", predicted, "--annotations", "cut.json") == (
            "mrnet: error: cut.json: line 1, column 7: not JSON (Expecting value); get a whole copy, or name the "
            "file .jsonl if every line is an object of its own"
        )

    def test_train_missing(self, command: Command, annotations: Path, predicted: Path) -> None:
        words = ["--predictions", predicted, "--annotations", annotations, "--train", "nowhere.json"]
        assert command.refuses("evaluate", *words) == (
            "mrnet: error: nowhere.json: cannot be read (No such file or directory); give the annotation file"
        )

    def test_no_annotations(self, command: Command, predicted: Path) -> None:
        assert command.refuses("evaluate", "--predictions", predicted) == (
            "mrnet: error: --predictions needs --annotations, the file with the ground truth"
        )

    @pytest.mark.parametrize("tiou", ["2", "-0.1", "nan"])
    def test_tious(self, command: Command, annotations: Path, predicted: Path, tiou: str) -> None:
        words = ["--predictions", predicted, "--annotations", annotations, f"--tious={tiou}"]
        assert command.refuses("evaluate", *words) == (
            f"mrnet: error: --tious [{float(tiou)}]: thresholds are between 0 and 1"
        )


class TestEvaluateCheckpointRefuses:
    def test_missing(self, command: Command) -> None:
        assert command.refuses("evaluate", "--checkpoint", "nowhere").startswith(
            "mrnet: error: nowhere does not exist: expected a folder with mrnet.json"
        )

    def test_data_not_set(self, command: Command, checkpoint: Path) -> None:
        status, _, err = command("evaluate", "--checkpoint", checkpoint)
        assert (status, err) == (
            2,
            "mrnet: error: data.video_features is not set: add --set data.video_features=PATH (a store or a "
            "folder)\n",
        )

    @pytest.mark.parametrize(
        "overrides", [[], ["data.test=a.json", "data.train=a.json", "data.video_features=x.h5"]]
    )
    def test_leaves_nothing(self, command: Command, checkpoint: Path, overrides: list[str]) -> None:
        command.refuses("evaluate", "--checkpoint", checkpoint, *sets(*overrides))

    def test_the_whole_model(self, command: Command, checkpoint: Path) -> None:
        _, _, err = command("evaluate", "--checkpoint", checkpoint, *sets("model={}"))
        assert "of a checkpoint's configuration only data.*" in err

    def test_features_of_another_backbone(
        self, command: Command, checkpoint: Path, dataset_files: dict[str, str]
    ) -> None:
        overrides = sets(*(f"data.{key}={json.dumps(path)}" for key, path in dataset_files.items()))
        status, _, err = command("evaluate", "--checkpoint", checkpoint, *overrides)
        assert (status, err) == (
            2,
            "mrnet: error: the video features come from 'random', the model was trained on 'color-hog-motion' "
            "revision 1: point data.video_features at features of that backbone: mrnet features video VIDEOS "
            "--backbone color-hog-motion --rate 2 --out FEATURES.h5\n",
        )


class TestConvert:
    CASE = "activitynet"

    def released(self, folder: Path) -> tuple[Path, Path]:
        cases = Path(__file__).resolve().parents[1] / "parity" / "cases"
        weights = {
            name.removeprefix("weights."): tensor
            for name, tensor in load_file(cases / f"{self.CASE}.safetensors").items()
            if name.startswith("weights.")
        }
        torch.save({"model": weights, "epoch": 1}, folder / "a.pth")
        index = json.loads((cases / "index.json").read_text())
        (folder / "a.yml").write_text(json.dumps(index[self.CASE]["config"]))  # JSON is YAML
        return folder / "a.pth", folder / "a.yml"

    def test_converts(self, command: Command) -> None:
        pth, yml = self.released(command.folder)
        assert command("convert", pth, "--config", yml, "--out", "native") == (0, "native\n", "")
        assert sorted(path.name for path in Path("native").iterdir()) == ["model.safetensors", "mrnet.json"]
        line = command.refuses("convert", pth, "--config", yml, "--out", "native")
        assert line == "mrnet: error: native already exists and is not empty: choose another place or remove it"

    def test_out_is_here(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        pth, yml = self.released(command.folder)
        here = command.folder / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        status, _, err = command("convert", pth, "--config", yml, "--out", ".")
        assert status in (0, 2)
        assert "Traceback" not in err

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            ("no pth", "a.pth: No such file or directory: give a released .pth file"),
            ("no yml", "a.yml: No such file or directory: give the released config.yml with --config"),
            ("cut pth", "a.pth is damaged or not a PyTorch file ("),
            ("pth folder", "a.pth: Is a directory: give a released .pth file"),
            ("yml folder", "a.yml: Is a directory: give the released config.yml with --config"),
            ("not yaml", "a.yml is not YAML (while parsing a flow sequence): give the released config.yml"),
        ],
    )
    def test_refuses(self, command: Command, spoil: str, message: str) -> None:
        pth, yml = self.released(command.folder)
        path = pth if "pth" in spoil else yml
        if spoil == "cut pth":
            path.write_bytes(path.read_bytes()[:1000])
        elif spoil == "not yaml":
            path.write_text("a: [1")
        else:
            path.unlink()
            if "folder" in spoil:
                path.mkdir()
        line = command.refuses("convert", "a.pth", "--config", "a.yml", "--out", "native")
        assert line.startswith(f"mrnet: error: {message}")


class TestDataCheck:
    def write(self, record: dict[str, Any]) -> None:
        Path("a.json").write_text(json.dumps({"v": record}))
        write_store(
            Path("f.h5"), [("v", np.ones((3, 4), np.float32))], Provenance(backbone="x", dim=4, rows_per_s=1)
        )

    def test_sound(self, command: Command) -> None:
        self.write({"duration": 3, "timestamps": [[0, 1]], "sentences": ["a dog"]})
        assert command("data", "check", "a.json", "--features", "f.h5", "--dim", "4") == (
            0,
            "1 video, 1 query, features of 1\nno problems found\n",
            "",
        )

    def test_faults(self, command: Command) -> None:
        self.write({"duration": 3, "timestamps": [[0, 1]], "sentences": ["  "]})
        status, out, err = command("data", "check", "a.json", "--features", "f.h5", "--dim", "5")
        assert (status, err) == (1, "")
        assert "error: empty sentence: 1\n" in out
        assert 'error: wrong width: 1\n    "v" has rows of width 4; 5 was asked for\n' in out
        assert out.endswith("2 kinds of error\n")

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["b.json"], "b.json: cannot be read (No such file or directory); give the annotation file"),
            (["."], '.: unknown format ""; name it .json, .jsonl, .csv, .txt, .vtt, .eaf'),
            (
                ["cut.json"],
                "cut.json: line 1, column 2: not JSON (Expecting property name enclosed in double quotes); get a "
                "whole copy, or name the file .jsonl if every line is an object of its own",
            ),
            (
                ["a.json", "--features", "b.h5"],
                "b.h5: no such file or folder; give the path of the features",
            ),
            (
                ["a.json", "--features", "cut.json"],
                "cut.json: not an HDF5 file; copy or extract the features again",
            ),
        ],
    )
    def test_refuses(self, command: Command, words: list[str], message: str) -> None:
        self.write({"duration": 3, "timestamps": [[0, 1]], "sentences": ["a dog"]})
        Path("cut.json").write_text("{")
        assert command.refuses("data", "check", *words) == f"mrnet: error: {message}"


class TestDemoRefuses:
    @pytest.fixture(autouse=True)
    def no_rendering(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def render(*arguments: object, **options: object) -> None:  # noqa: ARG001
            raise AssertionError("rendered before the arguments were checked")

        monkeypatch.setattr(mrnet.demo.story, "render_benchmark", render)

    def test_out_holds_something_else(self, command: Command) -> None:
        Path("out").mkdir()
        Path("out/thesis.txt").write_text("mine")
        assert command.refuses("demo", "--out", "out") == (
            "mrnet: error: out already exists and is not empty: choose another place or remove it"
        )

    def test_another_seed(self, command: Command) -> None:
        Path("out").mkdir()
        Path("out/demo.json").write_text('{"demo": 1, "seed": 3}\n')
        assert command.refuses("demo", "--out", "out", "--seed", "4") == (
            "mrnet: error: out holds the demo of another seed: choose another --out"
        )

    def test_set(self, command: Command) -> None:
        assert "unknown key 'decode.nms'" in command.refuses("demo", "--out", "out", *sets("decode.nms=1"))

    def test_negative_seed(self, command: Command) -> None:
        assert "seed" in command.refuses("demo", "--out", "out", "--seed", "-1")


class TestProcess:
    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mrnet", *map(str, words)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)

    def test_closed_pipe(self, tmp_path: Path) -> None:
        rows = [{"video": f"v{i}", "start": 5, "end": 4, "query": "x", "duration": 9} for i in range(9)]
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
        read, write = os.pipe()
        os.close(read)
        process = self.start("data", "check", "a.jsonl", stdout=write, cwd=tmp_path)
        os.close(write)
        _, err = process.communicate(timeout=60)
        assert err == ""
        assert process.returncode == 1

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
    def test_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record = {"duration": 9, "timestamps": [[0, 3]], "sentences": ["a dog"]}
        (tmp_path / "a.json").write_text(json.dumps({"v": record}))
        with Path("/dev/full").open("w", buffering=1) as full:
            monkeypatch.setattr(sys, "stdout", full)
            status = main(["data", "check", str(tmp_path / "a.json")])
        assert status == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_no_standard_output(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        record = {"duration": 9, "timestamps": [[0, 3]], "sentences": ["a dog"]}
        (tmp_path / "a.json").write_text(json.dumps({"v": record}))
        monkeypatch.setattr(sys, "stdout", None)  # as Python has it after >&-
        assert main(["data", "check", str(tmp_path / "a.json")]) == 0

    def test_ctrl_c_in_training(self, tmp_path: Path, data_set: list[str]) -> None:
        more = sets("train.epochs=100000", "train.full_loss_epochs=100000")
        words = ["train", "--recipe", "demo", *data_set, *more, "--out", tmp_path / "run", "--cpu"]
        process = self.start(*words, stdout=subprocess.PIPE)
        saved = tmp_path / "run" / "run.json"
        try:
            deadline = time.monotonic() + 60
            while not (saved.exists() and json.loads(saved.read_text())["history"]):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130
        assert "Traceback" not in err
        assert err.splitlines()[-1] == "mrnet: interrupted"
        assert out == ""
        run = json.loads(saved.read_text())  # whole, whenever the signal came
        assert [record["epoch"] for record in run["history"]] == list(range(1, len(run["history"]) + 1))
        assert (tmp_path / "run" / "checkpoints" / run["last"] / "mrnet.json").is_file()
