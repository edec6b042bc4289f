"""Gaussian blur."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Defense, param

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["GaussianBlur"]


@dataclass(frozen=True)
class GaussianBlur(Defense):
    """Blurs each channel with a Gaussian kernel; pixels at the edge are repeated outwards.

    The kernel is truncated at four standard deviations and normalised to sum 1, as in
    ``scipy.ndimage.gaussian_filter(mode="nearest")``.

    Args:
        sigma: Standard deviation in pixels, in both directions; 0 returns the image unchanged.
        sigma_x: Standard deviation along the rows (horizontally) in pixels; None for ``sigma``.
        sigma_y: Standard deviation along the columns (vertically) in pixels; None for ``sigma``.
    """

    name = "gaussian"
    self_contained = True
    differentiable = True
    source = "Xu, Evans and Qi 2018, Feature Squeezing, section III.B (local smoothing)"
    sigma: float = param(0.5, min=0, max=1000, help="standard deviation in pixels; 0 for no blur")
    sigma_x: float | None = param(None, min=0, max=1000, help="horizontal standard deviation; none: sigma")
    sigma_y: float | None = param(None, min=0, max=1000, help="vertical standard deviation; none: sigma")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the blurred images."""
        del rng
        sigma_x = self.sigma if self.sigma_x is None else self.sigma_x
        sigma_y = self.sigma if self.sigma_y is None else self.sigma_y
        return _blur(_blur(images, sigma_y, axis=2), sigma_x, axis=3)


def _blur(images: torch.Tensor, sigma: float, axis: int) -> torch.Tensor:
    """Convolves along one axis: Σⱼ kⱼ x[i + j].

    This sums shifted images instead of calling a library's convolution, which may round its inputs to ten bits (TF32)
    on a GPU, and sum in another order for another batch size.
    """
    size = images.shape[axis]
    kernel = _kernel(sigma, size)
    radius = len(kernel) // 2
    if radius == 0:
        return images
    positions = torch.arange(-radius, size + radius, device=images.device).clamp(0, size - 1)
    padded = images.index_select(axis, positions)
    blurred = torch.zeros_like(images)
    for j, weight in enumerate(kernel):
        blurred = blurred.add_(padded.narrow(axis, j, size), alpha=weight)
    return blurred


def _kernel(sigma: float, size: int) -> list[float]:
    """Returns the weights k_j for shifts j from -r to r, where r is below the image's size.

    All shifts by at least ``size - 1`` read the same pixel at the edge, so their weights are added up.
    """
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return [1.0]
    shifts = range(-radius, radius + 1)
    weights = [math.exp(-(j**2) / (2 * sigma**2)) for j in shifts]
    total = math.fsum(weights)
    max_shift = min(radius, size - 1)
    kernel = [0.0] * (2 * max_shift + 1)
    for j, weight in zip(shifts, weights, strict=True):
        kernel[max(-max_shift, min(j, max_shift)) + max_shift] += weight / total
    return kernel
