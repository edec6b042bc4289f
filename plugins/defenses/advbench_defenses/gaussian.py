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
    """Blurs each channel with a Gaussian, with edge pixels repeated outwards.

    The kernel is cut off at four standard deviations and normalised to sum 1, as in
    ``scipy.ndimage.gaussian_filter(mode="nearest")``.

    Args:
        sigma: Standard deviation in pixels, in both directions; 0 leaves the image as it is.
        sigma_x: Standard deviation along the rows (horizontally) in pixels; None takes ``sigma``.
        sigma_y: Standard deviation along the columns (vertically) in pixels; None takes ``sigma``.
    """

    name = "gaussian"
    self_contained = True
    differentiable = True
    source = "Xu, Evans and Qi 2018, Feature Squeezing, section III.B (local smoothing)"
    sigma: float = param(0.5, min=0, max=1000, help="standard deviation in pixels; 0 does not blur")
    sigma_x: float | None = param(None, min=0, max=1000, help="horizontal standard deviation; none takes sigma")
    sigma_y: float | None = param(None, min=0, max=1000, help="vertical standard deviation; none takes sigma")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the blurred images."""
        del rng
        sigma_x = self.sigma if self.sigma_x is None else self.sigma_x
        sigma_y = self.sigma if self.sigma_y is None else self.sigma_y
        return _blur(_blur(images, sigma_y, axis=2), sigma_x, axis=3)


def _blur(images: torch.Tensor, sigma: float, axis: int) -> torch.Tensor:
    """Convolves along one axis: sum over j of k_j x[i + j].

    It is a sum of shifted images rather than a library's convolution, which may round its inputs to ten bits
    (TF32) on a GPU and sum in another order for another batch.
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
    """The weights k_j of the shifts j from -r to r, where r is below the image's size.

    Shifts by ``size - 1`` and by more all read the same pixel, that at the edge, so they share one weight.
    """
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return [1.0]
    shifts = range(-radius, radius + 1)
    weights = [math.exp(-(j**2) / (2 * sigma**2)) for j in shifts]
    total = math.fsum(weights)
    reach = min(radius, size - 1)
    kernel = [0.0] * (2 * reach + 1)
    for j, weight in zip(shifts, weights, strict=True):
        kernel[max(-reach, min(j, reach)) + reach] += weight / total
    return kernel
