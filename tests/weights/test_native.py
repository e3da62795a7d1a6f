"""Checkpoint folders: a round trip, and every way in which one can be broken."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from mrnet.config import RunConfig
from mrnet.errors import CheckpointError, ConfigError
from mrnet.model.mrnet import MRNet
from mrnet.provenance import Provenance
from mrnet.weights import native as checkpoint
from mrnet.weights.native import (
    build_model,
    check_weights,
    load_checkpoint,
    load_config,
    load_tensors,
    make_directory,
    new_directory,
    read_json,
    resolve_checkpoint,
    save_checkpoint,
    write_text,
)

Make = Callable[..., RunConfig]


@pytest.fixture
def config(tiny: Make) -> RunConfig:
    provenance = Provenance(backbone="random", dim=6, rows_per_s=1.0, details={"seed": "0"})
    return tiny().model_copy(update={"video_provenance": provenance})


@pytest.fixture
def weights(config: RunConfig) -> dict[str, Tensor]:
    torch.manual_seed(5)
    return MRNet(config.model).state_dict()


@pytest.fixture
def saved(tmp_path: Path, config: RunConfig, weights: dict[str, Tensor]) -> Path:
    folder = tmp_path / "saved"
    save_checkpoint(folder, config, weights)
    return folder


def text_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 1
    return text


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


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "mrnet.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


class TestRoundTrip:
    def test_weights_and_configuration_are_identical(
        self, saved: Path, config: RunConfig, weights: dict[str, Tensor]
    ) -> None:
        loaded_config, loaded = load_checkpoint(saved)
        assert loaded_config == config
        assert loaded.keys() == weights.keys()
        for name, tensor in weights.items():
            assert loaded[name].dtype == tensor.dtype, name
            assert torch.equal(loaded[name], tensor), name

    def test_the_model_computes_the_same(
        self,
        saved: Path,
        config: RunConfig,
        weights: dict[str, Tensor],
        batch_inputs: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        original = MRNet(config.model)
        original.load_state_dict(weights)
        rebuilt = build_model(*load_checkpoint(saved), source=str(saved))
        assert not rebuilt.training
        with torch.no_grad():
            expected = original.eval()(*batch_inputs)
            actual = rebuilt(*batch_inputs)
        assert torch.equal(actual.iou_logits(), expected.iou_logits())
        assert torch.equal(actual.contrastive_scores(), expected.contrastive_scores())

    def test_two_files_and_nothing_pickled(self, saved: Path) -> None:
        assert sorted(path.name for path in saved.iterdir()) == ["model.safetensors", "mrnet.json"]
        document = json.loads((saved / "mrnet.json").read_text())
        assert document["format"] == 1
        assert document["config"]["video_provenance"]["backbone"] == "random"

    def test_transposed_weights_are_stored_as_they_read(self, tmp_path: Path, config: RunConfig) -> None:
        turned = torch.arange(6.0).reshape(2, 3).T  # safetensors refuses what is not contiguous
        save_checkpoint(tmp_path / "a", config, {"w": turned})
        assert load_tensors(tmp_path / "a" / "model.safetensors")["w"].tolist() == [[0, 3], [1, 4], [2, 5]]


class TestWeightsThatDoNotFit:
    def test_missing(self, config: RunConfig, weights: dict[str, Tensor]) -> None:
        del weights["query_encoder.bias"]
        with pytest.raises(CheckpointError) as caught:
            build_model(config, weights, source="here")
        assert text_of(caught) == (
            "here has no weight 'query_encoder.bias': the weights and the configuration do not belong together"
        )

    def test_several_missing(self, config: RunConfig, weights: dict[str, Tensor]) -> None:
        del weights["query_encoder.weight"], weights["query_encoder.bias"]
        with pytest.raises(CheckpointError, match=r"^here has no weight 'query_encoder\.weight' and 1 more: "):
            build_model(config, weights, source="here")

    def test_extra(self, config: RunConfig, weights: dict[str, Tensor]) -> None:
        with pytest.raises(CheckpointError) as caught:
            build_model(config, weights | {"stray": torch.zeros(1)}, source="here")
        assert text_of(caught) == (
            "here has an unexpected weight 'stray': the weights and the configuration do not belong together"
        )

    def test_misshapen(self, config: RunConfig, weights: dict[str, Tensor]) -> None:
        with pytest.raises(CheckpointError) as caught:
            build_model(config, weights | {"query_encoder.weight": torch.zeros(8, 7)}, source="here")
        assert text_of(caught) == (
            "here: weight 'query_encoder.weight' has shape [8, 7], the configuration needs [8, 5]"
        )

    def test_weights_of_another_configuration(self, tiny: Make, weights: dict[str, Tensor]) -> None:
        with pytest.raises(CheckpointError, match=r"^here has an unexpected weight 'transformer\.layers\.1\."):
            build_model(tiny(model={"layers": 1}), weights, source="here")

    def test_scalars_count_too(self) -> None:
        check_weights({"steps": ()}, {"steps": torch.tensor(3)}, "here")
        with pytest.raises(CheckpointError) as caught:
            check_weights({"steps": ()}, {"steps": torch.tensor([3])}, "here")
        assert text_of(caught) == "here: weight 'steps' has shape [1], the configuration needs []"


class TestDamagedFiles:
    @pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
    def test_truncated_weights(self, saved: Path, keep: float) -> None:
        path = saved / "model.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * keep) if 0 < keep < 1 else int(keep)])
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved)
        text = text_of(caught)
        assert text.startswith(f"{path} is missing or damaged (")
        assert text.endswith("): restore or remake the checkpoint")

    def test_weights_that_are_text(self, saved: Path) -> None:
        (saved / "model.safetensors").write_text("<html>Not found</html>")
        with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged \("):
            load_checkpoint(saved)

    def test_no_weights(self, saved: Path) -> None:
        (saved / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged \("):
            load_checkpoint(saved)

    def test_a_folder_in_place_of_weights(self, saved: Path) -> None:
        (saved / "model.safetensors").unlink()
        (saved / "model.safetensors").mkdir()
        with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged \("):
            load_checkpoint(saved)

    @pytest.mark.parametrize("text", ["", "{", '{"format": 1, "config": {"na', "weights"])
    def test_configuration_that_is_not_json(self, saved: Path, text: str) -> None:
        path = saved / "mrnet.json"
        path.write_text(text)
        with pytest.raises(CheckpointError) as caught:
            load_config(saved)
        assert text_of(caught).startswith(f"{path} is not readable JSON (")
        assert text_of(caught).endswith("): restore or remake the checkpoint")

    def test_configuration_that_is_not_text(self, saved: Path) -> None:
        (saved / "mrnet.json").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(CheckpointError, match=r"mrnet\.json is not readable JSON \("):
            load_config(saved)

    def test_configuration_that_is_a_list(self, saved: Path) -> None:
        path = saved / "mrnet.json"
        path.write_text("[1]")
        with pytest.raises(CheckpointError) as caught:
            load_config(saved)
        assert text_of(caught) == f"{path} holds no JSON object: restore or remake the checkpoint"

    def test_newer_format(self, saved: Path) -> None:
        rewrite(saved, lambda document: document.update(format=2))
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved)
        assert text_of(caught) == (f"{saved / 'mrnet.json'} has format 2, this version reads 1: upgrade mrnet")

    def test_no_format(self, saved: Path) -> None:
        rewrite(saved, lambda document: document.pop("format"))
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved)
        assert text_of(caught).startswith(f"{saved / 'mrnet.json'} ")
        assert "upgrade" not in text_of(caught)

    def test_configuration_of_another_version(self, saved: Path) -> None:
        rewrite(saved, lambda document: document["config"]["decode"].update(soft_nms=True))
        with pytest.raises(ConfigError) as caught:
            load_checkpoint(saved)
        assert text_of(caught) == (
            f"{saved / 'mrnet.json'}: unknown key 'decode.soft_nms'; known here: nms_threshold, score_power"
        )

    def test_field_removed(self, saved: Path) -> None:
        rewrite(saved, lambda document: document["config"]["model"].pop("video_dim"))
        with pytest.raises(ConfigError) as caught:
            load_checkpoint(saved)
        assert text_of(caught) == f"{saved / 'mrnet.json'}: model.video_dim: Field required"

    def test_read_json_of_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"a\.json is not readable JSON \(.*No such file"):
            read_json(tmp_path / "a.json")


class TestSaving:
    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_never_over_something(
        self, tmp_path: Path, config: RunConfig, weights: dict[str, Tensor], kind: str
    ) -> None:
        target = tmp_path / "taken"
        kept = target / "notes.txt" if kind == "folder" else target
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("mine")
        with pytest.raises(CheckpointError) as caught:
            save_checkpoint(target, config, weights)
        assert text_of(caught) == (f"{target} already exists and is not empty: choose another place or remove it")
        assert kept.read_text() == "mine"
        assert sorted(tmp_path.rglob("*")) == sorted({target, kept})

    def test_into_an_empty_folder_and_new_parents(
        self, tmp_path: Path, config: RunConfig, weights: dict[str, Tensor]
    ) -> None:
        (tmp_path / "empty").mkdir()
        save_checkpoint(tmp_path / "empty", config, weights)
        save_checkpoint(tmp_path / "a" / "b", config, weights)
        assert load_config(tmp_path / "empty") == load_config(tmp_path / "a" / "b") == config

    @pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
    def test_who_may_read_it_is_left_to_the_umask(
        self, tmp_path: Path, config: RunConfig, weights: dict[str, Tensor], umask: int, folder: int, file: int
    ) -> None:
        before = os.umask(umask)
        try:
            save_checkpoint(tmp_path / "new", config, weights)
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
        assert modes == {"new": folder, "model.safetensors": file, "mrnet.json": file}

    def test_below_a_file(self, tmp_path: Path, config: RunConfig, weights: dict[str, Tensor]) -> None:
        (tmp_path / "file").write_text("")
        target = tmp_path / "file" / "checkpoint"
        with pytest.raises(CheckpointError) as caught:
            save_checkpoint(target, config, weights)
        assert text_of(caught).startswith(f"cannot write {target}: ")

    def test_nothing_half_written_when_the_disk_is_full(
        self, tmp_path: Path, config: RunConfig, weights: dict[str, Tensor]
    ) -> None:
        with no_room(), pytest.raises((OSError, SafetensorError, CheckpointError)):
            save_checkpoint(tmp_path / "new", config, weights)
        assert list(tmp_path.iterdir()) == []

    def test_full_disk_is_an_error_to_mend(
        self, tmp_path: Path, config: RunConfig, weights: dict[str, Tensor]
    ) -> None:
        with no_room(), pytest.raises(CheckpointError, match="File too large"):
            save_checkpoint(tmp_path / "new", config, weights)

    def test_nothing_half_written_when_interrupted(
        self, tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(directory: Path, *rest: object) -> None:  # noqa: ARG001
            (directory / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint, "write_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path / "new", config, {})
        assert list(tmp_path.iterdir()) == []

    def test_nothing_half_written_when_the_place_is_taken_meanwhile(self, tmp_path: Path) -> None:
        def write() -> None:
            with new_directory(tmp_path / "new") as temporary:
                (temporary / "file").write_text("x")
                (tmp_path / "new").mkdir()
                (tmp_path / "new" / "other").write_text("y")

        with pytest.raises((OSError, CheckpointError)):
            write()
        assert sorted(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new" / "other"]

    def test_a_new_directory_appears_at_the_end(self, tmp_path: Path) -> None:
        with new_directory(tmp_path / "new") as temporary:
            (temporary / "file").write_text("x")
            assert not (tmp_path / "new").exists()
        assert [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*"))] == [
            Path("new"),
            Path("new/file"),
        ]

    def test_make_directory(self, tmp_path: Path) -> None:
        assert make_directory(tmp_path / "a" / "b").is_dir()
        assert make_directory(tmp_path / "a" / "b") == tmp_path / "a" / "b"
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError) as caught:
            make_directory(tmp_path / "file")
        assert text_of(caught) == f"cannot write {tmp_path / 'file'}: File exists"


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

    def test_a_run_is_its_best_epoch(self, tmp_path: Path, saved: Path, config: RunConfig) -> None:
        run = self.run(tmp_path / "run", saved, best="epoch-0002", last="epoch-0003")
        assert resolve_checkpoint(run) == run / "checkpoints" / "epoch-0002"
        assert load_checkpoint(run)[0] == config

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
        assert "epoch-0002" in text_of(caught)
        assert "without a finished epoch" not in text_of(caught)

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


class TestWriteAtomically:
    def test_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        write_text(path, "old")
        write_text(path, "new é")
        assert path.read_bytes() == "new é".encode()
        assert list(tmp_path.iterdir()) == [path]

    def test_keeps_the_old_file_when_writing_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.json"
        write_text(path, "old")
        real = Path.write_text

        def fail(self: Path, text: str, **options: Any) -> int:
            real(self, text[:2], **options)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", fail)
        with pytest.raises((OSError, CheckpointError), match="No space left"):
            write_text(path, "new text")
        monkeypatch.undo()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_keeps_the_old_file_when_the_text_cannot_be_encoded(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        write_text(path, "old")
        with pytest.raises(UnicodeEncodeError):
            write_text(path, "half \ud800")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
