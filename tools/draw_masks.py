"""Draw the sparse masks that a training run learnt, beside those it began with.

Usage:

    python tools/draw_masks.py RUN OUT.png

A row a layer of the (first) network: the mask at the start, after training, what changed, and the mask between clips as
it is used, times the decay where there is one. White is 0 and black 1; of what changed, blue is less and red more, from
-1 to 1. The same figures are printed: means, and how like the learnt mask is to the first one.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mrnet.errors import CheckpointError
from mrnet.model.ensemble import Network, make_network, members_of
from mrnet.model.retention import MaskableRetention
from mrnet.training.state import load_run_config
from mrnet.weights.native import load_checkpoint

Mask = NDArray[np.float32]

_SIDE, _GAP, _LEFT, _TOP = 160, 24, 70, 30
_COLUMNS = ("at the start", "learnt", "what changed", "as it is used")


class LayerMasks(NamedTuple):
    """Masks of one layer, ``(t, t)`` each: of the start, learnt, and the learnt one as it is used, with the decay."""

    first: Mask
    learnt: Mask
    used: Mask

    @property
    def likeness(self) -> float:
        """Correlation of the first and the learnt mask, off the diagonal."""
        first, learnt = _off_diagonal(self.first), _off_diagonal(self.learnt)
        return float(np.corrcoef(first, learnt)[0, 1])

    def means(self) -> tuple[float, float]:
        """Of the first and of the learnt mask, off the diagonal."""
        return float(_off_diagonal(self.first).mean()), float(_off_diagonal(self.learnt).mean())


def _off_diagonal(mask: Mask) -> Mask:
    """``(t · (t - 1),)``"""
    return mask[~np.eye(len(mask), dtype=bool)]


def masks_of_run(run: Path) -> list[LayerMasks]:
    """The masks of the first network of a run, layer by layer.

    Raises:
        TrainingError, CheckpointError: there is no run, or it has no sparse mask.
    """
    config = load_run_config(run)
    torch.manual_seed(config.train.seed)  # as training does before it makes the network
    first = _retentions(make_network(config.model))
    learnt = _retentions(load_checkpoint(run).build())
    if not learnt:
        raise CheckpointError(f"{run}: its model has no sparse mask: there is nothing to draw")
    return [
        LayerMasks(_sparse(before), _sparse(after), _numbers(after.video_mask()))
        for before, after in zip(first, learnt, strict=True)
    ]


def _retentions(network: Network) -> list[MaskableRetention]:
    modules = members_of(network)[0].modules()
    return [one for one in modules if isinstance(one, MaskableRetention) and one.sparse_logits is not None]


def _sparse(retention: MaskableRetention) -> Mask:
    return _numbers(retention.sparse_mask())


def _numbers(mask: torch.Tensor | None) -> Mask:
    assert mask is not None
    numbers: Mask = mask.detach().numpy().astype(np.float32)
    return numbers


def draw(layers: list[LayerMasks]) -> Image.Image:
    """One picture, a row a layer."""
    width = _LEFT + len(_COLUMNS) * (_SIDE + _GAP)
    picture = Image.new("RGB", (width, _TOP + len(layers) * (_SIDE + _GAP)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for column, title in enumerate(_COLUMNS):
        pen.text((_LEFT + column * (_SIDE + _GAP), 8), title, fill="black", font=font)
    for row, masks in enumerate(layers):
        top = _TOP + row * (_SIDE + _GAP)
        pen.text((8, top + _SIDE // 2 - 8), f"layer {row + 1}", fill="black", font=font)
        change = masks.learnt - masks.first
        panels = [_grey(masks.first), _grey(masks.learnt), _signed(change), _grey(masks.used)]
        for column, panel in enumerate(panels):
            square = Image.fromarray(panel).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
            left = _LEFT + column * (_SIDE + _GAP)
            picture.paste(square, (left, top))
            pen.rectangle((left - 1, top - 1, left + _SIDE, top + _SIDE), outline="#9ca3af")
    return picture


def _grey(mask: Mask) -> NDArray[np.uint8]:
    shade = 255 - 255 * mask.clip(0, 1)
    return np.repeat(shade[..., None], 3, axis=-1).astype(np.uint8)


def _signed(change: Mask) -> NDArray[np.uint8]:
    faded = 255 - 255 * np.abs(change).clip(0, 1)
    full = np.full_like(faded, 255)
    red, blue = np.where(change >= 0, full, faded), np.where(change <= 0, full, faded)
    return np.stack([red, faded, blue], axis=-1).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("out", type=Path, metavar="OUT.png", help="the picture")
    arguments = parser.parse_args()
    layers = masks_of_run(arguments.run)
    for number, masks in enumerate(layers, start=1):
        before, after = masks.means()
        print(
            f"layer {number}: mean {before:.3f} at the start, {after:.3f} learnt; correlation {masks.likeness:.3f}"
        )
    draw(layers).save(arguments.out)


if __name__ == "__main__":
    main()
