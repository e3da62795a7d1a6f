"""Where networks run."""

import torch

from mrnet.errors import ConfigError


def choose_device(device: str | None) -> torch.device:
    """The device of this name; if left out CUDA where there is one, then MPS, then the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used here ({said}); use another, cpu for one") from None
