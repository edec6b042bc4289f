"""Blur."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from advbench.api import SampleRandom
from advbench_attacks.corruptions.corruption import CommonCorruption
from advbench_attacks.corruptions.filters import correlate_with, disk_kernel, gaussian_blur

__all__ = ["DefocusBlur", "GaussianBlur", "GlassBlur", "MotionBlur", "ZoomBlur"]


@dataclass(frozen=True)
class GaussianBlur(CommonCorruption):
    """Gaussian blur; the constants are standard deviations in pixels."""

    name: ClassVar[str] = "gaussian-blur"
    constants: ClassVar[tuple[float, ...]] = (0.4, 0.6, 0.7, 0.8, 1.0)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Blurs the images."""
        del rng
        return gaussian_blur(images, self._constant)


@dataclass(frozen=True)
class GlassBlur(CommonCorruption):
    """As seen through frosted glass: pixels take the colours of random neighbours, between two Gaussian blurs.

    The constants are the standard deviation of the blurs, the reach of the neighbours, and how often pixels are
    replaced. As in the published code, whose exchange of two pixels assigns one of them twice, a pixel and its
    neighbour both get the neighbour's colour.
    """

    name: ClassVar[str] = "glass-blur"
    constants: ClassVar[tuple[tuple[float, int, int], ...]] = (
        *((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    )

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Blurs, replaces pixels from the lower right to the upper left, and blurs again."""
        sigma, reach, times = self._constant
        glass = (gaussian_blur(images, sigma) * 255 + 1e-3).floor() / 255
        height, width = images.shape[2:]
        moves = rng.integers(-reach, reach, times, max(0, height - 2 * reach), max(0, width - 2 * reach), 2)
        moves = moves.to(images.device)
        batch = torch.arange(len(images), device=images.device)
        for number in range(times):
            for row in range(height - reach, reach, -1):
                for column in range(width - reach, reach, -1):
                    right, down = moves[:, number, row - reach - 1, column - reach - 1].unbind(dim=1)
                    glass[:, :, row, column] = glass[batch, :, row + down, column + right]
        return gaussian_blur(glass, sigma)


@dataclass(frozen=True)
class DefocusBlur(CommonCorruption):
    """Blur by a disk, as of a lens out of focus; the constants are its radius and the blur of its edge in pixels."""

    name: ClassVar[str] = "defocus-blur"
    constants: ClassVar[tuple[tuple[float, float], ...]] = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Blurs the images."""
        del rng
        return correlate_with(images, disk_kernel(*self._constant))


@dataclass(frozen=True)
class MotionBlur(CommonCorruption):
    """Blur along a line in a random direction, up to 45° from the horizontal.

    The line starts at the pixel; its weights are half a Gaussian. The constants are a radius r, of which the line has
    2r + 1 points, and the standard deviation of the weights in pixels.
    """

    name: ClassVar[str] = "motion-blur"
    constants: ClassVar[tuple[tuple[int, float], ...]] = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Adds up the images shifted along the line."""
        radius, sigma = self._constant
        angle = rng.uniform(low=-45, high=45).to(images) * (math.pi / 180)
        weights = [math.exp(-(step**2) / (2 * sigma**2)) for step in range(2 * radius + 1)]
        blurred = torch.zeros_like(images)
        for step, weight in enumerate(weights):
            right, down = ((step * part - 0.5).ceil().long() for part in (angle.cos(), angle.sin()))
            blurred += weight / sum(weights) * _shifted(images, right, down)
        return blurred


@dataclass(frozen=True)
class ZoomBlur(CommonCorruption):
    """The mean of the image and of its enlargements, from 1 up to the constant in steps of 0.01."""

    name: ClassVar[str] = "zoom-blur"
    depends_on: ClassVar[tuple[str, ...]] = ("scipy",)
    constants: ClassVar[tuple[float, ...]] = (1.06, 1.11, 1.16, 1.21, 1.26)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Averages the enlargements."""
        del rng
        factors = np.arange(1, self._constant, 0.01).tolist()  # by rounding, the last may be the constant itself
        total = images.clone()
        for factor in factors:
            total += _enlarged(images, factor)
        return total.div(len(factors) + 1)


def _enlarged(images: torch.Tensor, factor: float) -> torch.Tensor:
    """The middle of images, enlarged by a factor to whole pixels and cut to their size, as in the published code."""
    from scipy.ndimage import zoom  # type: ignore[attr-defined]

    height, width = images.shape[2:]
    high, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - high) // 2, (width - wide) // 2
    middle = images[:, :, top : top + high, left : left + wide].cpu().numpy()
    zoomed = zoom(middle, (1, 1, factor, factor), order=1)
    enlarged = torch.from_numpy(zoomed).to(images)
    top, left = (enlarged.shape[2] - height) // 2, (enlarged.shape[3] - width) // 2
    return enlarged[:, :, top : top + height, left : left + width]


def _shifted(images: torch.Tensor, right: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """The images at pixels to the right and below, each sample's own; the nearest pixel outside the images."""
    height, width = images.shape[2:]
    rows = (torch.arange(height, device=images.device)[None] + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device)[None] + right[:, None]).clamp(0, width - 1)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return images[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
