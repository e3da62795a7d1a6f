"""Checkpoint folders that are broken or hostile: every one is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mrnet.config.run import RunConfig
from mrnet.config.spec import ModelSpec
from mrnet.errors import CheckpointError, ConfigError
from mrnet.weights.native import (
    build_model,
    check_weights,
    load_checkpoint,
    load_spec,
    read_json,
)
from tests.weights.conftest import Make, text_of


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "mrnet.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


class TestWeightsThatDoNotFit:
    def test_missing(self, config: RunConfig, weights: dict[str, Tensor]) -> None:
        del weights["query_encoder.bias"]
        with pytest.raises(CheckpointError) as caught:
            build_model(config.model, weights, source="here")
        assert text_of(caught) == (
            "here has no weight 'query_encoder.bias': the weights and the configuration do not belong together"
        )

    def test_several_missing(self, config: RunConfig, weights: dict[str, Tensor]) -> None:
        del weights["query_encoder.weight"], weights["query_encoder.bias"]
        with pytest.raises(CheckpointError, match=r"^here has no weight 'query_encoder\.weight' and 1 more: "):
            build_model(config.model, weights, source="here")

    def test_extra(self, config: RunConfig, weights: dict[str, Tensor]) -> None:
        with pytest.raises(CheckpointError) as caught:
            build_model(config.model, weights | {"stray": torch.zeros(1)}, source="here")
        assert text_of(caught) == (
            "here has an unexpected weight 'stray': the weights and the configuration do not belong together"
        )

    def test_misshapen(self, config: RunConfig, weights: dict[str, Tensor]) -> None:
        with pytest.raises(CheckpointError) as caught:
            build_model(config.model, weights | {"query_encoder.weight": torch.zeros(8, 7)}, source="here")
        assert text_of(caught) == (
            "here: weight 'query_encoder.weight' has shape [8, 7], the configuration needs [8, 5]"
        )

    def test_weights_of_another_configuration(self, tiny: Make, weights: dict[str, Tensor]) -> None:
        with pytest.raises(CheckpointError, match=r"^here has an unexpected weight 'transformer\.layers\.1\."):
            build_model(tiny(model={"layers": 1}).model, weights, source="here")

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

    @pytest.mark.parametrize("text", ["", "{", '{"format": 2, "spec": {"na', "weights"])
    def test_specification_that_is_not_json(self, saved: Path, text: str) -> None:
        path = saved / "mrnet.json"
        path.write_text(text)
        with pytest.raises(CheckpointError) as caught:
            load_spec(saved)
        assert text_of(caught).startswith(f"{path} is not readable JSON (")
        assert text_of(caught).endswith("): restore or remake the checkpoint")

    def test_specification_that_is_not_text(self, saved: Path) -> None:
        (saved / "mrnet.json").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(CheckpointError, match=r"mrnet\.json is not readable JSON \("):
            load_spec(saved)

    def test_specification_that_is_a_list(self, saved: Path) -> None:
        path = saved / "mrnet.json"
        path.write_text("[1]")
        with pytest.raises(CheckpointError) as caught:
            load_spec(saved)
        assert text_of(caught) == f"{path} holds no JSON object: restore or remake the checkpoint"

    def test_newer_format(self, saved: Path) -> None:
        rewrite(saved, lambda document: document.update(format=3))
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved)
        assert text_of(caught) == f"{saved / 'mrnet.json'} has format 3, this version reads 2: upgrade mrnet"

    @pytest.mark.parametrize(
        ("config", "command"),
        [
            (
                {
                    "name": "tacos",
                    "video_provenance": {
                        "details": {"converted_from": "best.pth", "released_config": "tacos.yml"}
                    },
                },
                "mrnet convert best.pth --config tacos.yml --out NEW",
            ),
            (
                {"name": "tacos", "video_provenance": {"details": {"converted_from": "best.pth"}}},
                "mrnet convert best.pth --config CONFIG.yml --out NEW",
            ),
            (
                {"name": "charades", "video_provenance": {"details": {"seed": "0"}}},
                "mrnet train --recipe charades --out NEW",
            ),
            ({"name": "charades", "video_provenance": None}, "mrnet train --recipe charades --out NEW"),
            (None, "mrnet train --recipe NAME --out NEW"),
        ],
    )
    def test_older_format(self, tmp_path: Path, config: dict[str, Any] | None, command: str) -> None:
        (tmp_path / "mrnet.json").write_text(json.dumps({"format": 1, "config": config}))
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path)
        assert text_of(caught) == (
            f"{tmp_path / 'mrnet.json'} has format 1, this version reads 2: make it anew with `{command}`"
        )

    def test_no_format(self, saved: Path) -> None:
        rewrite(saved, lambda document: document.pop("format"))
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved)
        assert text_of(caught) == (
            f"{saved / 'mrnet.json'} says no format, so it is none of ours or damaged: restore the checkpoint"
        )

    def test_no_specification(self, saved: Path) -> None:
        rewrite(saved, lambda document: document.pop("spec"))
        with pytest.raises(ConfigError) as caught:
            load_checkpoint(saved)
        assert text_of(caught) == (
            f"{saved / 'mrnet.json'}: the configuration is None, not a mapping of keys: restore the file"
        )

    def test_specification_of_another_version(self, saved: Path) -> None:
        rewrite(saved, lambda document: document["spec"]["decode"].update(soft_nms=True))
        with pytest.raises(ConfigError) as caught:
            load_checkpoint(saved)
        assert text_of(caught) == (
            f"{saved / 'mrnet.json'}: unknown key 'decode.soft_nms'; "
            "known here: nms_threshold, score_power, rank_by, sharpness"
        )

    def test_field_removed(self, saved: Path) -> None:
        rewrite(saved, lambda document: document["spec"]["model"].pop("video_dim"))
        with pytest.raises(ConfigError) as caught:
            load_checkpoint(saved)
        assert text_of(caught) == f"{saved / 'mrnet.json'}: model.video_dim: Field required"

    def test_read_json_of_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"a\.json is not readable JSON \(.*No such file"):
            read_json(tmp_path / "a.json")


class TestHostile:
    """A checkpoint of a few kilobytes."""

    def test_claims_a_huge_network(self, spec: ModelSpec, weights: dict[str, Tensor]) -> None:
        claimed = spec.model.model_copy(update={"ffn_dim": 65_536, "dim": 8192})  # 10 GB
        with pytest.raises(CheckpointError, match=r"x holds \d+ weights, but .* of about 3\.3e\+09: they"):
            build_model(claimed, weights, "x", memory_budget=10**9)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_weights_that_are_not_finite(self, spec: ModelSpec, weights: dict[str, Tensor], value: float) -> None:
        name = "clip_encoder.reduce.weight"
        weights[name][0] = value
        with pytest.raises(CheckpointError) as caught:
            build_model(spec.model, weights, "CHECKPOINT")
        assert str(caught.value) == (
            "CHECKPOINT: weight 'clip_encoder.reduce.weight' holds NaN or infinity: restore or remake the checkpoint"
        )


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (torch.float8_e4m3fn, "float8_e4m3fn"),
        (torch.complex64, "complex64"),
        (torch.bool, "bool"),
        (torch.int8, "int8"),
        (torch.int64, "int64"),
    ],
)
def test_weights_are_floating_point_numbers(
    held: torch.dtype, said: str, weights: dict[str, Tensor], config: RunConfig
) -> None:
    name = "query_encoder.weight"
    with pytest.raises(CheckpointError) as caught:
        build_model(config.model, weights | {name: torch.ones(8, 5).to(held)}, "CHECKPOINT")
    assert text_of(caught) == (
        f"CHECKPOINT: weight '{name}' is of type {said}, not float16, bfloat16, float32 or float64: restore or remake "
        "the checkpoint"
    )


@pytest.mark.parametrize("held", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_any_common_precision_are_taken(
    held: torch.dtype, weights: dict[str, Tensor], config: RunConfig
) -> None:
    name = "query_encoder.weight"
    built = build_model(config.model, weights | {name: torch.full((8, 5), 0.5, dtype=held)}, "CHECKPOINT")
    assert built.state_dict()[name].tolist() == [[0.5] * 5] * 8
