"""Checkpoint folders: a round trip, how they are found, and what is taken from them."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.errors import CheckpointError, ConfigError, OutputError
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.weights import native as checkpoint
from mrnet.weights.native import (
    Checkpoint,
    find_run_config,
    load_checkpoint,
    load_initial,
    load_spec,
    load_tensors,
    resolve_checkpoint,
    save_checkpoint,
)
from tests.weights.conftest import Make, text_of

FILES = ["model.safetensors", "mrnet.json", "recipe.yaml"]


@contextmanager
def no_room() -> Iterator[None]:
    """As on a full disk, writing a file fails after its first 1000 bytes."""
    resource = pytest.importorskip("resource", reason="file size limits are of Unix")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestRoundTrip:
    def test_weights_and_specification_are_identical(
        self, saved: Path, spec: ModelSpec, weights: dict[str, Tensor]
    ) -> None:
        loaded = load_checkpoint(saved)
        assert (loaded.folder, loaded.spec, loaded.pca) == (saved, spec, None)
        assert loaded.weights.keys() == weights.keys()
        for name, tensor in weights.items():
            assert loaded.weights[name].dtype == tensor.dtype, name
            assert torch.equal(loaded.weights[name], tensor), name

    def test_the_model_computes_the_same(
        self,
        saved: Path,
        config: RunConfig,
        weights: dict[str, Tensor],
        batch_inputs: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        original = MRNet(config.model)
        original.load_state_dict(weights)
        rebuilt = load_checkpoint(saved).build()
        assert not rebuilt.training
        with torch.no_grad():
            expected = original.eval()(*batch_inputs, "single")
            actual = rebuilt(*batch_inputs, "single")
        assert torch.equal(actual.iou_logits(), expected.iou_logits())
        assert torch.equal(actual.contrastive_scores(), expected.contrastive_scores())

    def test_route_and_budget_reach_the_head(self, saved: Path) -> None:
        stack = load_checkpoint(saved).build(route="tiled", memory_budget=123).proposal_head.stack
        assert (stack.route, stack.memory_budget) == ("tiled", 123)

    def test_three_files_and_nothing_pickled(self, saved: Path, spec: ModelSpec, config: RunConfig) -> None:
        assert sorted(path.name for path in saved.iterdir()) == FILES
        document = json.loads((saved / "mrnet.json").read_text())
        assert document == {"format": 2, "spec": spec.model_dump(mode="json")}
        recipe = yaml.safe_load((saved / "recipe.yaml").read_text())
        assert recipe["train"]["seed"] == 7
        assert recipe["data"] == {
            "val_fraction": 0.1,
            "query_kinds": ["text"],
            "video_backbone": "color-hog-motion",
            "text_backbone": "hashed-words",
            "speech_backbone": "speech-embedding",
        }
        assert find_run_config(saved) == config

    def test_transposed_weights_are_stored_as_they_read(
        self, tmp_path: Path, spec: ModelSpec, config: RunConfig
    ) -> None:
        turned = torch.arange(6.0).reshape(2, 3).T  # safetensors refuses what is not contiguous
        save_checkpoint(tmp_path / "a", spec, config, {"w": turned})
        assert load_tensors(tmp_path / "a" / "model.safetensors")["w"].tolist() == [[0, 3], [1, 4], [2, 5]]


class TestSaving:
    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_never_over_something(
        self, tmp_path: Path, spec: ModelSpec, config: RunConfig, weights: dict[str, Tensor], kind: str
    ) -> None:
        target = tmp_path / "taken"
        kept = target / "notes.txt" if kind == "folder" else target
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("mine")
        with pytest.raises(OutputError) as caught:
            save_checkpoint(target, spec, config, weights)
        assert text_of(caught) == (f"{target} already exists and is not empty: choose another place or remove it")
        assert kept.read_text() == "mine"
        assert sorted(tmp_path.rglob("*")) == sorted({target, kept})

    def test_into_an_empty_folder_and_new_parents(
        self, tmp_path: Path, spec: ModelSpec, config: RunConfig, weights: dict[str, Tensor]
    ) -> None:
        (tmp_path / "empty").mkdir()
        save_checkpoint(tmp_path / "empty", spec, config, weights)
        save_checkpoint(tmp_path / "a" / "b", spec, config, weights)
        assert load_spec(tmp_path / "empty") == load_spec(tmp_path / "a" / "b") == spec

    @pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
    def test_who_may_read_it_is_left_to_the_umask(
        self,
        tmp_path: Path,
        spec: ModelSpec,
        config: RunConfig,
        weights: dict[str, Tensor],
        umask: int,
        folder: int,
        file: int,
    ) -> None:
        before = os.umask(umask)
        try:
            save_checkpoint(tmp_path / "new", spec, config, weights)
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
        assert modes == {"new": folder, **dict.fromkeys(FILES, file)}

    def test_below_a_file(
        self, tmp_path: Path, spec: ModelSpec, config: RunConfig, weights: dict[str, Tensor]
    ) -> None:
        (tmp_path / "file").write_text("")
        target = tmp_path / "file" / "checkpoint"
        with pytest.raises(OutputError) as caught:
            save_checkpoint(target, spec, config, weights)
        assert text_of(caught) == f"{target}: cannot be written (File exists); choose another place"

    def test_nothing_half_written_when_the_disk_is_full(
        self, tmp_path: Path, spec: ModelSpec, config: RunConfig, weights: dict[str, Tensor]
    ) -> None:
        with no_room(), pytest.raises(OutputError) as caught:
            save_checkpoint(tmp_path / "new", spec, config, weights)
        assert text_of(caught) == (f"{tmp_path / 'new'}: cannot be written (File too large); choose another place")
        assert list(tmp_path.iterdir()) == []

    def test_nothing_half_written_when_interrupted(
        self, tmp_path: Path, spec: ModelSpec, config: RunConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(directory: Path, *rest: object) -> None:  # noqa: ARG001
            (directory / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint, "write_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path / "new", spec, config, {})
        assert list(tmp_path.iterdir()) == []


class TestResolve:
    MAKERS = "`mrnet train`, `mrnet demo` and `mrnet convert` make one"

    def run(self, folder: Path, saved: Path | None, **document: Any) -> Path:
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(document))
        if saved is not None:
            (folder / "checkpoints").mkdir()
            saved.rename(folder / "checkpoints" / "epoch-0002")
        return folder

    def test_a_checkpoint_is_itself(self, saved: Path) -> None:
        assert resolve_checkpoint(saved) == saved

    def test_a_run_is_its_best_epoch(self, tmp_path: Path, saved: Path, spec: ModelSpec) -> None:
        run = self.run(tmp_path / "run", saved, best="epoch-0002", last="epoch-0003")
        assert resolve_checkpoint(run) == run / "checkpoints" / "epoch-0002"
        assert load_checkpoint(run).spec == spec

    def test_a_run_without_a_finished_epoch(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "run", None, best=None, last=None)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(run)
        assert text_of(caught) == (
            f"{run} is a training run without a finished epoch yet: train it on, or use another"
        )

    def test_a_run_whose_best_epoch_is_gone(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "run", None, best="epoch-0002", last="epoch-0002")
        with pytest.raises(CheckpointError) as caught:
            resolve_checkpoint(run)
        folder = run / "checkpoints" / "epoch-0002"
        assert text_of(caught) == (
            f"{folder}, the best epoch by {run / 'run.json'}, is gone or damaged: restore it, or train again"
        )

    def test_a_run_with_broken_json(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "run", None)
        (run / "run.json").write_text('{"best": ')
        with pytest.raises(CheckpointError) as caught:
            resolve_checkpoint(run)
        assert text_of(caught).startswith(f"{run / 'run.json'} is not readable JSON (")

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path / "nowhere")
        assert text_of(caught) == (
            f"{tmp_path / 'nowhere'} does not exist: expected a folder with mrnet.json and model.safetensors, "
            f"or a training run; {self.MAKERS}"
        )

    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_something_else(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "other"
        path.mkdir() if kind == "folder" else path.write_text("x")
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert text_of(caught) == (
            f"{path} is not a checkpoint: expected a folder with mrnet.json and model.safetensors, or a "
            f"training run; {self.MAKERS}"
        )


class TestPassedOn:
    """A checkpoint folder tells nobody where its maker keeps things."""

    def paths_in(self, folder: Path, secret: str) -> list[str]:
        return [path.name for path in sorted(folder.rglob("*")) if secret.encode() in path.read_bytes()]

    def test_what_is_saved_holds_no_path(
        self, tmp_path: Path, tiny: Make, weights: dict[str, Tensor], spec: ModelSpec
    ) -> None:
        secret = str(tmp_path)
        encoder = f"hf:{secret}/models/clip"
        config = tiny(
            data={
                **{key: f"{secret}/{key}.json" for key in ("train", "val", "test")},
                **{f"{key}_features": f"{secret}/{key}.h5" for key in ("video", "text", "speech")},
                **{f"{key}_backbone": encoder for key in ("video", "text", "speech")},
            }
        )
        assert config.model_dump_json().count(secret) == 9
        told = spec.model_copy(update={"provenances": {"video": Provenance(backbone=encoder, dim=6)}})
        save_checkpoint(tmp_path / "out", told, config, weights)
        assert self.paths_in(tmp_path / "out", secret) == []
        assert load_spec(tmp_path / "out").provenances["video"].backbone == "hf:clip"
        assert find_run_config(tmp_path / "out").data.video_backbone == "hf:clip"

    def test_what_is_trained_holds_no_path(self, tmp_path: Path, tiny: Make) -> None:
        """Features with a PCA, of an encoder in a folder, on absolute paths: nothing of it in any byte."""
        from mrnet.features.store.pca import fit_store, project_store
        from mrnet.features.store.reader import open_store
        from mrnet.features.store.writer import write_store
        from mrnet.training.loop import train

        rng = np.random.default_rng(0)
        source = Provenance(backbone=f"hf:{tmp_path}/models/clip", dim=9, revision="sha256:0", rows_per_s=1.0)
        rows = {f"v{i}": rng.standard_normal((12, 9)).astype(np.float32) for i in range(4)}
        write_store(tmp_path / "whole.h5", rows.items(), source)
        fit_store(open_store(tmp_path / "whole.h5"), list(rows), "all", 6).save(tmp_path / "v.pca.safetensors")
        left_out = project_store(
            open_store(tmp_path / "whole.h5"), tmp_path / "v.pca.safetensors", tmp_path / "v.h5"
        )
        assert left_out == []
        queries = {f"{name}#0": rng.standard_normal((1, 5)) for name in rows}
        write_store(tmp_path / "q.h5", queries.items(), Provenance(backbone=f"glove:{tmp_path}/glove.txt", dim=5))
        for split, names in (("train", ["v0", "v1", "v2"]), ("val", ["v3"])):
            tree = {n: {"duration": 12.0, "timestamps": [[1.0, 7.0]], "sentences": ["a"]} for n in names}
            (tmp_path / f"{split}.json").write_text(json.dumps(tree))
        data = {
            "train": str(tmp_path / "train.json"),
            "val": str(tmp_path / "val.json"),
            "video_features": str(tmp_path / "v.h5"),
            "text_features": str(tmp_path / "q.h5"),
            "video_backbone": f"hf:{tmp_path}/models/clip",
        }
        config = tiny(data=data, train={"epochs": 1, "milestones": []})
        run = train(config, tmp_path / "run", cpu=True)
        epoch = tmp_path / "run" / "checkpoints" / "epoch-0001"
        assert run.best == epoch.name
        assert sorted(path.name for path in epoch.iterdir()) == [
            "model.safetensors",
            "mrnet.json",
            "optimizer.safetensors",
            "recipe.yaml",
            "video.pca.safetensors",
        ]
        assert self.paths_in(epoch, str(tmp_path)) == []
        assert {kind: made.backbone for kind, made in load_spec(epoch).provenances.items()} == {
            "video": "hf:clip",
            "text": "glove:glove.txt",
        }
        assert load_checkpoint(epoch).pca == epoch / "video.pca.safetensors"
        assert str(tmp_path) in (tmp_path / "run" / "run.json").read_text()  # where the data lie is the run's


class TestFindRunConfig:
    @pytest.fixture
    def trained(self, tiny: Make) -> RunConfig:
        return tiny(data={"train": "/data/train.json", "video_backbone": "hf:/models/clip"})

    @pytest.fixture
    def run(self, tmp_path: Path, trained: RunConfig, spec: ModelSpec, weights: dict[str, Tensor]) -> Path:
        run = tmp_path / "run"
        for epoch in ("epoch-0001", "epoch-0002"):
            save_checkpoint(run / "checkpoints" / epoch, spec, trained, weights)
        (run / "run.json").write_text(
            json.dumps({"best": "epoch-0001", "config": trained.model_dump(mode="json")})
        )
        return run

    def test_of_a_run_and_of_each_epoch_of_it(
        self, run: Path, trained: RunConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for folder in (run, run / "checkpoints" / "epoch-0001", run / "checkpoints" / "epoch-0002"):
            assert find_run_config(folder) == trained
        monkeypatch.chdir(run / "checkpoints")
        assert find_run_config(Path("epoch-0002")) == trained
        monkeypatch.chdir(run / "checkpoints" / "epoch-0002")
        assert find_run_config(Path()) == trained

    def test_of_an_epoch_by_itself(self, run: Path, tmp_path: Path, trained: RunConfig) -> None:
        copied = tmp_path / "elsewhere" / "mine" / "epoch-0001"
        shutil.copytree(run / "checkpoints" / "epoch-0001", copied)
        assert find_run_config(copied) == trained.without_paths() != trained
        shutil.copyfile(run / "run.json", tmp_path / "elsewhere" / "run.json")  # of something else
        assert find_run_config(copied) == trained.without_paths()

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "No such file or directory"),
            (b"a: [1", "(expected ',' or ']', but got '<stream end>', line 1)"),
            (b"\xff\xfe", "can't decode byte"),
        ],
    )
    def test_recipe_that_cannot_be_read(self, saved: Path, content: bytes | None, problem: str) -> None:
        path = saved / "recipe.yaml"
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            find_run_config(saved)
        text = text_of(caught)
        assert text.startswith(f"{path} is not readable YAML (")
        assert problem in text
        assert text.endswith("): restore or remake the checkpoint")

    def test_recipe_of_another_version(self, saved: Path) -> None:
        path = saved / "recipe.yaml"
        path.write_text(path.read_text().replace("nms_threshold", "nms"))
        with pytest.raises(ConfigError) as caught:
            find_run_config(saved)
        assert text_of(caught) == (
            f"{path}: unknown key 'decode.nms'; known here: nms_threshold, score_power, rank_by, sharpness"
        )

    def test_of_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="is not a checkpoint: expected a folder with"):
            find_run_config(tmp_path)


class TestLoadInitial:
    @pytest.fixture
    def network(self, config: RunConfig) -> MRNet:
        torch.manual_seed(99)
        return MRNet(config.model)

    def wider(self, tiny: Make) -> MRNet:
        torch.manual_seed(99)
        return MRNet(tiny(model={"query_dim": 7}).model)

    def test_all_weights(self, saved: Path, network: MRNet, weights: dict[str, Tensor]) -> None:
        load_initial(network, load_checkpoint(saved), [])
        for name, weight in network.state_dict().items():
            assert torch.equal(weight, weights[name]), name

    @pytest.mark.parametrize("fresh", ["query_encoder", "transformer.layers.1", "query_iou.bias"])
    def test_a_fresh_part_starts_anew(
        self, saved: Path, network: MRNet, weights: dict[str, Tensor], fresh: str
    ) -> None:
        before = {name: weight.clone() for name, weight in network.state_dict().items()}
        load_initial(network, load_checkpoint(saved), [fresh])
        anew = {name for name in before if name.startswith(fresh)}
        assert anew
        for name, weight in network.state_dict().items():
            assert torch.equal(weight, before[name] if name in anew else weights[name]), name
        assert any(not torch.equal(before[name], weights[name]) for name in anew)

    def test_a_misshapen_weight(self, saved: Path, tiny: Make, weights: dict[str, Tensor]) -> None:
        network = self.wider(tiny)
        with pytest.raises(CheckpointError) as caught:
            load_initial(network, load_checkpoint(saved), [])
        assert text_of(caught) == (
            f"{saved}: weight 'query_encoder.weight' has shape [8, 5], the configuration needs [8, 7]; a part that "
            "must differ is named with --fresh PART"
        )
        load_initial(network, load_checkpoint(saved), ["query_encoder"])
        assert network.query_encoder.weight.shape == (8, 7)
        assert torch.equal(network.query_iou.weight, weights["query_iou.weight"])

    def test_a_part_that_the_checkpoint_lacks(
        self, saved: Path, tiny: Make, spec: ModelSpec, weights: dict[str, Tensor]
    ) -> None:
        network = MRNet(tiny(model={"layers": 3}).model)
        checkpoint = Checkpoint(saved, spec, weights)
        with pytest.raises(CheckpointError) as caught:
            load_initial(network, checkpoint, ["query_encoder"])
        text = text_of(caught)
        assert text.startswith(f"{saved} has no weight 'transformer.layers.2.")
        assert text.endswith(" do not belong together; a part that must differ is named with --fresh PART")
        load_initial(network, checkpoint, ["transformer.layers.2"])

    def test_a_part_that_the_network_lacks(self, saved: Path, tiny: Make) -> None:
        network = MRNet(tiny(model={"layers": 1}).model)
        with pytest.raises(CheckpointError, match=r"has an unexpected weight 'transformer\.layers\.1\."):
            load_initial(network, load_checkpoint(saved), [])

    @pytest.mark.parametrize("part", ["query", "query_encoder.", "querry_encoder", "transformer.layers.2", ""])
    def test_no_such_part(self, saved: Path, network: MRNet, part: str) -> None:
        with pytest.raises(CheckpointError) as caught:
            load_initial(network, load_checkpoint(saved), ["query_iou", part])
        assert text_of(caught) == (
            f"--fresh {part}: the network has no such part; it has clip_encoder, query_encoder, transformer, "
            "query_iou, proposal_map, proposal_head, and parts of these"
        )
