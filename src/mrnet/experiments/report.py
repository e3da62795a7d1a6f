"""Tables and a picture of results: means over seeds, and how far each variant is from the one of reference."""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrnet.errors import ConfigError, DataError
from mrnet.evaluation.metrics import bootstrap_intervals
from mrnet.experiments.definition import BASELINES, EXPERIMENT_FILE, read_begun
from mrnet.experiments.plot import Row, draw
from mrnet.experiments.result import RESULT_FILE, Result, Scored, read_result, read_results
from mrnet.files import make_directory, write_text
from mrnet.types import AskedProtocol

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A metric over the seeds of a variant, in percent: mean, sample standard deviation (NaN of one seed)."""

    mean: float
    spread: float


class Difference(NamedTuple):
    """A variant's mean over seeds less that of the reference, in points, with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """A variant on a split under a protocol.

    Attributes:
        variant: its name.
        protocol: how queries were asked.
        results: its runs.
        metrics: of each name.
        differences: of the metrics of the first moment, under ``single``; none of the reference itself.
    """

    variant: str
    protocol: AskedProtocol
    results: Sequence[Result]
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Difference]


def gather(sources: Sequence[Path]) -> list[Result]:
    """Results of experiments, in the order of their variants.

    Args:
        sources: folders of :func:`mrnet.experiments.run.run_experiment`, or files of results.

    Raises:
        DataError: one cannot be read, or a run is there twice.
    """
    results: list[Result] = []
    for source in sources:
        results += _read_folder(source) if source.is_dir() else read_results(source)
    seen: set[tuple[str, str, int | None]] = set()
    for result in results:
        key = (result.experiment, result.variant, result.seed)
        if key in seen:
            seed = "" if result.seed is None else f" with seed {result.seed}"
            raise DataError(
                f"{', '.join(map(str, sources))}: {result.variant} of {result.experiment}{seed} is there twice; give "
                "each result once, or another name with --set name=..."
            )
        seen.add(key)
    if not results:
        raise DataError(f"{', '.join(map(str, sources))}: no run is finished yet; see `mrnet experiment run`")
    return results


def _read_folder(folder: Path) -> list[Result]:
    try:
        begun = read_begun(folder / EXPERIMENT_FILE)
    except ConfigError as error:
        raise DataError(f"{folder}: no folder of an experiment ({error})") from None
    files = [folder / name / RESULT_FILE for name in BASELINES]
    for variant in begun.variants:
        names = (run.name.removeprefix("seed-") for run in (folder / variant).glob("seed-*"))
        seeds = sorted({int(name) for name in names if name.isdecimal()})  # a copy, seed-0-old, is none
        files += [folder / variant / f"seed-{seed}" / RESULT_FILE for seed in seeds]
    results = [read_result(file) for file in files if file.is_file()]
    return [result.model_copy(update={"reference": begun.reference}) for result in results]


def compare(results: Sequence[Result], split: str) -> list[Line]:
    """What each variant of one experiment reached on a split, in order of their first results.

    Differences are of means over seeds, query by query; their intervals come from resampling videos.

    Args:
        results: of one experiment.
        split: that some of them have.

    Raises:
        DataError: they are not of the same queries.
    """
    runs: dict[str, list[Result]] = {}
    for result in results:
        if split in result.splits:
            runs.setdefault(result.variant, []).append(result)
    shapes = {tuple(result.splits[split].queries) for of_variant in runs.values() for result in of_variant}
    if len(shapes) > 1:
        raise DataError(
            f"results of {results[0].experiment} on {split} are of different queries: give those of one dataset"
        )
    reference = _hits(runs.get(results[0].reference, []), split)
    lines = []
    for variant, of_variant in runs.items():
        hits = {} if variant == results[0].reference else _hits(of_variant, split)
        for protocol in of_variant[0].splits[split].metrics:
            differences = _differences(hits, reference, next(iter(shapes))) if protocol == "single" else {}
            scored = [result.splits[split] for result in of_variant]
            lines.append(Line(variant, protocol, of_variant, _estimates(scored, protocol), differences))
    return lines


def _estimates(scored: Sequence[Scored], protocol: AskedProtocol) -> dict[str, Estimate]:
    tables = [one.metrics[protocol] for one in scored]
    return {name: _estimate([table[name] for table in tables]) for name in tables[0]}


def _estimate(values: Sequence[float]) -> Estimate:
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    return Estimate(statistics.fmean(values), spread)


def _hits(results: Sequence[Result], split: str) -> dict[str, Array]:
    """Metric of the first moment -> ``(n,)``, the mean over seeds of what each query counts."""
    if not results:
        return {}
    tiou = np.array([result.splits[split].tiou for result in results])  # (seeds, n)
    thresholds = results[0].config["evaluation"]["tious"]
    hits: dict[str, Array] = {
        f"R@1,IoU={threshold:g}": (tiou >= threshold).mean(axis=0) for threshold in thresholds
    }
    hits["mIoU"] = tiou.mean(axis=0)
    return hits


def _differences(
    hits: Mapping[str, Array], reference: Mapping[str, Array], queries: Sequence[int]
) -> dict[str, Difference]:
    shared = {name: hits[name] - reference[name] for name in hits if name in reference}
    if not shared:
        return {}
    video_ids = [str(video) for video, count in enumerate(queries) for _ in range(count)]
    bounds = bootstrap_intervals(shared, video_ids)
    return {name: Difference(100 * float(values.mean()), *bounds[name]) for name, values in shared.items()}


def write_report(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write NAME.md, NAME.csv and NAME.svg of each experiment; returns their paths.

    Raises:
        DataError: results of one experiment do not go together.
        OutputError: they cannot be written.
    """
    experiments: dict[str, list[Result]] = {}
    for result in results:
        experiments.setdefault(result.experiment, []).append(result)
    texts: dict[Path, str] = {}
    for name, of_experiment in experiments.items():
        splits = [split for split in ("val", "test") if any(split in result.splits for result in of_experiment)]
        tables = {split: compare(of_experiment, split) for split in splits}
        texts[folder / f"{name}.md"] = _markdown(name, of_experiment, tables)
        texts[folder / f"{name}.csv"] = _csv(tables)
        texts[folder / f"{name}.svg"] = _picture(name, of_experiment, splits[-1], tables[splits[-1]])
    make_directory(folder)
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def _markdown(name: str, results: Sequence[Result], tables: Mapping[str, Sequence[Line]]) -> str:
    commits = sorted({result.commit[:10] for result in results if result.commit})
    reference = results[0].reference
    parts = [
        f"# {name}\n\nMean ± standard deviation over seeds, percent. Regenerated from the results file by `mrnet "
        f"experiment report`; commits {', '.join(commits) or 'unknown'}.\n"
    ]
    for split, lines in tables.items():
        names = _united(line.metrics for line in lines)
        rows = [[_title(line), *(_pm(line.metrics.get(metric)) for metric in names)] for line in lines]
        queries = sum(lines[0].results[0].splits[split].queries)
        parts.append(f"## {split}, {queries} queries\n\n" + _table(["variant", *names], rows))
        compared = [line for line in lines if line.differences]
        if compared:
            names = _united(line.differences for line in compared)
            rows = [
                [line.variant, *(_signed(line.differences.get(metric)) for metric in names)] for line in compared
            ]
            parts.append(
                f"Less `{reference}`, in points, with 95 % intervals of a paired bootstrap over videos:\n\n"
                + _table(["variant", *names], rows)
            )
    parts.append(
        "## cost\n\nMilliseconds of a processor's time; seconds on the clock, beside the experiment's other runs.\n\n"
        + _costs(results)
    )
    return "\n".join(parts)


def _costs(results: Sequence[Result]) -> str:
    runs: dict[str, list[Result]] = {}
    for result in results:
        if result.cost is not None:
            runs.setdefault(result.variant, []).append(result)
    rows = []
    for variant, of_variant in runs.items():
        costs = [result.cost for result in of_variant if result.cost is not None]
        seconds, milliseconds = (
            statistics.fmean(getattr(cost, field) for cost in costs) for field in ("seconds", "ms_per_query")
        )
        kept = ", ".join(f"{cost.best_epoch}/{cost.epochs}" for cost in costs)
        rows.append(
            [
                variant,
                str(len(costs)),
                f"{costs[0].parameters:,}",
                f"{costs[0].multiply_adds / 1e6:,.1f}",
                f"{milliseconds:.1f}",
                f"{seconds:.0f}",
                kept,
            ]
        )
    head = ["variant", "seeds", "parameters", "million multiply-adds a query", "ms a query", "seconds of training"]
    return _table([*head, "best epochs"], rows)


def _csv(tables: Mapping[str, Sequence[Line]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["split", "protocol", "variant", "seeds", "metric", "mean", "spread", "difference", "low", "high"]
    writer.writerow(head)
    for split, lines in tables.items():
        for line in lines:
            for metric, estimate in line.metrics.items():
                numbers = [*estimate, *line.differences.get(metric, ())]
                cells = ["" if np.isnan(number) else f"{number:z.3f}" for number in numbers]
                cells += [""] * (5 - len(cells))
                writer.writerow([split, line.protocol, line.variant, len(line.results), metric, *cells])
    return text.getvalue()


def _picture(name: str, results: Sequence[Result], split: str, lines: Sequence[Line]) -> str:
    """By the metric that checkpoints are chosen by, if all have it, else by mIoU."""
    metric = results[0].config["evaluation"]["select_by"]
    metric = metric if all(metric in line.metrics for line in lines) else "mIoU"
    rows = [
        Row(
            _title(line),
            [result.splits[split].metrics[line.protocol][metric] for result in line.results],
            line.metrics[metric].mean,
            line.variant == results[0].reference,
        )
        for line in lines
    ]
    return draw(f"{name}: {metric} on {split}", rows)


def _united(tables: Iterable[Mapping[str, object]]) -> list[str]:
    """The metrics of any of them, as variants may be scored at thresholds of their own."""
    return list(dict.fromkeys(name for table in tables for name in table))


def _title(line: Line) -> str:
    return line.variant if line.protocol == "single" else f"{line.variant} ({line.protocol})"


def _pm(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.mean:.1f}" + ("" if np.isnan(estimate.spread) else f" ± {estimate.spread:.1f}")


def _signed(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    return f"{difference.mean:+z.1f} [{difference.low:+z.1f}, {difference.high:+z.1f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
