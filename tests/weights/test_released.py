"""Released checkpoints through `convert_checkpoint`: the same scores, and a refusal for everything else.

The cases hold configurations and weights under their released names, with what the released code computed.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mrnet.config.data import DataConfig
from mrnet.errors import CheckpointError, OutputError
from mrnet.provenance import Provenance
from mrnet.retrieval.trained import fuse_scores
from mrnet.weights import native as checkpoint
from mrnet.weights.released import attention_was_trained, import_released
from tests.weights.conftest import INDEX, Released, tensors_of

UNUSED = ("text_encoder.fc_out1.", "text_out.fc_out2.", "text_out.layernorm.")
BELONG = "the weights and the configuration do not belong together"


class TestConversion:
    @pytest.mark.parametrize("case", sorted(INDEX))
    def test_the_released_scores(self, tmp_path: Path, case: str) -> None:
        released = Released(tmp_path, case)
        config, checkpoint = released.converted()
        model = checkpoint.build()

        expected = tensors_of(case)
        query_features = [expected[f"input.query_features.{i}"] for i in range(3)]
        queries = torch.nn.utils.rnn.pad_sequence(query_features, batch_first=True)
        counts = torch.tensor([len(rows) for rows in query_features])
        mask = torch.arange(queries.shape[1]) < counts[:, None]
        with torch.no_grad():
            embeddings = model(expected["input.video_features"], queries, mask, "joint")
            iou, contrastive = embeddings.iou_logits().sigmoid(), embeddings.contrastive_scores()
        fused = fuse_scores(iou, contrastive, config.decode.score_power)
        assert torch.equal(model.valid, expected["eval.valid_mask"].bool())
        for name, actual in (("iou", iou), ("contrastive", contrastive), ("fused", fused)):
            wanted = torch.cat([expected[f"eval.{name}_scores.{i}"] for i in range(3)])
            torch.testing.assert_close(actual, wanted[:, model.valid], atol=1e-5, rtol=0)
            assert (wanted[:, ~model.valid] == 0).all()

    def test_the_settings(self, released: Released) -> None:
        config, checkpoint = released.converted()
        assert config.name == checkpoint.spec.name == "activitynet"
        assert (checkpoint.spec.model, checkpoint.spec.decode) == (config.model, config.decode)
        assert (config.train.protocol, config.train.precision) == ("joint", "fp32")
        assert (config.model.projections, config.model.attention, config.model.mask) == ("modality", "all", "both")
        assert not config.model.tied_initialisation
        assert (config.model.layers, config.model.heads, config.model.gamma) == (2, 4, 0.98)
        assert (config.model.dim, config.model.clip_hidden, config.model.head_hidden) == (32, 40, 24)
        assert config.model.pooling_counts == [3, 2, 2]
        assert (config.loss.margin, config.loss.contrastive_weight, config.loss.top_k) == (0.3, 0.1, 1)
        assert (config.loss.sparsity_weight, config.loss.sparsity_doubling_ratio) == (10.0, 0.15)
        assert config.loss.sparsity_per_video
        assert (config.decode.nms_threshold, config.decode.score_power) == (0.5, 0.5)
        assert config.evaluation.tious == [0.3, 0.5, 0.7]

    def test_where_it_came_from_is_kept(self, released: Released) -> None:
        spec = released.converted()[1].spec
        assert spec.query_widths == {"text": 24}
        assert spec.provenances == {
            "video": Provenance(
                backbone="c3d",
                dim=20,
                details={"converted_from": "best.pth", "released_config": "config.yml"},
            ),
            "text": Provenance(backbone="released", dim=24),
        }

    def test_no_path_of_its_maker(self, released: Released) -> None:
        released.set("DATASETS.TRAIN", [f"{released.folder}/train.json"])
        released.set("OUTPUT_DIR", str(released.folder))
        released.convert()
        files = sorted(released.out.iterdir())
        assert [file.name for file in files] == ["model.safetensors", "mrnet.json", "recipe.yaml"]
        assert [file.name for file in files if str(released.folder).encode() in file.read_bytes()] == []

    def test_the_same_without_files(self, released: Released) -> None:
        config, saved = released.converted()
        imported = import_released(released.config, released.weights)
        assert imported.config == config
        assert imported.config.data == DataConfig()
        assert imported.weights.keys() == saved.weights.keys()
        assert all(torch.equal(tensor, saved.weights[name]) for name, tensor in imported.weights.items())
        video = imported.spec.provenances["video"]
        assert video.details == {}
        details = saved.spec.provenances["video"].details
        given = imported.spec.provenances | {"video": video.model_copy(update={"details": details})}
        assert imported.spec.model_copy(update={"provenances": given}) == saved.spec

    def test_the_features_it_names(self, released: Released) -> None:
        released.set("MODEL.RET.VIDEO_MODE", "i3d")
        assert import_released(released.config, released.weights).spec.provenances["video"].backbone == "i3d"

    def test_the_released_charades_file_attends_to_nothing(self, tmp_path: Path) -> None:
        released = Released(tmp_path, "charades_released")
        config, _ = released.converted()
        assert (config.model.attention, config.model.softmax) == ("video", False)
        assert config.model.zero_linear_retention

    @pytest.mark.parametrize("dim", [32, 256])
    @pytest.mark.parametrize(
        ("trained", "matrix"),
        [
            (False, None),
            (False, "text.v"),
            (True, "video.q"),
            (True, "video.k"),
            (True, "video.v"),
            (True, "text.q"),
        ],
    )
    def test_attention_that_was_never_trained_keeps_its_spread(
        self, dim: int, trained: bool, matrix: str | None
    ) -> None:
        generator = torch.Generator().manual_seed(dim)
        weights = {
            f"transformer.layers.{layer}.retention.projections.{kind}.{letter}.weight": torch.randn(
                dim, dim, generator=generator
            )
            / dim
            for layer in range(4)
            for kind in ("video", "text")
            for letter in "qkv"
        }
        weights["transformer.layers.0.retention.output.weight"] = torch.ones(dim, dim)
        if matrix is not None:  # as much as its own size, in one layer
            changed = weights[f"transformer.layers.2.retention.projections.{matrix}.weight"]
            changed += torch.randn(dim, dim, generator=generator) / dim
        assert attention_was_trained(weights) == trained

    @pytest.mark.parametrize("trained", [False, True])
    def test_whether_attention_was_trained_is_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, trained: bool
    ) -> None:
        released = Released(tmp_path, "charades_released")
        generator = torch.Generator().manual_seed(0)
        for name, weight in released.weights.items():
            if "W_vid_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * (0.1 if trained else 1 / 32))
        released.write()
        with caplog.at_level("INFO", logger="mrnet"):
            _, checkpoint = released.converted()
        if trained:
            said = "attention: trained, and zero in this model (quirk zero_linear_retention)"
        else:
            said = (
                "attention: never trained, its matrices keep the spread they began with, and zero in this model "
                "(quirk zero_linear_retention)"
            )
        noted = checkpoint.spec.provenances["video"].details["attention"]
        assert noted == ("trained" if trained else "never trained")
        assert caplog.messages == [said]

    def test_shared_projections_are_read_off_the_weights(self, tmp_path: Path) -> None:
        released = Released(tmp_path, "tacos")
        config, checkpoint = released.converted()
        assert (config.model.projections, config.model.tied_initialisation) == ("shared", True)
        assert config.evaluation.tious == [0.1, 0.3, 0.5]
        released_query = released.weights["trans_ret.rets.0.self_attn.linears.0.weight"]
        name = "transformer.layers.0.retention.projections.shared.q.weight"
        assert torch.equal(checkpoint.weights[name], released_query)

    def test_modality_matrices_are_transposed(self, released: Released) -> None:
        _, checkpoint = released.converted()
        turned = released.weights["trans_ret.rets.1.W_txt_K"].T
        assert torch.equal(checkpoint.weights["transformer.layers.1.retention.projections.text.k.weight"], turned)

    def test_weights_of_several_gpus(self, released: Released, tmp_path: Path) -> None:
        released.convert()
        (tmp_path / "several").mkdir()
        other = Released(tmp_path / "several")
        other.weights = {f"module.{name}": tensor for name, tensor in other.weights.items()}
        other.write()
        other.convert()
        assert (other.out / "model.safetensors").read_bytes() == (released.out / "model.safetensors").read_bytes()

    def test_the_format_of_older_pytorch(self, released: Released) -> None:
        torch.save({"model": released.weights}, released.pth, _use_new_zipfile_serialization=False)
        bias = released.converted()[1].weights["query_encoder.bias"]
        assert torch.equal(bias, released.weights["text_encoder.fc_out2.bias"])

    def test_dotted_keys_at_the_top(self, released: Released) -> None:
        released.config = INDEX["activitynet"]["config"]
        released.write()
        assert released.converted()[0].name == "activitynet"

    def test_keys_about_where_it_ran_are_passed_over(self, released: Released) -> None:
        released.config["MODEL"]["DEVICE"] = "cuda"
        released.config["DATASETS"]["TRAIN"] = ["activitynet_train"]
        released.config |= {"OUTPUT_DIR": ".", "DATALOADER": {"NUM_WORKERS": 4}}
        released.set("SOLVER.CHECKPOINT_PERIOD", 1)
        assert released.converted()[0].model.layers == 2


class TestWeightsThatDoNotFit:
    def test_missing(self, released: Released) -> None:
        del released.weights["trans_ret.rets.0.W_vid_Q"]
        released.write()
        assert released.refusal(CheckpointError) == (
            f"{released.pth} has no weight 'trans_ret.rets.0.W_vid_Q': {BELONG}"
        )

    @pytest.mark.parametrize("prefix", UNUSED)
    def test_missing_though_unused(self, released: Released, prefix: str) -> None:
        del released.weights[f"{prefix}bias"]
        released.write()
        assert released.refusal(CheckpointError) == f"{released.pth} has no weight '{prefix}bias': {BELONG}"

    def test_extra(self, released: Released) -> None:
        released.weights["stray.weight"] = torch.zeros(1)
        released.write()
        assert released.refusal(CheckpointError) == (
            f"{released.pth} has an unexpected weight 'stray.weight': {BELONG}"
        )

    def test_misshapen(self, released: Released) -> None:
        released.weights["featpool.conv.weight"] = torch.zeros(40, 21, 1)
        released.write()
        assert released.refusal(CheckpointError) == (
            f"{released.pth}: weight 'featpool.conv.weight' has shape [40, 21, 1], the configuration needs "
            "[40, 20, 1]"
        )

    def test_of_no_floating_point_numbers(self, released: Released) -> None:
        name = next(name for name in released.weights if name.endswith("weight"))
        released.weights[name] = released.weights[name].bool()
        released.write()
        assert released.refusal(CheckpointError) == (
            f"{released.pth}: weight '{name}' is of type bool, not float16, bfloat16, float32 or float64: fetch the "
            "file again"
        )

    def test_fewer_layers_than_the_configuration(self, released: Released) -> None:
        released.set("SOLVER.TRANS_LAYER", 3)
        assert released.refusal(CheckpointError) == (
            f"{released.pth} has no weight 'trans_ret.rets.2.W_vid_Q' and 17 more: {BELONG}"
        )

    def test_other_clips_than_the_configuration(self, released: Released) -> None:
        released.config["INPUT"]["NUM_PRE_CLIPS"] = 64
        released.set("MODEL.RET.NUM_CLIPS", 32)
        assert released.refusal(CheckpointError) == (
            f"{released.pth}: weight 'trans_ret.rets.0.learn_vid_ret.weight' has shape [256, 1], the "
            "configuration needs [1024, 1]"
        )

    def test_no_weights_at_all(self, released: Released) -> None:
        released.weights = {}
        released.write()
        assert released.refusal(CheckpointError).startswith(
            f"{released.pth} has no weight 'featpool.conv.weight' and "
        )

    @pytest.mark.parametrize(
        "document",
        [{"state_dict": {}}, torch.zeros(3), [1], {"model": 3}, {"model": {"a": 3}}, {"model": {"a": {}}}],
        ids=["other key", "tensor", "list", "number", "numbers", "nested"],
    )
    def test_no_state_dict(self, released: Released, document: Any) -> None:
        torch.save(document, released.pth)
        assert released.refusal(CheckpointError) == (
            f"{released.pth} holds no state dict under 'model': is it a released checkpoint?"
        )

    def test_names_that_are_numbers(self, released: Released) -> None:
        torch.save({"model": {1: torch.zeros(1)}}, released.pth)
        assert "holds no state dict under 'model'" in released.refusal(CheckpointError)


class Marker:
    """Unpickling it creates a file: what a hostile checkpoint could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


class TestFilesThatAreNotCheckpoints:
    @pytest.mark.parametrize("where", ["beside", "weights"])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_is_refused_and_not_run(self, released: Released, where: str, zipped: bool) -> None:
        touched = released.folder / "touched"
        hostile = Marker(touched)
        pickle.loads(pickle.dumps(hostile))  # it would work
        assert touched.exists()
        touched.unlink()
        document = {"model": released.weights, "epoch": hostile} if where == "beside" else {"model": hostile}
        torch.save(document, released.pth, _use_new_zipfile_serialization=zipped)
        assert released.refusal(CheckpointError) == (
            f"{released.pth} needs unpickling of more than weights, which could run code: refused; save it again "
            "as a plain dict of tensors"
        )
        assert not touched.exists()

    @pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
    def test_truncated(self, released: Released, keep: float) -> None:
        whole = released.pth.read_bytes()
        released.pth.write_bytes(whole[: int(len(whole) * keep) if 0 < keep < 1 else int(keep)])
        text = released.refusal(CheckpointError)
        assert text.startswith(f"{released.pth} is damaged or not a PyTorch file (")
        assert text.endswith("): fetch it again")

    @pytest.mark.parametrize(
        "keep",
        [
            1000,
            100,
            0.5,
            -1,
        ],
    )
    def test_truncated_file_of_older_pytorch(self, released: Released, keep: float) -> None:
        held = io.BytesIO()
        torch.save({"model": released.weights}, held, _use_new_zipfile_serialization=False)
        whole = held.getvalue()
        released.pth.write_bytes(whole[: int(len(whole) * keep) if 0 < keep < 1 else int(keep)])
        assert released.refusal(CheckpointError).endswith("): fetch it again")

    @pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04" + bytes(100), bytes(1000)])
    def test_something_else(self, released: Released, content: bytes) -> None:
        released.pth.write_bytes(content)
        text = released.refusal(CheckpointError)
        assert text.startswith(f"{released.pth} is damaged or not a PyTorch file (")

    @pytest.mark.parametrize(
        "content", [b"<html>Not found</html>", b"<!DOCTYPE html>\n<html></html>", b"version https://git-lfs\n"]
    )
    def test_text_is_not_called_a_pickle(self, released: Released, content: bytes) -> None:
        released.pth.write_bytes(content)
        text = released.refusal(CheckpointError)
        assert text.startswith(f"{released.pth} is damaged or not a PyTorch file (")

    def test_no_advice_to_unpickle(self, released: Released) -> None:
        released.pth.write_bytes(bytes(1000))
        assert "weights_only" not in released.refusal(CheckpointError)

    def test_a_pickle_is_refused_without_warnings(
        self, released: Released, recwarn: pytest.WarningsRecorder
    ) -> None:
        released.pth.write_bytes(pickle.dumps({"model": 1}, protocol=4))
        assert released.refusal(CheckpointError).startswith(f"{released.pth} ")
        assert [str(warning.message) for warning in recwarn] == []

    def test_missing(self, released: Released) -> None:
        released.pth.unlink()
        assert released.refusal(CheckpointError) == (
            f"{released.pth}: No such file or directory: give a released .pth file"
        )

    def test_a_folder(self, released: Released) -> None:
        released.pth = released.folder
        assert released.refusal(CheckpointError) == (
            f"{released.folder}: Is a directory: give a released .pth file"
        )


class TestOut:
    @pytest.mark.parametrize("name", ["converted", "converted/notes.txt"])
    def test_taken(self, released: Released, name: str) -> None:
        taken = released.folder / name
        taken.parent.mkdir(exist_ok=True)
        taken.write_text("mine")
        assert released.refusal(OutputError) == (
            f"{released.out} already exists and is not empty: choose another place or remove it"
        )
        assert taken.read_text() == "mine"

    def test_twice(self, released: Released) -> None:
        released.convert()
        assert released.refusal(OutputError) == (
            f"{released.out} already exists and is not empty: choose another place or remove it"
        )

    def test_an_empty_folder_will_do(self, released: Released) -> None:
        released.out.mkdir()
        assert released.converted()[0].name == "activitynet"

    def test_below_a_file(self, released: Released) -> None:
        released.out = released.yml / "converted"
        assert released.refusal(OutputError) == (
            f"{released.out}: cannot be written (File exists); choose another place"
        )

    def test_nothing_half_written(self, released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(directory: Path, *rest: object) -> None:  # noqa: ARG001
            (directory / "model.safetensors").write_bytes(b"half")
            raise CheckpointError("disk full")

        monkeypatch.setattr(checkpoint, "write_checkpoint", fail)
        assert released.refusal(CheckpointError) == "disk full"
        assert sorted(path.name for path in released.folder.iterdir()) == ["best.pth", "config.yml"]
