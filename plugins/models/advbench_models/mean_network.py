"""A network that averages the outputs of several networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from advbench.api import combine_logits

__all__ = ["MeanNetwork"]


class MeanNetwork(torch.nn.Module):
    """The mean of the logits of several networks, or the logarithm of the mean of their softmax probabilities.

    Args:
        networks: Classifiers of images of one shape, with the same classes.
        probabilities: Whether to average probabilities.
    """

    def __init__(self, networks: Sequence[torch.nn.Module], *, probabilities: bool) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)
        self.probabilities = probabilities

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits, float32, shape (batch, classes).

        Args:
            images: float32 in [0, 1], shape (batch, channels, height, width).
        """
        logits = torch.stack([network(images).float() for network in self.networks])
        return combine_logits(logits, "probabilities" if self.probabilities else "logits")
