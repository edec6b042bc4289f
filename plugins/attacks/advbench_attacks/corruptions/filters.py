"""Linear filters of images, and sampling of images between pixels.

The sums run over shifted images, so that the result of a sample is the same in every batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

__all__ = ["correlate", "correlate_with", "disk_kernel", "gaussian_blur", "gaussian_kernel", "sample_at"]

Edges = Literal["nearest", "mirror", "reflect"]
"""What lies outside of an image: its nearest pixel; its mirror image about the centre of the outermost pixels, or about
their outer edge."""


def correlate(images: torch.Tensor, kernel: Sequence[float], dim: int, edges: Edges) -> torch.Tensor:
    """Correlates images with a one-dimensional kernel of odd length along a dimension."""
    size, radius = images.shape[dim], len(kernel) // 2
    result = torch.zeros_like(images)
    for offset, weight in enumerate(kernel, -radius):
        if weight:
            places = torch.arange(offset, size + offset, device=images.device)
            result += weight * images.index_select(dim, _inside(places, size, edges))
    return result


def _inside(places: torch.Tensor, size: int, edges: Edges) -> torch.Tensor:
    """The pixels that stand for those outside."""
    if edges == "nearest" or size == 1:
        return places.clamp(0, size - 1)
    if edges == "mirror":
        period = 2 * (size - 1)
        places = places.abs() % period
        return torch.minimum(places, period - places)
    places = places % (2 * size)
    return torch.minimum(places, 2 * size - 1 - places)


def gaussian_kernel(sigma: float, radius: int) -> list[float]:
    """The weights of a Gaussian at the whole numbers from -radius to radius; their sum is 1."""
    weights = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-radius, radius + 1)]
    return [weight / sum(weights) for weight in weights]


def gaussian_blur(
    images: torch.Tensor, sigma: float, *, edges: Edges = "nearest", truncate: float = 4.0
) -> torch.Tensor:
    """Blurs images with a Gaussian that is cut off at so many standard deviations."""
    kernel = gaussian_kernel(sigma, int(truncate * sigma + 0.5))
    return correlate(correlate(images, kernel, 2, edges), kernel, 3, edges)


def disk_kernel(radius: float, alias: float) -> dict[tuple[int, int], float]:
    """The weights of a disk, smoothed with a Gaussian of 3×3 pixels, by their offsets (rows, columns)."""
    reach = int(radius)
    around = range(-reach, reach + 1)
    disk = [(row, column) for row in around for column in around if row**2 + column**2 <= radius**2]
    soft = gaussian_kernel(alias, 1)
    kernel: dict[tuple[int, int], float] = {}
    for row, column in disk:
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                place = row + down, column + right
                kernel[place] = kernel.get(place, 0.0) + soft[down + 1] * soft[right + 1] / len(disk)
    return kernel


def correlate_with(images: torch.Tensor, kernel: dict[tuple[int, int], float]) -> torch.Tensor:
    """Correlates images with the kernel of :func:`disk_kernel`, mirrored at the outermost pixels."""
    height, width = images.shape[2:]
    rows, columns = (torch.arange(size, device=images.device) for size in (height, width))
    result = torch.zeros_like(images)
    for (down, right), weight in kernel.items():
        moved = images.index_select(2, _inside(rows + down, height, "mirror"))
        result += weight * moved.index_select(3, _inside(columns + right, width, "mirror"))
    return result


def sample_at(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor, edges: Edges) -> torch.Tensor:
    """The images at columns x and rows y, interpolated bilinearly.

    Args:
        images: Shape (batch, channels, height, width).
        x: Columns, shape (batch, height, width).
        y: Rows, of the same shape.
        edges: What is outside the images.
    """
    height, width = images.shape[2:]
    corners = edges == "mirror"
    if corners:
        grid = torch.stack((2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1), dim=3)
    else:
        grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=3)
    padding = "border" if edges == "nearest" else "reflection"
    return torch.nn.functional.grid_sample(
        images, grid.to(images), mode="bilinear", padding_mode=padding, align_corners=corners
    )
