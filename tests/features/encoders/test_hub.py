"""Finding and loading models: folders, the hub's cache, and what is said of those that will not do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnet.errors import ConfigError
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone

transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("mrnet.features.encoders.hub")
networks = pytest.importorskip("mrnet.features.encoders.networks")

Folder = Callable[[str], Path]


def fails(name: str, kind: Any = "text") -> str:
    with pytest.raises(ConfigError) as caught:
        make_backbone(kind, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_a_folder_needs_no_network(
    hub_model: Folder, no_network: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = hub_model("distilbert")
    transformers.utils.logging.enable_progress_bar()
    capfd.readouterr()
    backbone = make_backbone("text", f"hf:{folder}", device="cpu")
    assert encode_sources(backbone, ["a red circle"])[0].shape == (1, 16)
    assert capfd.readouterr() == ("", "")
    assert no_network == []


def test_a_cached_model_needs_no_network(
    hub_model: Folder, cached: Callable[[Path, str, str], None], no_network: list[Any]
) -> None:
    folder, commit = hub_model("distilbert"), "0123456789abcdef0123456789abcdef01234567"
    cached(folder, "tiny/distilbert", commit)
    for name in ("tiny/distilbert", f"tiny/distilbert@{commit}"):
        backbone = make_backbone("text", f"hf:{name}", device="cpu")
        assert backbone.name == f"hf:{name}"
        assert backbone.provenance().details == {"model_type": "distilbert", "commit": commit}
        assert backbone.revision == make_backbone("text", f"hf:{folder}", device="cpu").revision
    assert no_network == []


def test_a_moved_folder_is_the_same_encoder(
    hub_model: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub_model("distilbert")
    moved = copy(folder, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    one, other = (make_backbone("text", f"hf:{f}", device="cpu") for f in (folder, "moved"))
    assert other.name == "hf:moved"
    assert one.revision.startswith("sha256:")
    assert len(one.revision) == len("sha256:") + 16
    assert one.provenance().same_encoder(other.provenance())
    weights = hub.ModelFolder("", moved).weights()
    assert [file.name for file in weights] == ["model.safetensors"]
    content = bytearray(weights[0].read_bytes())
    content[-1] ^= 1
    weights[0].write_bytes(content)
    assert make_backbone("text", f"hf:{moved}", device="cpu").revision != one.revision
    # The same weights used in another way are another encoder.
    assert networks.weights_revision(weights, "one way") != networks.weights_revision(weights, "another way")


def test_provenance_holds_no_path_of_this_machine(
    hub_model: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(hub_model("clip"), tmp_path / "clip")
    (tmp_path / "clip" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "clip" / "below")
    for name in (str(folder), f"{folder}/", "..", "../../clip"):
        for kind in ("video", "text"):
            backbone = make_backbone(kind, f"hf:{name}", device="cpu")  # type: ignore[arg-type]
            assert backbone.name == "hf:clip"
            assert str(tmp_path) not in backbone.provenance().model_dump_json()


def test_code_of_a_model_is_not_run(hub_model: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, ran = copy(hub_model("distilbert"), tmp_path / "evil"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Evil: pass\n")
    monkeypatch.setattr("builtins.input", lambda _: "y")  # nobody is asked whether to run it, either

    def change(name: str, **settings: Any) -> None:
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | settings))

    change("tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil"] * 2})
    make_backbone("text", f"hf:{folder}", device="cpu")  # with what the library has in its stead
    change("config.json", model_type="evil", auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    with pytest.raises(ConfigError, match=r"evil: cannot be used as a text encoder \("):
        make_backbone("text", f"hf:{folder}", device="cpu")
    assert not ran.exists()


def test_weights_that_torch_pickled_are_read_without_unpickling(hub_model: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = hub_model("distilbert")
    old = copy(folder, tmp_path / "old")
    tensors = load_file(old / "model.safetensors")
    (old / "model.safetensors").unlink()
    torch.save(tensors, old / "pytorch_model.bin")
    rows = [
        encode_sources(make_backbone("text", f"hf:{f}", device="cpu"), ["a red circle"])[0] for f in (folder, old)
    ]
    np.testing.assert_array_equal(*rows)
    torch.save(tensors | {"code": Path("anything but a tensor")}, old / "pytorch_model.bin")
    assert fails(f"hf:{old}").startswith(f"{old}: cannot be used as a text encoder (")


@pytest.mark.usefixtures("offline")
def test_names_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails("hf:./no/such/folder") == (
        "./no/such/folder: no such folder, and no id of a model on huggingface.co; correct it"
    )
    assert fails("hf:tiny/bert") == (
        "tiny/bert: no such folder, not in the local cache, and huggingface.co cannot be reached "
        "(LocalEntryNotFoundError); give its folder, or run `hf download tiny/bert` where there is network "
        "and bring the folder here"
    )

    def answer(error: type[Exception]) -> None:
        def download(*_: Any, **__: Any) -> None:
            raise error.__new__(error)

        monkeypatch.setattr(hub, "snapshot_download", download)

    answer(hub.RepositoryNotFoundError)
    assert fails("hf:tiny/bret") == (
        "tiny/bret: no such folder, and no such model or revision on huggingface.co; correct it, "
        "or run `hf auth login` if it is private"
    )
    answer(hub.GatedRepoError)
    assert fails("hf:tiny/dino@v1") == (
        "tiny/dino@v1: its authors ask for consent; give it on https://huggingface.co/tiny/dino, "
        "then run `hf auth login`"
    )


def test_folders_that_hold_no_model(hub_model: Folder, tmp_path: Path) -> None:
    says = "is no folder of a transformers model; it should hold config.json and model.safetensors"
    assert fails(f"hf:{tmp_path}") == f"{tmp_path}: {says}"
    folder = copy(hub_model("distilbert"), tmp_path / "partly")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert fails(f"hf:{folder}") == f"{folder}: {says}"
    (folder / "model.safetensors").write_bytes(b"cut off")
    assert fails(f"hf:{folder}").startswith(f"{folder}: cannot be used as a text encoder (")


def test_missing_weights_are_not_left_at_random(hub_model: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy(hub_model("distilbert"), tmp_path / "partly")
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.layer.1.ffn.lin1.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert fails(f"hf:{folder}") == (
        f"{folder}: its weights lack 1 of the tensors of a DistilBertModel, transformer.layer.1.ffn.lin1.weight "
        "for one; they are incomplete or of another model, get them again"
    )


@pytest.mark.parametrize(
    ("kind", "family", "says"),
    [
        ("video", "distilbert", "has no preprocessor_config.json for images; name a model of images or videos"),
        ("video", "wav2vec2", "has no preprocessor_config.json for images; name a model of images or videos"),
        ("text", "videomae", "cannot be used as a text encoder ("),
        ("text", "wav2vec2", "cannot be used as a text encoder ("),
        ("speech", "distilbert", "cannot be used as a speech encoder (Can't load feature extractor for '"),
        ("speech", "clip", "cannot be used as a speech encoder (Unrecognized feature extractor in "),
    ],
)
def test_models_of_another_kind(hub_model: Folder, kind: Any, family: str, says: str) -> None:
    folder = hub_model(family)
    assert fails(f"hf:{folder}", kind).startswith(f"{folder}: {says}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_rows_of_a_gpu_are_those_of_a_cpu(hub_model: Folder) -> None:
    name = f"hf:{hub_model('distilbert')}"
    rows = [encode_sources(make_backbone("text", name, device=d), ["a red circle"])[0] for d in ("cpu", "cuda")]
    np.testing.assert_allclose(*rows, atol=1e-5)


def test_inputs_of_one_shape_go_together() -> None:
    seen: list[tuple[int, ...]] = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(batch.shape))
        return batch.sum(dim=1, keepdim=True)

    inputs = [np.array(values, np.float32) for values in ([1, 2], [3, 4, 5], [6, 7])]
    rows = networks.encode_alike(inputs, network, torch.device("cpu"))
    assert [row.tolist() for row in rows] == [[[3]], [[12]], [[13]]]
    assert seen == [(2, 2), (1, 3)]
