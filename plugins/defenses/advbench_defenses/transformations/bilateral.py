"""Bilateral filter: a blur that keeps edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Defense, ParameterError, param

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["BilateralFilter"]


@dataclass(frozen=True)
class BilateralFilter(Defense):
    """Replaces each pixel by a mean of the pixels around it, with larger weights for near pixels of similar colours.

    The weight of a pixel is exp(−d² / 2 space²) · exp(−c² / 2 colour²), with its distance d and the Euclidean distance
    c of the two colours. Pixels at the edge are repeated outwards.

    Args:
        colour: Standard deviation of the weights for colours, for pixels in [0, 1].
        space: Standard deviation of the weights for distances, in pixels.
        size: Side of the square that is averaged, in pixels; odd.
    """

    name = "bilateral"
    self_contained = True
    differentiable = True
    source = "Tomasi and Manduchi 1998, Bilateral Filtering for Gray and Color Images"
    colour: float = param(0.1, above=0, max=1000, help="standard deviation for colours, for pixels in [0, 1]")
    space: float = param(1.0, above=0, max=1000, help="standard deviation for distances, in pixels")
    size: int = param(5, min=1, max=51, help="side of the averaged square in pixels; odd")

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: The square has no middle pixel.
        """
        super().__post_init__()
        if self.size % 2 == 0:
            raise ParameterError(f"size={self.size}: must be odd, so that the square has a middle pixel")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the weighted means."""
        del rng
        height, width = images.shape[2:]
        reach = self.size // 2
        padded = torch.nn.functional.pad(images, (reach,) * 4, mode="replicate")
        total, weights = torch.zeros_like(images), torch.zeros_like(images[:, :1])
        for down in range(self.size):
            for right in range(self.size):
                others = padded[:, :, down : down + height, right : right + width]
                colour = (others - images).square().sum(dim=1, keepdim=True) / self.colour**2
                space = ((down - reach) ** 2 + (right - reach) ** 2) / self.space**2
                weight = (-(colour + space) / 2).exp()
                total = total + weight * others
                weights = weights + weight
        return total / weights
