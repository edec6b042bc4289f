"""A network preceded by the normalisation it was trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from advbench.api import Float32Network, ParameterError, SampleRandom

__all__ = ["Normalised", "channel_values"]


class Normalised(Float32Network):
    """Maps images in [0, 1] to the logits of a network that expects (x − mean) / std.

    Args:
        network: The network.
        mean: One value, or one per channel.
        std: The same, above 0.
        takes_rng: Whether the network takes ``(images, rng)``.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], *, takes_rng: bool = False
    ) -> None:
        super().__init__(network, takes_rng=takes_rng)
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).reshape(-1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor, rng: SampleRandom | None = None) -> torch.Tensor:
        """Normalises and classifies images."""
        return super().forward((images - self.mean) / self.std, rng)


def channel_values(name: str, text: str, *, positive: bool = False) -> tuple[float, ...]:
    """Parses a parameter such as ``0.5`` or, with one value per channel, ``0.485:0.456:0.406``.

    Raises:
        ParameterError: The text is malformed, or a value is not above 0 where it must be.
    """
    try:
        values = tuple(float(part) for part in text.split(":"))
    except ValueError:
        values = ()
    if not values or not all(value > 0 if positive else math.isfinite(value) for value in values):
        expected = "numbers above 0" if positive else "numbers"
        raise ParameterError(f"{name}={text}: must be {expected}, one, or one per channel separated by ':'")
    return values
