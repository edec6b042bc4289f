"""Median smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Defense, param
from advbench_defenses.transformations.median_filter import median_filter

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["MedianSmoothing"]


@dataclass(frozen=True)
class MedianSmoothing(Defense):
    """Replaces each value by the median of a square around it, in each channel.

    Of two middle values, the larger one counts. Images are mirrored at the edges, as in
    ``scipy.ndimage.median_filter``, which the paper uses.

    Args:
        size: Side of the square in pixels; 1 returns the image unchanged.
    """

    name = "median"
    self_contained = True
    differentiable = True
    source = "Xu, Evans and Qi 2018, Feature Squeezing, section III.B (2×2 and 3×3)"
    size: int = param(2, min=1, max=15, help="side of the square in pixels")

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Squares of which more than half lies outside of the image."""
        _, height, width = image_shape
        if min(height, width) < self.size // 2:
            return f"{self.name}: size={self.size} is too large for images of {height}×{width}"
        return ""

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the medians."""
        del rng
        return median_filter(images, self.size)
