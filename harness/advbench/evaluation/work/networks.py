"""How networks are called: with the random streams of their images if they take them, and in which arithmetic."""

from __future__ import annotations

import torch

from advbench.api import SampleRandom

__all__ = ["LowPrecision", "ask_network", "model_streams", "takes_rng"]


def takes_rng(network: torch.nn.Module) -> bool:
    """Whether a network is that of a stochastic model, which is called with ``(images, rng)``."""
    return bool(getattr(network, "takes_rng", False))


def model_streams(rng: SampleRandom) -> SampleRandom:
    """The model's own streams, from those of the samples: they restart at every call, as those of each defense."""
    return rng.derive("model")


def ask_network(network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The logits of a network.

    Args:
        network: The network.
        images: Shape (m, channels, height, width).
        rng: The streams of the samples, of which the network of a stochastic model gets its own.
    """
    logits: torch.Tensor = network(images, model_streams(rng)) if takes_rng(network) else network(images)
    return logits


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
