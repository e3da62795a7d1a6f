"""The scorer without training on annotated videos, beside what answers without looking."""

import json
from pathlib import Path

import numpy as np
import pytest

from mrnet.errors import FeatureShapeError
from mrnet.evaluation.untrained import evaluate_untrained
from mrnet.features.store.writer import write_store
from mrnet.provenance import Provenance


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """A video of 20 rows whose first half differs from its second, asked twice."""
    rows = np.zeros((20, 1280), np.float32)
    rows[:10, :640] = rows[10:, 640:] = 1.0
    write_store(
        tmp_path / "f.h5", [("v", rows)], Provenance(backbone="efficientnet-lite0", dim=1280, rows_per_s=2.0)
    )
    lines = [
        {"video": "v", "start": s, "end": s + 5, "query": q, "duration": 10}
        for s, q in ((0, "a dog"), (5, "a cat"))
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_features_of_another_encoder_are_refused(annotated: Path) -> None:
    store = annotated / "f.h5"
    other = Provenance(backbone="efficientnet-lite0", dim=1280, rows_per_s=2.0, revision="sha256:other")
    write_store(store, [("v", _rows(store))], other)
    with pytest.raises(
        FeatureShapeError, match=r"features of 'efficientnet-lite0' revision sha256:other cannot be"
    ):
        evaluate_untrained(annotated / "a.jsonl", store)


def test_baselines_and_metrics(annotated: Path) -> None:
    from mrnet.features.registry import make_backbone

    revision = make_backbone("video", "efficientnet-lite0", device="cpu").revision
    made = Provenance(backbone="efficientnet-lite0", dim=1280, rows_per_s=2.0, revision=revision)
    write_store(annotated / "f.h5", [("v", _rows(annotated / "f.h5"))], made)
    report, predictions = evaluate_untrained(annotated / "a.jsonl", annotated / "f.h5", device="cpu")
    assert (report["videos"], report["queries"]) == (1, 2)
    assert set(report["metrics"]) == {"single"}
    assert {"constant", "random_segment"} <= set(report["baselines"])
    # Two segments of which each query wants one: half of them, and never both, are hit by chance.
    assert report["baselines"]["random_segment"]["R@1,IoU=0.5"] == pytest.approx(50.0)
    assert report["baselines"]["random_segment"]["R@5,IoU=0.5"] == pytest.approx(100.0)
    for prediction in predictions:
        spans = {(round(m.start_s, 2), round(m.end_s, 2)) for m in prediction.windows}
        assert spans <= {(0.0, 4.75), (4.75, 10.0), (0.0, 10.0)}


def _rows(store: Path) -> np.ndarray:
    from mrnet.features.store.reader import open_store

    return open_store(store).read("v")
