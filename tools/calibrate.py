"""Fit what the scores of the scorer without training mean, and say how well it holds on videos left out of the fit.

Usage::

    mrnet features video VIDEOS --backbone efficientnet-lite0 --out videos.h5
    python tools/calibrate.py --annotations TABLE [TABLE ...] --features videos.h5 [--threshold 0.45]

Figures are of probabilities that were fitted on all other videos, each video in its turn; the printed coefficients are
fitted on all.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from mrnet.config import DecodeConfig
from mrnet.data.annotations import read_annotations
from mrnet.evaluation.absence import Outcomes, absence_report, ask_absent, fit_calibration, probabilities
from mrnet.evaluation.untrained import SAME_FOOTAGE, StoredQuestions
from mrnet.features.store.reader import open_store
from mrnet.retrieval.aligned import PACKAGED_VIDEO, make_untrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--backbone", default=PACKAGED_VIDEO)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--draws", type=int, default=10, help="of queries of other videos, with seeds from 0")
    arguments = parser.parse_args()
    store, untrained = open_store(arguments.features), make_untrained(arguments.backbone)
    records = [
        record
        for path in arguments.annotations
        for record in read_annotations(path, durations=store.duration_s)
        if record.queries
    ]
    questions = StoredQuestions(records, store, untrained)
    draws = [
        ask_absent(untrained.scorer, questions, DecodeConfig().nms_threshold, seed, SAME_FOOTAGE)
        for seed in range(arguments.draws)
    ]
    reports = [_left_out(outcomes, arguments.threshold) for outcomes in draws]
    fits = [fit_calibration(outcomes, "these") for outcomes in draws]
    found = [fit for fit in fits if fit is not None]
    document = {
        "bias": float(np.mean([fit.bias for fit in found])),
        "weights": np.mean([fit.weights for fit in found], axis=0).tolist(),
        "left_out": {name: float(np.mean([report[name] for report in reports])) for name in reports[0]},
    }
    print(json.dumps(document, indent=2))


def _left_out(outcomes: Outcomes, threshold: float) -> dict[str, float]:
    given = np.empty(len(outcomes.first))
    for video in np.unique(outcomes.video):
        left = outcomes.video == video
        calibration = fit_calibration(outcomes.of(~left), "the others")
        assert calibration is not None, "too few right or wrong answers to fit anything"
        given[left] = probabilities(outcomes.of(left), calibration)
    return absence_report(outcomes, given, threshold)


if __name__ == "__main__":
    main()
