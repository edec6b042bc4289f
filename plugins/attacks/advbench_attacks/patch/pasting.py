"""Pasting a patch on images: rotated, scaled and moved, and differentiable in the patch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn import functional

from advbench.api import SampleRandom

__all__ = ["POSITIONS", "Placement", "draw_placement", "nearest_pixels", "paste", "patch_width", "pixel_count"]

POSITIONS = ("random", "top-left", "top-right", "bottom-left", "bottom-right", "centre")
"""Where a patch is pasted."""


class Placement(NamedTuple):
    """How a patch lies on each image; tensors of float32, shape (batch,).

    Attributes:
        x: The column of its centre, in pixels from the left edge of the image.
        y: The row of its centre, in pixels from the upper edge.
        angle: Its rotation in radians, counter-clockwise.
        scale: Its width as a share of the full one.
    """

    x: torch.Tensor
    y: torch.Tensor
    angle: torch.Tensor
    scale: torch.Tensor


def patch_width(area: float, shape: str, height: int, width: int) -> int:
    """The side of a square or the diameter of a circle that covers at most this share of an image, in pixels."""
    pixels = area * height * width
    return math.floor(math.sqrt(pixels if shape == "square" else 4 * pixels / math.pi) + 1e-9)


def draw_placement(
    rng: SampleRandom, size: tuple[int, int], side: int, *, position: str, max_angle: float, min_scale: float
) -> Placement:
    """Draws a rotation, a scale and a position for each sample; the patch is inside the image if it fits.

    Args:
        rng: The samples' random streams.
        size: The height and the width of the images.
        side: The full width of the patch in pixels.
        position: One of :data:`POSITIONS`.
        max_angle: The largest rotation in degrees, in both directions.
        min_scale: The smallest scale; the largest is 1.
    """
    (height, width), drawn = size, rng.uniform(4)
    angle = (2 * drawn[:, 0] - 1) * math.radians(max_angle)
    scale = min_scale + (1 - min_scale) * drawn[:, 1]
    # Whole pixels, so that a patch that is not rotated covers them exactly.
    extent = (side * scale * (angle.cos().abs() + angle.sin().abs()) - 1e-4).ceil()
    left = _start(position, "left", drawn[:, 2], width - extent)
    top = _start(position, "top", drawn[:, 3], height - extent)
    return Placement(left + extent / 2, top + extent / 2, angle, scale)


def _start(position: str, low: str, drawn: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """The first column or row of a patch; negative if it is larger than the image."""
    if position == "random":
        return torch.where(room > 0, (drawn * (room + 1)).floor().minimum(room), (room / 2).floor())
    if position == "centre":
        return (room / 2).floor()
    return torch.zeros_like(room) if low in position else room


def paste(
    images: torch.Tensor, patch: torch.Tensor, placement: Placement, shape: str, area: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pastes a patch on images.

    Args:
        images: Shape (batch, channels, height, width).
        patch: Pixels of the patch, shape (channels, side, side).
        placement: Where it lies on each image.
        shape: ``square`` or ``circle``.
        area: The largest share of an image that it may cover; the pixels farthest from its centre are left out if it
            would cover more.

    Returns:
        The images, and their masks: bool, shape (batch, 1, height, width).
    """
    height, width = images.shape[2:]
    rows, columns = (torch.arange(size, device=images.device, dtype=torch.float32) + 0.5 for size in (height, width))
    across, down = columns[None, None] - placement.x[:, None, None], rows[None, :, None] - placement.y[:, None, None]
    cosine, sine = placement.angle.cos()[:, None, None], placement.angle.sin()[:, None, None]
    reach = (patch.shape[-1] * placement.scale / 2)[:, None, None]
    u, v = (cosine * across - sine * down) / reach, (sine * across + cosine * down) / reach
    distance = u.abs().maximum(v.abs()) if shape == "square" else torch.hypot(u, v)
    mask = (distance < 1) & nearest_pixels(distance, pixel_count(area, height, width))
    sampled = functional.grid_sample(
        patch.expand(len(images), -1, -1, -1),
        torch.stack((u, v), dim=3),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return torch.where(mask[:, None], sampled, images), mask[:, None]


def pixel_count(area: float, height: int, width: int) -> int:
    """The largest number of pixels that covers at most this share of an image."""
    return math.floor(area * height * width + 1e-6)


def nearest_pixels(distance: torch.Tensor, count: int) -> torch.Tensor:
    """The pixels with the smallest distances, so many for each image; of equal ones, the first."""
    order = distance.flatten(1).argsort(dim=1, stable=True)
    chosen = torch.zeros_like(distance.flatten(1), dtype=torch.bool).scatter_(1, order[:, :count], True)
    return chosen.reshape(distance.shape)
