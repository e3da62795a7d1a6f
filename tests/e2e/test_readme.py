"""The commands of the documents are run, in a folder of tiny files; and CI runs the one that the README promises."""

import argparse
import csv
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import benchmarks.__main__
from mrnet.cli import build_parser, main
from mrnet.config.recipes import recipe_names
from mrnet.data.annotations import read_annotations
from mrnet.features.registry import REGISTRY
from mrnet.features.store.reader import open_store
from mrnet.media.video import probe

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = {
    "--engine ray": "starts a cluster; tests/features/extraction/test_ray.py runs the job on one",
    "mrnet serve": "does not end; tests/cli/test_serve.py starts and ends one",
    "mrnet demo": "takes minutes; tests/demo/test_story.py tells the story on few videos",
}
"""What a command that is parsed and not run has in it, and why it is not run."""

Fill = Callable[[str], Path]


def blocks(language: str) -> list[Any]:
    """Code blocks of the documents, their continued lines joined."""
    return [
        pytest.param(block.replace("\\\n", " "), id=f"{path.name}-{number}")
        for path in DOCUMENTS
        for number, block in enumerate(
            re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        )
    ]


def commands(block: str, program: str = "mrnet") -> list[list[str]]:
    """The words of each command of a program, that program itself aside."""
    lines = [part.strip() for line in block.splitlines() for part in line.split("&&")]
    found = [re.fullmatch(rf"(?:\$ )?(?:\S*/)?{program}( .*|)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def is_run(words: list[str]) -> bool:
    return not any(part in shlex.join(["mrnet", *words]) for part in NOT_RUN)


def blocks_of(program: str = "mrnet") -> list[Any]:
    return [param for param in blocks("bash") if commands(param.values[0], program)]


@pytest.mark.parametrize("block", blocks_of())
def test_commands_run(block: str, fill: Fill, no_network: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(block)
    for words in commands(block):
        arguments = build_parser().parse_args(words)
        if not is_run(words):
            continue
        prepare(arguments)
        capsys.readouterr()
        status = main(words)
        out, err = capsys.readouterr()
        assert status == 0, f"mrnet {shlex.join(words)}: {err}"
        CHECKS[" ".join(words[: 2 if words[0] in ("data", "features") else 1])](arguments, out, folder)
    assert no_network == []


def prepare(arguments: argparse.Namespace) -> None:
    """Right predictions for the annotations that a command names beside them."""
    if getattr(arguments, "predictions", None) is None:
        return
    with arguments.predictions.open("w", encoding="utf-8") as file:
        for record in read_annotations(arguments.annotations):
            for query in record.queries:
                windows = [[*query.moments[0], 1.0]]
                row = {"qid": query.qid, "query": query.text, "vid": record.video_id}
                file.write(json.dumps({**row, "pred_relevant_windows": windows}) + "\n")


def check_find(arguments: argparse.Namespace, out: str, _: Path) -> None:
    if arguments.json:
        moments = [(moment["start_s"], moment["end_s"]) for moment in json.loads(out)["moments"]]
    elif arguments.csv:
        moments = [(float(row["start_s"]), float(row["end_s"])) for row in csv.DictReader(out.splitlines())]
        moments = moments[: len(moments) // len(arguments.queries.read_text(encoding="utf-8").splitlines())]
    else:
        found = re.findall(r"^\d+\.  0:00:(\d\d\.\d) - 0:00:(\d\d\.\d) ", out, flags=re.MULTILINE)
        moments = [(float(start), float(end)) for start, end in found]
    assert 1 <= len(moments) <= arguments.k
    duration_s = probe(arguments.video).duration_s
    assert all(0 <= start < end <= duration_s + 0.06 for start, end in moments)


def check_index(_: argparse.Namespace, out: str, __: Path) -> None:
    assert out.startswith("2 added (")


def check_search(arguments: argparse.Namespace, out: str, folder: Path) -> None:
    quoted = arguments.query.startswith('"')  # in no subtitles
    if arguments.json:
        document = json.loads(out)
        assert (document["library"]["num_searched"], document["hits"] == []) == (2, quoted)
    else:
        found = re.findall(r"^\d+\. +0:00:0\d\.\d - 0:00:0\d\.\d +\d+% +(.*)$", out, flags=re.MULTILINE)
        assert 1 <= len(found) <= arguments.k
        assert {Path(path).parent for path in found} == {folder / "videos"}


def check_cache(_: argparse.Namespace, out: str, folder: Path) -> None:
    entry, total = out.splitlines()  # asked three times, encoded once
    assert entry.endswith("efficientnet-lite0  holiday.mp4")
    assert re.fullmatch(rf"1 kept, [\d.]+ MB in {re.escape(str(folder / '.cache'))}", total)


def check_train(arguments: argparse.Namespace, out: str, folder: Path) -> None:
    (best,) = re.findall(r"^best checkpoint: (.*)$", out, flags=re.MULTILINE)
    assert (folder / best).parent == folder / arguments.out / "checkpoints"
    assert (folder / best / "model.safetensors").is_file()


def check_evaluate(arguments: argparse.Namespace, out: str, folder: Path) -> None:
    if arguments.predictions is None:
        protocols = ["single", "joint"] if arguments.protocol == "both" else [arguments.protocol]
        for protocol in protocols:
            assert re.search(rf"^model, {protocol}  [ 0-9.]+$", out, flags=re.MULTILINE), out
        assert re.search(r"^best constant moment  ", out, flags=re.MULTILINE)
        (report,) = re.findall(r"^report: (.*)$", out, flags=re.MULTILINE)
        assert json.loads((folder / report).read_text(encoding="utf-8"))["queries"] > 0
    elif arguments.json:
        assert json.loads(out)["brief"]["MR-full-R1@0.5"] == 100
    else:
        assert re.search(r"^predictions  .* 100\.00 ", out, flags=re.MULTILINE)
        assert re.search(r"^rank only \(for joint\)  ", out, flags=re.MULTILINE)


def check_convert(arguments: argparse.Namespace, out: str, folder: Path) -> None:
    assert str(arguments.out) in out
    assert (folder / arguments.out / "model.safetensors").is_file()


def check_export(arguments: argparse.Namespace, out: str, folder: Path) -> None:
    assert out == f"{arguments.out}\n"
    assert (folder / arguments.out / "queries.onnx").is_file()


def check_config(arguments: argparse.Namespace, out: str, _: Path) -> None:
    assert "{" not in out
    assert (arguments.key or "model.num_clips").split(".")[-1] in out


def check_init(arguments: argparse.Namespace, out: str, folder: Path) -> None:
    written = re.findall(r"^DIR/(\w+)\.jsonl: videos [1-3], queries \d", out, flags=re.MULTILINE)
    assert written == ["train", "val", "test"]
    assert all((folder / arguments.folder / f"{split}.jsonl").is_file() for split in written)
    assert (folder / arguments.folder / "dataset.yaml").is_file()


def check_data_check(_: argparse.Namespace, out: str, __: Path) -> None:
    assert "no problems found" in out


def check_list(_: argparse.Namespace, out: str, __: Path) -> None:
    for entry in REGISTRY:
        assert re.search(rf"^{entry.kind} +{re.escape(entry.name)}", out, flags=re.MULTILINE), entry.name


def check_extraction(arguments: argparse.Namespace, out: str, folder: Path) -> None:
    store = open_store(folder / arguments.out)
    assert out.startswith(f"{len(store.ids())} encoded")
    assert store.provenance is not None
    assert all(store.read(name).shape[1] == store.provenance.dim for name in store.ids())


def check_pca(arguments: argparse.Namespace, out: str, folder: Path) -> None:
    assert out.startswith("510 -> 500 dimensions")
    store = open_store(folder / arguments.out)
    assert len(store.ids()) == 4
    assert all(store.read(name).shape == (260, 500) for name in store.ids())


CHECKS: dict[str, Callable[[argparse.Namespace, str, Path], None]] = {
    "find": check_find,
    "train": check_train,
    "evaluate": check_evaluate,
    "convert": check_convert,
    "export": check_export,
    "config": check_config,
    "cache": check_cache,
    "index": check_index,
    "search": check_search,
    "data init": check_init,
    "data check": check_data_check,
    "backbones": check_list,
    "features video": check_extraction,
    "features text": check_extraction,
    "features speech": check_extraction,
    "features pca": check_pca,
}
"""What the output of each command must hold, and what it must have made."""


@pytest.mark.parametrize(
    "block",
    [param for language in ("bash", "shell", "text") for param in blocks(language) if commands(param.values[0])],
)
def test_commands_parse(block: str) -> None:
    """Those too that are shown and not run."""
    for words in commands(block):
        assert build_parser().parse_args(words).run is not None


@pytest.mark.parametrize("block", [param for language in ("bash", "shell", "text") for param in blocks(language)])
def test_tools_that_are_named_exist(block: str) -> None:
    for tool in re.findall(r"^python (tools/\S+)", block, flags=re.MULTILINE):
        assert (ROOT / tool).is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_runs(
    document: Path,
    fill: Fill,
    no_network: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The blocks of a page in order, as a reader would; those with the name of a new file are that file."""
    text = document.read_text(encoding="utf-8")
    found = re.findall(r"^```python(?: title=\"([^\"]+)\")?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert text.count("```python") == len(found)
    names: dict[str, Any] = {}
    if not found:
        return
    fill("".join(code for _, code in found))
    capsys.readouterr()
    for title, code in found:
        if not title:
            exec(compile(code, document.name, "exec"), names)
            assert re.search(r"\d", capsys.readouterr().out)
        elif not (ROOT / title).exists():
            module = ModuleType(".".join(Path(title).relative_to("src").with_suffix("").parts))
            monkeypatch.setitem(sys.modules, module.__name__, module)
            exec(compile(code, title, "exec"), module.__dict__)
    assert no_network == []


@pytest.mark.parametrize("block", blocks_of("python -m benchmarks"))
def test_benchmarks_are_understood(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    understood: list[str] = []

    def run(arguments: argparse.Namespace) -> int:
        understood.append(arguments.what)
        return 0

    monkeypatch.setattr(benchmarks.__main__, "run", run)
    given = commands(block, "python -m benchmarks")
    assert [benchmarks.__main__.main(words) for words in given] == [0] * len(given)
    assert understood == [words[0] for words in given]


def test_nothing_is_left_unrun_that_is_not_there() -> None:
    everything = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    assert [part for part in NOT_RUN if part not in everything] == []


def test_commands_named_in_the_text_exist() -> None:
    """``mrnet features pca --train`` in a sentence: such a command, with such an option."""
    wrong = [
        f"{path.name}: {command}"
        for path in DOCUMENTS
        for command in re.findall(r"`(mrnet [a-z][^`]*)`", " ".join(path.read_text(encoding="utf-8").split()))
        if not _exists(command.split()[1:])
    ]
    assert wrong == []


def _exists(words: list[str]) -> bool:
    parser: argparse.ArgumentParser = build_parser()
    for word in words:
        commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if word.startswith("--"):
            if word.partition("=")[0] not in parser._option_string_actions:
                return False
        elif commands:
            if word not in commands[0].choices:
                return False
            parser = commands[0].choices[word]
    return True


def test_every_benchmark_recipe_is_in_the_table() -> None:
    for name in recipe_names():
        assert f"`{name}`" in README or f"--recipe {name}" in README, name


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = re.findall(r"^python3 -m venv \.venv-test .*$", README, flags=re.MULTILINE)
    assert command.endswith("-m pytest -n 2 --dist loadfile")
    assert "constraints.txt" in command
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "'^python3 -m venv .venv-test' README.md" in script


def test_torch_is_pinned_in_the_constraints() -> None:
    assert re.search(r"^torch==2\.13\.0$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)


def test_pictures_are_there() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).stat().st_size > 10_000
