"""How many digits a computation keeps.

Tensors that are made have torch's default type, which is float32 unless someone sets it otherwise.
"""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """What autocast made half precision goes up to float32; float32 and float64 stay."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
