"""What a comparison with the released implementation comes to."""

from dataclasses import dataclass

from torch import Tensor

from mrnet.config.run import RunConfig


@dataclass(frozen=True)
class Check:
    """One compared quantity."""

    case: str
    quantity: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # NaN fails


def scaled_error(actual: Tensor, expected: Tensor, scale: float | None = None) -> float:
    """Largest difference over the largest expected value (or ``scale``), infinite for another shape."""
    if actual.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    difference = (actual.double() - expected.double()).abs().max().item()
    reference = expected.double().abs().max().item() if scale is None else scale
    return difference if reference == 0 else difference / reference


def relative_difference(actual: float, expected: float) -> float:
    """Of two numbers; where 0 is expected, the difference itself."""
    return abs(actual - expected) / (abs(expected) or 1.0)


def without_dropout(config: RunConfig) -> RunConfig:
    """The configuration that the released numbers were made with."""
    changes = {"dropout": 0.0, "attention_dropout": 0.0, "clip_dropout": 0.0}
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def released_metrics(metrics: dict[str, float], tious: list[float]) -> dict[str, float]:
    """Native recall metrics, in percent, under released names and in [0, 1]."""
    renamed = {"R@{1},mIoU": metrics["mIoU"]}
    for rank in (1, 5):
        recalls = {f"R@{rank},IoU@{tiou:g}": metrics[f"R@{rank},IoU={tiou:g}"] for tiou in tious}
        renamed |= recalls | {f"Best_R{rank}": sum(recalls.values()) / len(tious)}
    return {name: value / 100 for name, value in renamed.items()}
