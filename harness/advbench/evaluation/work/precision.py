"""The arithmetic in which the network is attacked."""

from __future__ import annotations

import torch

from advbench.api import SampleRandom
from advbench.evaluation.work.networks import takes_rng

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
        self.takes_rng = takes_rng(network)

    def forward(self, images: torch.Tensor, rng: SampleRandom | None = None) -> torch.Tensor:
        """The network's logits, as float32; ``rng`` is for the network of a stochastic model."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits: torch.Tensor = self.network(images, rng) if self.takes_rng else self.network(images)
        return logits.float()
