"""Checkpoints on the Hugging Face hub: what is sent, and what is taken.

Nothing that is fetched runs: weights are safetensors, the rest is JSON and YAML, and no other file is taken.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mrnet.config.spec import ModelSpec
from mrnet.errors import CheckpointError, ConfigError, DataError
from mrnet.features.registry import REGISTRY
from mrnet.provenance import Provenance
from mrnet.types import Modality
from mrnet.version import __version__
from mrnet.weights.native import (
    PCA_FILE,
    RECIPE_FILE,
    SPEC_FILE,
    WEIGHTS_FILE,
    load_checkpoint,
)

CARD_FILE = "README.md"
FILES = (SPEC_FILE, WEIGHTS_FILE, PCA_FILE, RECIPE_FILE)
"""What is sent beside the card, and all that is taken."""

_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_TITLES = {
    "single": "this model",
    "constant": "baseline: best constant moment",
    "rank_only": "baseline: rank alone",
}
_PROTOCOLS = {
    "single": "every query is asked alone",
    "joint": "all queries of a video in one sequence, in the order of their true start, which leaks that order",
    "shuffled": "all queries of a video in one sequence, in an order that is drawn",
}


def fetch_checkpoint(repo: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint: ``repo`` itself where it is one, else downloaded, unless it was before.

    Args:
        repo: a folder, or ``OWNER/NAME`` on the hub.
        revision: branch, tag or commit on the hub; its main branch if left out.

    Raises:
        CheckpointError: there is no such model, or it cannot be fetched.
        ConfigError: huggingface_hub is not installed, or a folder is given a revision.
    """
    if Path(repo).is_dir():
        if revision is not None:
            raise ConfigError(f"{repo} is a folder, and has no revision {revision!r}: leave that out")
        return Path(repo)
    _check_repo(repo)
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # its errors are those of the HTTP library beneath it, which differs by version
        where = repo if revision is None else f"{repo} at {revision}"
        raise CheckpointError(f"{where}: cannot be fetched from the hub ({_reason(error)})") from None


def push_to_hub(
    checkpoint: str | Path, repo: str, *, private: bool = True, report: str | Path | None = None
) -> str:
    """Send a checkpoint to the hub, with a model card.

    What is sent is weights, specification, PCA and recipe, none of which holds a path of this machine. Who sends it is
    known by ``hf auth login``.

    Args:
        checkpoint: a checkpoint folder, or a training run, whose best epoch is sent.
        repo: ``OWNER/NAME``; made if it is not there.
        private: whether a repository that is made is seen by its owner alone.
        report: ``report.json`` of ``mrnet evaluate``, whose figures the card shows.

    Returns:
        the address of the commit.

    Raises:
        CheckpointError: nothing there, damaged, or the hub refuses.
        DataError: the report cannot be read.
        ConfigError: huggingface_hub is not installed, or the name is none.
    """
    _check_repo(repo)
    found = load_checkpoint(Path(checkpoint))
    card = model_card(found.spec, repo, None if report is None else _read_report(Path(report)))
    hub = _hub()
    with TemporaryDirectory() as folder:
        (Path(folder) / CARD_FILE).write_text(card, encoding="utf-8")
        for file in FILES:
            if (found.folder / file).is_file():
                (Path(folder) / file).write_bytes((found.folder / file).read_bytes())
        try:
            api = hub.HfApi(library_name="mrnet", library_version=__version__)
            api.create_repo(repo, private=private, exist_ok=True)
            message = f"Checkpoint of {found.spec.name}, by mrnet {__version__}"
            commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
        except Exception as error:  # as above
            raise CheckpointError(
                f"{repo}: the hub does not take it ({_reason(error)}); log in with `hf auth login`"
            ) from None
    return str(commit.commit_url)


def model_card(spec: ModelSpec, repo: str, report: Mapping[str, Any] | None = None) -> str:
    """The card of a checkpoint, in Markdown; it names no file of this machine.

    Args:
        spec: of the checkpoint.
        repo: where it will be.
        report: of ``mrnet evaluate``, which the figures are from.
    """
    kinds: list[Modality] = ["video", *spec.query_kinds]
    head = ["---", "library_name: mrnet", "pipeline_tag: other", "tags:", "- video-moment-retrieval", "---"]
    body = [
        f"# {repo.partition('/')[2]}",
        f"A Maskable Retentive Network (MRNet), trained on {spec.name}, that finds the moment in a video that a "
        "sentence describes.",
        "```python\n"
        "from mrnet import Predictor\n\n"
        f'predictor = Predictor.from_pretrained("{repo}")\n'
        'for moment in predictor.find("holiday.mp4", "a dog jumps into the water"):\n'
        "    print(moment.start_s, moment.end_s, moment.score)\n"
        "```",
        "## Features",
        "\n".join(
            [
                "It answers out of features of these encoders, which come under licences of their own:",
                "",
                "| of | encoder | licence | width | rows a second |",
                "| --- | --- | --- | --- | --- |",
                *(_encoder(kind, spec.provenances.get(kind)) for kind in kinds),
            ]
        ),
        f"Queries: {' and '.join(spec.query_kinds)}.",
        "## Figures",
        "None were given." if report is None else _figures(report),
        "## Probabilities",
        "Its scores are no probabilities: they rank the moments of one answer."
        if spec.calibration is None
        else f"Its scores are probabilities on {spec.calibration.footage}; a query whose best moment is below "
        f"{spec.calibration.threshold:.2f} counts as not in the video.",
        f"Written by mrnet {__version__}.",
    ]
    return "\n".join(head) + "\n\n" + "\n\n".join(body) + "\n"


def _encoder(kind: Modality, provenance: Provenance | None) -> str:
    if provenance is None:
        return f"| {kind} | not known | not known | - | - |"
    family = "".join(provenance.backbone.partition(":")[:2])
    licence = next((e.licence for e in REGISTRY if (e.kind, e.name) == (kind, family)), "not known")
    if licence.startswith("the "):  # "the model's", "the file's"
        licence = "its own, see where it is published"
    rate = "-" if provenance.rows_per_s is None else f"{provenance.rows_per_s:g}"
    pca = "" if provenance.projection is None else f", {provenance.projection.dim} reduced by a PCA"
    return f"| {kind} | {_cell(provenance.backbone)} | {licence} | {provenance.dim}{pca} | {rate} |"


def _figures(report: Mapping[str, Any]) -> str:
    """Of a report: metrics beside baselines, with what they were measured on."""
    try:
        metrics, baselines = dict(report["metrics"]), dict(report["baselines"])
        bounds = report.get("intervals_95", {})
        lines = [
            f"On {report['queries']} {report['query_kind']} queries of {report['videos']} videos of the "
            f"{report['split']} split of {report['spec']['name']}, in percent, with 95 % intervals over videos.",
        ]
        if report["split"] == "val":
            lines.append("This split chose the checkpoint, so that the figures flatter it.")
        if not metrics:
            return lines[0].partition(", in percent")[0] + ": the answers of this split are withheld."
        lines += [f"Protocol `{protocol}`: {_PROTOCOLS[protocol]}." for protocol in metrics]
        names = list(next(iter(metrics.values())))
        table = ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
        for protocol, values in metrics.items():
            title = _TITLES["single"] if len(metrics) == 1 else f"{_TITLES['single']}, {protocol}"
            table.append(_row(title, names, values, bounds.get(protocol, {})))
        table += [_row(_TITLES[kind], names, values, {}) for kind, values in baselines.items()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the report is none of `mrnet evaluate` ({error}): give its report.json") from None
    if not baselines:
        lines.append("No baselines were measured.")
    return "\n\n".join([*lines, "\n".join(table)])


def _row(
    title: str, names: Sequence[str], values: Mapping[str, float], bounds: Mapping[str, Sequence[float]]
) -> str:
    cells = []
    for name in names:
        value = f"{values[name]:.1f}" if name in values else "-"
        between = bounds.get(name)
        cells.append(value if between is None else f"{value} ({between[0]:.1f} to {between[1]:.1f})")
    return f"| {title} | " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _read_report(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no readable report ({error}): give report.json of `mrnet evaluate`") from None
    if not isinstance(document, dict):
        raise DataError(f"{path} is no report: give report.json of `mrnet evaluate`")
    return document


def _check_repo(repo: str) -> None:
    if not _REPO.fullmatch(repo):
        raise ConfigError(f"{repo!r} is neither a folder nor OWNER/NAME of a model on the hub")


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError("the hub needs huggingface_hub: pip install 'mrnet[hub]'") from None
    return huggingface_hub
