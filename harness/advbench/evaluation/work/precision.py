"""The arithmetic in which the network is attacked."""

from __future__ import annotations

import torch

__all__ = ["LowPrecision"]


class LowPrecision(torch.nn.Module):
    """A network whose matrix products and convolutions are computed in bfloat16; images and logits stay float32.

    Args:
        network: The network; it is shared and not changed.

    Source: torch.autocast; each operation's type is PyTorch's choice.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.training = False
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The network's logits, as float32."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits: torch.Tensor = self.network(images)
        return logits.float()
