"""Trained networks as ONNX: the same numbers, of every family of recipes, and no path of a machine."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor

import mrnet.weights.onnx as onnx_weights
from mrnet.config.recipes import load_recipe
from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.errors import CheckpointError, ConfigError, OutputError
from mrnet.model.ensemble import make_network
from mrnet.retrieval.trained import TrainedScorer
from mrnet.temporal import valid_cells
from mrnet.weights.native import load_checkpoint, save_checkpoint
from mrnet.weights.onnx import OnnxNetwork, export_checkpoint

SIZES = {
    "video_dim": 6, "query_dim": 5, "num_pre_clips": 16, "num_clips": 8, "pool_kernel": 2, "pooling_counts": [3, 2],
    "dim": 8, "heads": 2, "ffn_dim": 16, "clip_hidden": 12, "head_hidden": 8, "layers": 2,
}  # fmt: skip

FAMILIES: dict[str, dict[str, Any]] = {
    "mrnet-plus": {"pooling_counts": [7]},
    "mrnet-small": {"head_layers": 0},
    "clip-small": {},
    "demo": {},
    "activitynet": {"head_kernel": 3},
    "tacos": {"head_kernel": 3, "attention": "off", "mask": "none", "proposals": "conv", "boundary": "concat"},
    "tacos-speech": {"head_kernel": 3, "attention": "plain", "boundary": "add"},
}
"""Recipe -> what of it is changed, beside its size; between them they have every way in which clips meet queries."""


def small(recipe: str) -> RunConfig:
    changes = SIZES | FAMILIES[recipe]
    return load_recipe(recipe, [f"model.{key}={json.dumps(value)}" for key, value in changes.items()])


def save(folder: Path, recipe: str) -> Path:
    """A checkpoint of a recipe's architecture, small, with random weights and running means."""
    config = small(recipe)
    spec = ModelSpec(name=recipe, model=config.model, decode=config.decode, query_widths={"text": 5})
    torch.manual_seed(0)
    network = make_network(config.model)
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_()
    save_checkpoint(folder, spec, config, network.state_dict())
    return folder


def rows(count: int) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(count))


def queries(count: int) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(100 + count))


@pytest.mark.parametrize("recipe", FAMILIES)
def test_gives_what_pytorch_gives(recipe: str, tmp_path: Path) -> None:
    """By its fast route, which the export does without."""
    checkpoint = load_checkpoint(save(tmp_path / "native", recipe))
    assert export_checkpoint(checkpoint.folder, tmp_path / "onnx") < 1e-5
    decode = checkpoint.spec.decode
    network = checkpoint.build(route="tiled")
    expected = TrainedScorer(network, decode)
    found = TrainedScorer(OnnxNetwork.load(tmp_path / "onnx", checkpoint.spec.model), decode)
    for length, count in ((5, 1), (16, 3), (200, 40)):
        of_torch, of_onnx = (
            scorer.candidates(scorer.encode_video(rows(length), 40.0), queries(count))
            for scorer in (expected, found)
        )
        assert torch.equal(of_onnx.spans_s, of_torch.spans_s)
        assert of_onnx.scores.shape == (count, int(network.valid.sum()))
        torch.testing.assert_close(of_onnx.scores, of_torch.scores, atol=1e-4, rtol=0)
    assert of_torch.scores.std() > 1e-3


@pytest.mark.parametrize("recipe", ["mrnet-plus", "tacos"])
def test_shapes_are_those_of_the_documentation(recipe: str) -> None:
    """Of a recipe whose clips meet the query and have a head, and of one whose proposals no query touches."""
    config, path = small(recipe).model, Path(__file__).parents[2] / "docs" / "hub.md"
    table = " ".join(line for line in path.read_text(encoding="utf-8").splitlines() if ".onnx`, " in line)
    cells = int(valid_cells(config.num_clips, config.pooling_counts).sum())
    sizes = {"e": config.members, "t": config.num_clips, "d": config.dim, "v": cells, "2": 2}
    sizes |= {"p": config.num_pre_clips, "c": config.video_dim, "q": config.query_dim}
    said: dict[str, list[int]] = {}
    for names, letters in re.findall(r"((?:`\w+`(?:, )?)+) \([1en], ([a-z2, ]+|[a-z])\)", table):
        shape = [sizes[letter] for letter in letters.split(", ")]
        said |= dict.fromkeys(re.findall(r"\w+", names), shape)
    left_out = {"iou_proposals", "contrastive_proposals"} if config.video_depends_on_query else {"inside", "reach"}
    expected = {name: shape for name, shape in said.items() if name not in left_out}
    video, asked = onnx_weights._signature(config).values()
    assert video | asked == expected


def test_what_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = save(tmp_path / "native", "clip-small")
    run = OnnxNetwork.answer

    def spoilt(self: OnnxNetwork, *given: Any) -> tuple[Tensor, Tensor]:
        answers = run(self, *given)
        return answers._replace(contrastive=answers.contrastive + 2e-4)

    monkeypatch.setattr(OnnxNetwork, "answer", spoilt)
    with pytest.raises(
        CheckpointError, match=r"native: exported, it differs from PyTorch by 2\.0e-04, where 1e-04"
    ):
        export_checkpoint(native, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_weights_that_are_not_numbers_are_not_exported(tmp_path: Path) -> None:
    config = small("demo")
    spec = ModelSpec(name="demo", model=config.model, query_widths={"text": 5})
    weights = make_network(config.model).state_dict()
    weights["query_encoder.weight"][0, 0] = float("nan")
    save_checkpoint(tmp_path / "native", spec, config, weights)
    with pytest.raises(CheckpointError):
        export_checkpoint(tmp_path / "native", tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_checkpoint(save(folder / "native", "demo"), folder / "onnx")
    return folder / "onnx"


def test_holds_what_answering_needs_and_no_path(exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == [
        "mrnet.json", "queries.onnx", "recipe.yaml", "video.onnx",
    ]  # fmt: skip
    for name in ("mrnet.json", "recipe.yaml"):
        assert (exported / name).read_bytes() == (exported.parent / "native" / name).read_bytes()
    for name in ("video.onnx", "queries.onnx"):
        content = (exported / name).read_bytes()
        assert b".py" not in content
        assert str(exported.parent).encode() not in content
        onnx.checker.check_model(onnx.load_from_string(content), full_check=True)


def test_a_folder_in_use_is_refused(exported: Path) -> None:
    with pytest.raises(OutputError, match="already exists and is not empty"):
        export_checkpoint(exported.parent / "native", exported)


def copy(exported: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("gone", "video.onnx is not there: make it with `mrnet export CHECKPOINT --out NEW`"),
        ("cut", "video.onnx is no ONNX file or damaged ("),
        ("text", "video.onnx is no ONNX file or damaged ("),
        ("other", "video.onnx does not belong to mrnet.json beside it: make both anew with `mrnet export`"),
    ],
)
def test_damage_is_said(spoil: str, message: str, exported: Path, tmp_path: Path) -> None:
    folder = copy(exported, tmp_path / "copy")
    path = folder / "video.onnx"
    if spoil == "gone":
        path.unlink()
    elif spoil == "other":
        path.write_bytes((folder / "queries.onnx").read_bytes())
    else:
        path.write_bytes(path.read_bytes()[:1000] if spoil == "cut" else b"no graph")
    config = small("demo").model
    with pytest.raises(CheckpointError) as caught:
        OnnxNetwork.load(folder, config)
    assert str(caught.value).startswith(f"{folder}/{message}")
    assert len(str(caught.value).splitlines()) == 1


def test_files_beside_it_are_not_read(exported: Path, tmp_path: Path) -> None:
    """A tensor of a graph may be said to lie in another file: none is read from outside its folder."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 4096)
    folder = copy(exported, tmp_path / "copy")
    graph = onnx.load(folder / "video.onnx")
    tensor = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
    size = len(tensor.raw_data)
    secret.write_bytes(b"s" * size)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (folder / "video.onnx").write_bytes(graph.SerializeToString())
    config = small("demo").model
    with pytest.raises(CheckpointError, match="is no ONNX file or damaged"):
        OnnxNetwork.load(folder, config)


def test_one_protocol_alone(exported: Path) -> None:
    config = small("demo").model
    network = OnnxNetwork.load(exported, config)
    clips, proposals = network.encode_once(torch.zeros(1, 16, 6))
    with pytest.raises(ValueError, match="asks every query alone"):
        network.answer(clips, proposals, queries(2), "joint")


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_packages_that_are_missing_are_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as caught:
        export_checkpoint(save(tmp_path / "native", "demo"), tmp_path / "onnx")
    assert str(caught.value) == f"ONNX needs {package}: pip install 'mrnet[onnx]'"
