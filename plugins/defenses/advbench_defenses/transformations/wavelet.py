"""Wavelet denoising."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Defense, param
from advbench_defenses.identity_approximation import identity_approximation

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import SampleRandom

__all__ = ["WaveletDenoising"]

_ROOT = math.sqrt(2)


@dataclass(frozen=True)
class WaveletDenoising(Defense):
    """Shrinks the details of the Haar wavelet transform of each channel, by thresholds of BayesShrink.

    A band of details with the variance v gets the soft threshold sigma² / √max(v − sigma², ε). This is
    ``skimage.restoration.denoise_wavelet`` with ``wavelet="db1"`` and ``method="BayesShrink"``.

    Args:
        sigma: Standard deviation of the noise that is removed, for pixels in [0, 1].
        levels: How often the image is halved; None for log2 of its shorter side minus 3, at least 1, as in
            scikit-image.
    """

    name = "wavelet"
    self_contained = True
    source = (
        "Prakash, Moran, Garber, DiLillo and Storer 2018, Deflecting Adversarial Attacks with Pixel Deflection, "
        "section 4.3 (BayesShrink, sigma 0.04); Chang, Yu and Vetterli 2000, Adaptive Wavelet Thresholding for Image "
        "Denoising and Compression"
    )
    sigma: float = param(0.04, above=0, max=1000, help="standard deviation of the noise, for pixels in [0, 1]")
    levels: int | None = param(None, min=1, max=20, help="how often the image is halved; none: as in scikit-image")

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Images that cannot be halved so often."""
        _, height, width = image_shape
        if self.levels is not None and 2 ** (self.levels - 1) >= min(height, width):
            most = (min(height, width) - 1).bit_length()
            return f"{self.name}: images of {height}×{width} can be halved {most} times, not {self.levels} times"
        return ""

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the denoised images."""
        del rng
        return self._denoised(images.detach())

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the denoised images; details below the threshold have no gradient."""
        del rng
        return self._denoised(images)

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns the denoising itself, and the identity, which keeps the gradient of removed details."""
        return (self.approximation_from_output, identity_approximation)

    def _denoised(self, images: torch.Tensor) -> torch.Tensor:
        side = min(images.shape[2:])
        levels = max(side.bit_length() - 1 - 3, 1) if self.levels is None else self.levels
        return self._shrunk(images, levels) if levels else images

    def _shrunk(self, images: torch.Tensor, levels: int) -> torch.Tensor:
        """Halves the images, shrinks the details, and joins them with the denoised coarser image again."""
        height, width = images.shape[2:]
        low, high = _split(images, dim=2)
        (coarse, right), (down, diagonal) = (_split(part, dim=3) for part in (low, high))
        right, down, diagonal = (self._threshold(details) for details in (right, down, diagonal))
        if levels > 1:
            coarse = self._shrunk(coarse, levels - 1)
        rows = _join(_join(coarse, right, dim=3), _join(down, diagonal, dim=3), dim=2)
        return rows[:, :, :height, :width]

    def _threshold(self, details: torch.Tensor) -> torch.Tensor:
        """Shrinks one band of details, each channel with its own threshold."""
        variance = details.square().mean(dim=(2, 3), keepdim=True)
        smallest = torch.finfo(details.dtype).eps
        threshold = self.sigma**2 / (variance - self.sigma**2).clamp(min=smallest).sqrt()
        return details.sign() * (details.abs() - threshold).clamp(min=0)


def _split(images: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The scaled sums and differences of neighbours; an odd last one is its own neighbour."""
    length = images.shape[dim]
    first = images.index_select(dim, torch.arange(0, length, 2, device=images.device))
    second = images.index_select(dim, torch.arange(1, length + 1, 2, device=images.device).clamp(max=length - 1))
    return (first + second) / _ROOT, (first - second) / _ROOT


def _join(sums: torch.Tensor, differences: torch.Tensor, dim: int) -> torch.Tensor:
    """The images that :func:`_split` splits, with an even length."""
    pairs = torch.stack(((sums + differences) / _ROOT, (sums - differences) / _ROOT), dim=dim + 1)
    return pairs.flatten(dim, dim + 1)
