"""``mrnet train``"""

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Command, sets
from tests.conftest import TINY, as_overrides, merge


class TestTrainThenEvaluate:
    def test_one_epoch(self, command: Command, data_set: list[str]) -> None:
        status, out, err = command("train", "--recipe", "demo", *data_set, "--out", "run", "--cpu")
        assert (status, out) == (0, "best checkpoint: run/checkpoints/epoch-0001\n")
        assert "epoch 1/1  loss " in err
        assert "Traceback" not in err
        run = json.loads(Path("run/run.json").read_text())
        assert (run["best"], run["last"]) == ("epoch-0001", "epoch-0001")
        spec = json.loads(Path("run/checkpoints/epoch-0001/mrnet.json").read_text())["spec"]
        assert spec["provenances"]["video"]["backbone"] == "random"

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
            "mrnet: error: run holds a run already: continue it with --resume, or choose another --out"
        )
        assert command.refuses("evaluate", "--checkpoint", "run", "--set", "model.layers=2") == (
            "mrnet: error: --set model.layers=2: of a checkpoint's configuration only data.*, decode.*, "
            "evaluation.* and train.* can be changed"
        )
        line = command.refuses(
            "train", "--recipe", "demo", *data_set, "--set", "train.lr=1", "--out", "run", "--cpu", "--resume"
        )
        assert line == (
            "mrnet: error: run/run.json was begun with train.lr=0.01, not 1.0: resume without changing it, or "
            "start a new run"
        )
        Path("taken").write_text("mine")
        assert command.refuses("evaluate", "--checkpoint", "run", "--out", "taken") == (
            "mrnet: error: taken: cannot be written (File exists); choose another place"
        )
        assert command.refuses("evaluate", "--checkpoint", "run", "--set", "decode.nms=1") == (
            "mrnet: error: run: unknown key 'decode.nms'; known here: nms_threshold, score_power, rank_by, sharpness"
        )

    def test_resume_of_a_finished_run(self, command: Command, data_set: list[str]) -> None:
        assert command("train", "--recipe", "demo", *data_set, "--out", "run", "--cpu")[0] == 0
        before = json.loads(Path("run/run.json").read_text())
        status, out, _ = command("train", "--resume", "--out", "run", "--cpu")
        assert (status, out) == (0, "best checkpoint: run/checkpoints/epoch-0001\n")
        assert json.loads(Path("run/run.json").read_text()) == before


class TestWhereSettingsComeFrom:
    def test_a_file_of_settings_trains_the_same(self, command: Command, data_set: list[str]) -> None:
        assert command("train", "--recipe", "demo", *data_set, "--out", "run", "--cpu")[0] == 0
        recipe = Path("run/checkpoints/epoch-0001/recipe.yaml")
        assert not re.search(
            r"(?m)^  (train|val|test|video_features):", recipe.read_text().partition("\ndata:")[2]
        )
        paths = [word for word in data_set if word.startswith("data.")]
        assert command("train", "--config", recipe, *sets(*paths), "--out", "again", "--cpu")[0] == 0
        histories = [json.loads(Path(f"{run}/run.json").read_text())["history"] for run in ("run", "again")]
        assert histories[0][0]["loss"] == histories[1][0]["loss"]

    def test_a_folder_says_where_its_files_lie(self, command: Command, dataset_files: dict[str, str]) -> None:
        """As of a released layout: the annotations and features as they lie, and one file that names them."""
        folder = Path("activity")
        folder.mkdir()
        for name in dataset_files.values():
            (folder / Path(name).name).write_bytes(Path(name).read_bytes())
        data = {key: Path(name).name for key, name in dataset_files.items()}
        data["train"] = [data["train"]]  # type: ignore[assignment]
        (folder / "dataset.yaml").write_text(json.dumps({"data": data}))
        quick = {key: value for key, value in TINY.items() if key != "name"}
        words = as_overrides(merge(quick, {"train": {"epochs": 1, "milestones": []}}))
        status, _, err = command("train", "--data", folder, *words, "--out", "run", "--cpu")
        assert status == 0, err
        elsewhere = Path("run/checkpoints/epoch-0001")
        elsewhere.rename("passed-on")
        status, out, err = command("evaluate", "--checkpoint", "passed-on", "--data", folder, "--json")
        assert status == 0, err
        assert json.loads(out)["videos"] == 3

    def test_joint_needs_no_training_annotations(self, command: Command, data_set: list[str]) -> None:
        assert command("train", "--recipe", "demo", *data_set, "--out", "run", "--cpu")[0] == 0
        words = ["--checkpoint", "run", "--set", "data.train=[]", "--protocol", "joint"]
        status, out, err = command("evaluate", *words)
        assert status == 0
        assert "no baselines: they are fitted on training annotations, and data.train is not set" in err
        assert [line.split("  ")[0] for line in out.splitlines()[1:]] == [
            "model, joint",
            "report: run/test/report.json",
        ]

    def test_fine_tuning(self, command: Command, data_set: list[str]) -> None:
        assert command("train", "--recipe", "demo", *data_set, "--out", "run", "--cpu")[0] == 0
        # The checkpoint's settings, and its data: all that is needed.
        status, out, err = command("train", "--from", "run", "--set", "train.lr=1e-5", "--out", "tuned", "--cpu")
        assert (status, out) == (0, "best checkpoint: tuned/checkpoints/epoch-0001\n"), err
        tuned = json.loads(Path("tuned/run.json").read_text())
        assert tuned["config"]["model"] == json.loads(Path("run/run.json").read_text())["config"]["model"]
        assert command.refuses(
            "train", "--from", "run", "--set", "model.ffn_dim=24", "--out", "wider", "--cpu"
        ) == (
            "mrnet: error: run/checkpoints/epoch-0001: weight 'transformer.layers.0.ffn.0.weight' has shape [16, 8], "
            "the configuration needs [24, 8]; a part that must differ is named with --fresh PART"
        )
        words = ["--set", "model.ffn_dim=24", "--fresh", "transformer.layers.0.ffn", "--out", "wider", "--cpu"]
        assert command("train", "--from", "run", *words)[0] == 0
        assert command.refuses("train", "--from", "run", "--resume", "--out", "tuned") == (
            "mrnet: error: --from begins a run and --resume continues one: leave one of them out"
        )
        assert command.refuses("train", "--recipe", "demo", "--fresh", "a", "--out", "x") == (
            "mrnet: error: --fresh names parts that do not begin with the weights of --from: give --from too"
        )
        line = command.refuses("train", "--from", "run", "--fresh", "head", "--out", "x", "--cpu")
        assert line.startswith(
            "mrnet: error: --fresh head: the network has no such part; it has clip_encoder, query_"
        )


class TestTrainRefuses:
    def refuses(self, command: Command, data_set: list[str], *more: str) -> str:
        return command.refuses("train", "--recipe", "demo", *data_set, *sets(*more), "--out", "run", "--cpu")

    def test_no_recipe(self, command: Command) -> None:
        assert command.refuses("train", "--out", "run") == (
            "mrnet: error: say what to train with --recipe: one of activitynet, activitynet-speech, charades, "
            "charades-c3d, charades-speech, charades-vgg, "
            "clip-small, demo, mrnet-plus, mrnet-small, qvhighlights, tacos, tacos-speech"
        )

    def test_unknown_recipe(self, command: Command) -> None:
        assert command.refuses("train", "--recipe", "demoo", "--out", "run") == (
            "mrnet: error: unknown recipe 'demoo': choose one of activitynet, activitynet-speech, charades, "
            "charades-c3d, charades-speech, charades-vgg, "
            "clip-small, demo, mrnet-plus, mrnet-small, qvhighlights, tacos, tacos-speech"
        )

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("layers", "override 'layers' is not of the form key=value, e.g. model.layers=4"),
            ("model.layers=[", "override 'model.layers=[': '[' is not a YAML value"),
            (
                "decode.nms=1",
                "recipe demo: unknown key 'decode.nms'; known here: nms_threshold, score_power, rank_by, sharpness",
            ),
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
            "mrnet: error: run: cannot be written (File exists); choose another place"
        )

    def test_seed_too_large(self, command: Command, data_set: list[str]) -> None:
        assert "train.seed" in self.refuses(command, data_set, "train.seed=1000000000000000")
