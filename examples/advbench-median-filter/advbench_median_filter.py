"""A defense for advbench: a median filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from advbench.api import Defense, ParameterError, SampleRandom, hookimpl, param

API_VERSION = 2


@dataclass(frozen=True)
class MedianFilter(Defense):
    """Replaces each pixel by the median of the square around it, separately for each channel."""

    name: ClassVar[str] = "median-filter"
    source: ClassVar[str] = (
        "Xu, Evans and Qi 2018, Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks, section IV-B"
    )

    size: int = param(3, min=1, max=15, help="side of the square in pixels; odd")

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: The size is even.
        """
        super().__post_init__()
        if self.size % 2 == 0:
            raise ParameterError(f"size={self.size}: must be odd, so that the square has a middle pixel")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Filters a batch; images are mirrored at the edges."""
        del rng
        radius = self.size // 2
        if not radius:
            return images.clone()
        padded = torch.nn.functional.pad(images, (radius, radius, radius, radius), mode="reflect")
        squares = padded.unfold(2, self.size, 1).unfold(3, self.size, 1)
        filtered: torch.Tensor = squares.flatten(4).median(dim=4).values
        return filtered

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Replaces the median by the mean of the same square in adaptive attacks; its gradient reaches all pixels."""
        del rng
        radius = self.size // 2
        return torch.nn.functional.avg_pool2d(images, self.size, stride=1, padding=radius, count_include_pad=False)


@hookimpl
def register_defenses(register: Callable[[type[Defense]], None]) -> None:
    """Registers the defense."""
    register(MedianFilter)
