"""Calls networks with the random streams of their images, which those of stochastic models take."""

from __future__ import annotations

import torch

from advbench.api import SampleRandom

__all__ = ["ask_network", "model_streams", "takes_rng"]


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
