"""Compare this implementation with numbers printed by the released one.

    python tools/parity.py DIR

DIR holds any of: ``index.json`` with a ``CASE.safetensors`` for each case, ``data.safetensors``,
``evaluation_*.json`` with their ``.safetensors``, ``qvhighlights/`` (whose annotations are looked for in
``DIR/../annotations/qvhighlights``), whole trainings in ``traces/`` with their data in ``data/`` (or both in
``trajectories/``). Every case goes through the importer that users get. Prints the largest relative error of each
quantity; exits 1 above 1e-4 (scores, losses), 1e-3 (gradients) or 0.01 (QVHighlights metrics); of a training,
which is followed in float64, above 1e-6 (losses, norms, rates and metrics) or 1e-5 (final weights).
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from checks import Check, released_metrics, scaled_error, without_dropout
from mrnet.data.annotations import read_annotations
from mrnet.errors import MRNetError
from mrnet.evaluation.metrics import recall_metrics
from mrnet.evaluation.predictions import read_predictions
from mrnet.evaluation.qvhighlights import qvhighlights_metrics
from mrnet.losses import compute_losses, total_loss
from mrnet.model.fast.routes import Route
from mrnet.model.mrnet import MRNet
from mrnet.retrieval.rank import rank
from mrnet.retrieval.scorer import Candidates
from mrnet.retrieval.trained import EncodedVideo, TrainedScorer, fuse_scores
from mrnet.temporal import average_rows, cell_moments, iou_map, valid_cells
from mrnet.weights.native import build_model, load_tensors, read_json
from mrnet.weights.released import Rename, import_released, released_names
from traces import trace_checks

SCORE_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
METRIC_TOLERANCE = 0.01


def numbered(tensors: dict[str, Tensor], prefix: str) -> list[Tensor]:
    """Tensors ``prefix.0``, ``prefix.1``, ... in order."""
    found: list[Tensor] = []
    while f"{prefix}.{len(found)}" in tensors:
        found.append(tensors[f"{prefix}.{len(found)}"])
    return found


def model_case(name: str, released: dict[str, Any], path: Path, route: Route) -> Iterator[Check]:
    """Evaluation outputs, losses and gradients of one configuration."""
    tensors = load_tensors(path)
    weights = {key.removeprefix("weights."): value for key, value in tensors.items() if key.startswith("weights.")}
    imported = import_released(released["config"], weights, source=name)
    config = without_dropout(imported.config)
    model = build_model(config.model, imported.weights, source=name, route=route)
    assert isinstance(model, MRNet)
    scorer = TrainedScorer(model, config.decode, "joint")

    query_features = numbered(tensors, "input.query_features")
    moments = torch.cat(numbered(tensors, "input.moments_seconds"))[:, None]
    counts = torch.tensor([len(queries) for queries in query_features])
    queries = torch.nn.utils.rnn.pad_sequence(query_features, batch_first=True)
    mask = torch.arange(queries.shape[1]) < counts[:, None]
    durations = tensors["input.durations_seconds"].repeat_interleave(counts)
    targets = iou_map(moments, durations, config.model.num_clips)

    def check(quantity: str, actual: Tensor, expected: Tensor) -> Check:
        return Check(name, quantity, scaled_error(actual, expected), SCORE_TOLERANCE)

    yield check("validity mask", model.valid.float(), tensors["eval.valid_mask"].float())
    yield check("target IoU", targets, torch.cat(numbered(tensors, "target.iou_map")))
    with torch.inference_mode():
        clips = model.encode_video(tensors["input.video_features"])
        evaluated = model.embed(clips, queries, mask, "joint")
        iou, contrastive = evaluated.iou_logits().sigmoid(), evaluated.contrastive_scores()
        embeddings_iou, _ = _proposal_embeddings(model, clips, queries, mask)
    released_iou = tensors["eval.proposal_embeddings_iou"][:, :, model.valid].transpose(1, 2)
    yield check("IoU embeddings", embeddings_iou, released_iou)
    yield check("IoU scores", iou, _valid_cells(tensors, "eval.iou_scores", model))
    yield check("contrastive scores", contrastive, _valid_cells(tensors, "eval.contrastive_scores", model))
    released_fused = _valid_cells(tensors, "eval.fused_scores", model)
    fused, moments_of, best_of, released_best = [], [], [], []
    for video, (of_video, expected) in enumerate(
        zip(query_features, torch.split(released_fused, counts.tolist()), strict=True)
    ):
        encoded = EncodedVideo(clips[video : video + 1], float(tensors["input.durations_seconds"][video]))
        answered = scorer.candidates(encoded, of_video)
        reference = Candidates(answered.spans_s, expected)
        top = torch.stack(numbered(tensors, f"eval.top5_moments_seconds.{video}"))
        k, threshold = top.shape[1], config.decode.nms_threshold
        fused.append(answered.scores)
        moments_of.append(_ranked(reference, top, threshold))
        # End to end by score: proposals equal but for rounding may swap places.
        best_of.append(_top(answered, k, threshold)[..., 2])
        released_best.append(_top(reference, k, threshold)[..., 2])
    yield check("fused scores", torch.cat(fused), released_fused)
    yield check("top-5 moments", *(torch.cat(side) for side in zip(*moments_of, strict=True)))
    yield check("top-5 scores", torch.cat(best_of), torch.cat(released_best))

    model.train()
    embeddings = model(tensors["input.video_features"], queries, mask, "joint")
    losses = compute_losses(embeddings, targets[:, model.valid], moments, durations, config.loss)
    for part in ("iou", "video", "sentence", "sparsity"):
        actual, expected = getattr(losses, part).reshape(1).detach(), tensors[f"train.loss_{part}"]
        scale = max(expected.abs().item(), 1e-2)  # the loss of a batch of one query is 0 up to rounding
        yield Check(name, f"loss: {part}", scaled_error(actual, expected, scale), SCORE_TOLERANCE)
    no_doubling = config.loss.model_copy(update={"sparsity_doubling_ratio": None})
    total = total_loss(losses, no_doubling, full=True, batch_size=len(counts))
    yield check("loss: total", total.reshape(1).detach(), tensors["train.loss_total_without_hinge"])
    total.backward()  # type: ignore[no-untyped-call]
    modality = config.model.projections == "modality"
    yield from gradient_checks(
        name, model, released_names(config.model, modality=modality), tensors, released["grad_norms"]
    )


def _valid_cells(tensors: dict[str, Tensor], prefix: str, model: MRNet) -> Tensor:
    """``(n, v)`` of the released ``(n, t, t)`` maps."""
    return torch.cat(numbered(tensors, prefix))[:, model.valid]


def _top(candidates: Candidates, k: int, threshold: float) -> Tensor:
    """``(n, k, 3)`` start, end and score of the k best."""
    return torch.tensor([[moment[:3] for moment in ranked] for ranked in rank(candidates, k, threshold)])


def _ranked(released: Candidates, expected: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Our ranking of released scores and the released one, up to the first tie that they break differently.

    The released sort is not stable: of proposals with the very same score it takes any.
    """
    rows = _top(released, expected.shape[1], threshold)
    moments, best = rows[..., :2], rows[..., 2]
    nearest = (expected[:, :, None] - released.spans_s).abs().amax(dim=-1).argmin(dim=-1)
    score = released.scores.gather(1, nearest)
    differs = (moments - expected).abs().amax(dim=-1) > 1e-3
    first = (differs.cumsum(dim=1) == 1) & differs
    tied = (first & (score == best)).cumsum(dim=1) > 0
    return moments.masked_fill(tied[..., None], 0), expected.masked_fill(tied[..., None], 0)


def _proposal_embeddings(model: MRNet, clips: Tensor, queries: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The IoU and contrastive embeddings of the valid cells before normalisation."""
    if model.transformer is not None:
        _, clips = model.transformer(model.query_encoder(queries), clips, mask)
    embeddings: tuple[Tensor, Tensor] = model.proposal_head(model.proposal_map(clips))
    return embeddings


def gradient_checks(
    name: str,
    model: MRNet,
    renames: dict[str, Rename],
    tensors: dict[str, Tensor],
    norms: dict[str, float | None],
) -> Iterator[Check]:
    """Whole gradients where the case holds them, their norms everywhere else.

    A bias that is normalised away (before batch norm, or of K before softmax) has a gradient of zero up to
    rounding: it is measured against the gradient of its own weight.
    """
    parameters = dict(model.named_parameters())
    whole, lengths = [0.0], [0.0]
    for released, norm in norms.items():
        native = renames[released].native
        parameter = None if native is None else parameters[native]
        gradient = None if parameter is None else parameter.grad
        if parameter is not None and not parameter.requires_grad:
            gradient = torch.zeros_like(parameter)
        if norm is None or gradient is None:
            if norm or (gradient is not None and gradient.any()):
                yield Check(name, f"gradient of {released}", float("inf"), GRADIENT_TOLERANCE)
            continue
        weight_norm = norms.get(released.replace("bias", "weight")) or 0.0
        before_batch_norm = re.fullmatch(r"proposal_conv\.convs\.\d+\.bias", released)
        vanishes = before_batch_norm or (released.endswith("bias") and norm < 1e-5 * weight_norm)
        scale = weight_norm if vanishes else None
        if f"grad.{released}" in tensors:
            expected = renames[released].to_native(tensors[f"grad.{released}"])
            whole.append(scaled_error(gradient, expected, scale))
        lengths.append(scaled_error(gradient.norm().reshape(1), torch.tensor([norm]), scale))
    # A tensor's maximum, unlike Python's, lets NaN through.
    yield Check(name, "gradients", torch.tensor(whole).max().item(), GRADIENT_TOLERANCE)
    yield Check(name, "gradient norms", torch.tensor(lengths).max().item(), GRADIENT_TOLERANCE)


def data_cases(path: Path) -> Iterator[Check]:
    """Resampling, IoU maps and validity masks."""
    tensors = load_tensors(path)
    for key, expected in tensors.items():
        parts = key.split(".", 2)
        kind = parts[0]
        if kind == "valid_mask":
            num_clips, *counts = map(int, re.findall(r"\d+", key))
            actual = valid_cells(num_clips, counts)
        elif kind == "iou_map":
            match = re.fullmatch(r"moment_([\d.]+)_([\d.]+)_duration_([\d.]+)_clips_(\d+)", parts[2])
            if match is None:
                raise SystemExit(f"{path}: cannot read the case {key!r}")
            start, end, duration = (float(text) for text in match.groups()[:3])
            moments = torch.tensor([[[start, end]]])
            actual = iou_map(moments, torch.tensor([duration]), int(match[4]))[0]
        elif kind == "resample" and key.endswith(".output"):
            rows = tensors[key.replace(".output", ".input")]
            actual = average_rows(rows, len(expected))  # the cases leave out the normalisation
        else:
            continue
        error = scaled_error(actual.float(), expected.float())
        yield Check("data", key, error, SCORE_TOLERANCE)


def evaluation_case(path: Path) -> Iterator[Check]:
    """Score maps to ranked moments to metrics, to the last sentence."""
    if not path.with_suffix(".safetensors").is_file():
        print(f"{path.stem}: skipped, {path.with_suffix('.safetensors').name} is not there")
        return
    case: dict[str, Any] = read_json(path)
    tensors = load_tensors(path.with_suffix(".safetensors"))
    predictions, truths = [], []
    errors = []
    for video, annotation in case["annotations"].items():
        fused = fuse_scores(
            tensors[f"{video}.iou_scores"], tensors[f"{video}.contrastive_scores"], case["score_power"]
        )
        cells = fused.any(dim=0).nonzero()
        spans = cell_moments(cells, annotation["duration"], fused.shape[-1])
        moments = _top(Candidates(spans, fused[:, cells[:, 0], cells[:, 1]]), 5, case["nms_threshold"])[..., :2]
        expected = torch.tensor(case["top1_moments_seconds"][video])
        errors.append(scaled_error(moments[:, 0], expected))
        predictions.append(moments)
        truths.append(torch.tensor(annotation["moments_seconds"])[:, None])
    yield Check(path.stem, "top-1 moments", torch.tensor(errors).max().item(), SCORE_TOLERANCE)
    released = case["metrics"]
    tious = [float(key.split("@")[-1]) for key in released if key.startswith("R@1,IoU@")]
    recalls = recall_metrics(torch.cat(predictions).numpy(), torch.cat(truths).numpy(), tious=tious, ranks=(1, 5))
    metrics = released_metrics(recalls, tious)
    queries = sum(len(prediction) for prediction in predictions)
    for key, value in released.items():
        # Less than one query: agreement to the last sentence.
        yield Check(path.stem, key, abs(metrics[key] - value), 1e-5 if "mIoU" in key else 0.01 / queries)


def qvhighlights_case(folder: Path, annotations: Path) -> Iterator[Check]:
    """Official metrics of a prediction file."""
    records = read_annotations(annotations)
    expected: dict[str, Any] = read_json(folder / "metrics.json")
    actual = qvhighlights_metrics(read_predictions(folder / "predictions.jsonl"), records)

    def compare(actual: Any, expected: Any) -> float:
        if isinstance(expected, dict):
            if set(actual) != set(expected):
                return float("inf")
            return max(compare(actual[key], expected[key]) for key in expected)
        return abs(float(actual) - float(expected))

    for section in expected:
        error = compare(actual.get(section, {}), expected[section])
        yield Check("qvhighlights", section, error, METRIC_TOLERANCE + 1e-9)


def all_checks(directory: Path, route: Route) -> Iterator[Check]:
    """Everything that the directory holds; the proposal convolutions go by ``route``."""
    index = directory / "index.json"
    if index.is_file():
        cases: dict[str, Any] = read_json(index)
        for name, released in cases.items():
            path = directory / f"{name}.safetensors"
            if path.is_file():
                yield from model_case(name, released, path, route)
    if (directory / "data.safetensors").is_file():
        yield from data_cases(directory / "data.safetensors")
    for path in sorted(directory.glob("evaluation_*.json")):
        yield from evaluation_case(path)
    if (directory / "qvhighlights").is_dir():
        annotations = directory.parent / "annotations" / "qvhighlights" / "highlight_val_release.jsonl"
        if annotations.is_file():
            yield from qvhighlights_case(directory / "qvhighlights", annotations)
        else:
            print(f"qvhighlights: skipped, {annotations} is not there")
    for folder in (directory, directory / "trajectories"):
        if (folder / "traces").is_dir():
            yield from trace_checks(folder, route)


def refuse(message: str) -> int:
    """Say in one line what is wrong with the input."""
    print(f"parity: error: {message}", file=sys.stderr)
    return 2


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare with numbers of the released implementation.")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument(
        "--route", choices=get_args(Route), default="auto", help="of the proposal convolutions (default: auto)"
    )
    arguments = parser.parse_args(argv)
    directory = arguments.directory
    if not directory.is_dir():
        return refuse(f"{directory} is not a folder")
    torch.manual_seed(0)
    checks = []
    try:
        for check in all_checks(directory, arguments.route):
            checks.append(check)
            verdict = "ok" if check.ok else "FAIL"
            print(
                f"{verdict:4}  {check.case:24} {check.quantity:52} {check.error:.2e}"
                f"  (limit {check.tolerance:.0e})"
            )
    except MRNetError as error:
        return refuse(str(error))
    failed = sum(not check.ok for check in checks)
    if not checks:
        return refuse(f"{directory} holds no parity cases")
    print(f"{len(checks)} quantities compared, {failed} above their limit")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
