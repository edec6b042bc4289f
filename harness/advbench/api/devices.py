"""What devices can compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["widest_float"]

WITHOUT_FLOAT64 = {"mps"}
"""The types of devices that have no float64."""


def widest_float(device: torch.device) -> torch.dtype:
    """The widest floating-point type of a device: float64, or float32 on ``mps``, which has no float64.

    Plugins that compute in float64 use it in place of ``torch.float64`` for tensors on the device of the images.

    Args:
        device: The device, such as ``images.device``.
    """
    import torch

    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64
