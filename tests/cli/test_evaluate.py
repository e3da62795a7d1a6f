"""``mrnet evaluate``"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, sets


def predictions(path: Path, *rows: tuple[Any, list[list[float]]]) -> Path:
    lines = [
        json.dumps(
            {"qid": qid, "query": "a dog", "vid": str(qid).partition("#")[0], "pred_relevant_windows": windows}
        )
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
            row | {"qid": "v#1", "relevant_windows": [[0, 20], [40, 60]]},
            row | {"qid": "v#2", "relevant_windows": [[100, 150]]},
        ]
        annotations = folder / "a.jsonl"
        annotations.write_text("\n".join(map(json.dumps, rows)))
        # Query 1: the first moment at rank 1, exactly; the second one never. AP = 1/2 at every threshold.
        # Query 2: a miss, then [100, 138]: true IoU 0.76. AP = 1/2 up to 0.75, nothing above.
        given = predictions(folder / "p.jsonl", ("v#1", [[0, 20, 0.9]]), ("v#2", [[0, 50, 0.9], [100, 138, 0.5]]))
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
