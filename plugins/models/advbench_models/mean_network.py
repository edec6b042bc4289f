"""A network that averages the outputs of several networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from advbench.api import SampleRandom, combine_logits

__all__ = ["MeanNetwork"]


class MeanNetwork(torch.nn.Module):
    """The mean of the logits of several networks, or the logarithm of the mean of their softmax probabilities.

    Args:
        networks: Classifiers of images of one shape, with the same classes, and whether each takes ``(images, rng)``.
        probabilities: Whether to average probabilities.
    """

    def __init__(self, networks: Sequence[tuple[torch.nn.Module, bool]], *, probabilities: bool) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(network for network, _ in networks)
        self.drawn = [takes_rng for _, takes_rng in networks]
        self.probabilities = probabilities

    def forward(self, images: torch.Tensor, rng: SampleRandom | None = None) -> torch.Tensor:
        """The logits, float32, shape (batch, classes).

        Args:
            images: float32 in [0, 1], shape (batch, channels, height, width).
            rng: The random streams of the images, if any of the networks takes them.
        """
        logits = torch.stack([self._logits(index, images, rng) for index in range(len(self.networks))])
        return combine_logits(logits, "probabilities" if self.probabilities else "logits")

    def _logits(self, index: int, images: torch.Tensor, rng: SampleRandom | None) -> torch.Tensor:
        network = self.networks[index]
        if rng is None or not self.drawn[index]:
            logits: torch.Tensor = network(images)
        else:
            logits = network(images, rng.derive(str(index)))
        return logits.float()
