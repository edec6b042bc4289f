"""Rotating and shifting images."""

from __future__ import annotations

import math

import torch

from advbench.api.devices import widest_float

__all__ = ["rotate_shift"]

_STEPS = 2**20
"""Coordinates are rounded to this fraction of a pixel, so that the identity returns the images themselves."""


def rotate_shift(
    images: torch.Tensor,
    angle: torch.Tensor,
    dx: torch.Tensor,
    dy: torch.Tensor,
    *,
    interpolation: str = "bilinear",
    padding: str = "zeros",
) -> torch.Tensor:
    """Rotates images about their centres, and then shifts them.

    This is the one function that renders geometric perturbations: attacks use it, and a run renders the images again to
    check them. Differentiable in the images.

    Args:
        images: Shape (batch, channels, height, width).
        angle: Angles in degrees, counter-clockwise, shape (batch,).
        dx: Shifts to the right in pixels, shape (batch,).
        dy: Shifts downwards in pixels, shape (batch,).
        interpolation: ``bilinear`` or ``nearest``.
        padding: What is outside the images: ``zeros``, ``border`` (the nearest pixel) or ``reflection`` (mirrored at
            the outermost pixels).

    Returns:
        The images, of the same shape, dtype and range.

    Raises:
        ValueError: There is no such interpolation or padding.
    """
    if interpolation not in ("bilinear", "nearest"):
        raise ValueError(f"interpolation={interpolation!r}; there are bilinear and nearest")
    if padding not in ("zeros", "border", "reflection"):
        raise ValueError(f"padding={padding!r}; there are zeros, border and reflection")
    x, y = _sources(images, angle, dx, dy)
    if interpolation == "nearest":
        return _pixels(images, (x + 0.5).floor(), (y + 0.5).floor(), padding)
    left, top = x.floor(), y.floor()
    across, down = ((place - start).to(images.dtype)[:, None] for place, start in ((x, left), (y, top)))
    upper, lower = (
        torch.lerp(_pixels(images, left, row, padding), _pixels(images, left + 1, row, padding), across)
        for row in (top, top + 1)
    )
    return torch.lerp(upper, lower, down)


def _sources(
    images: torch.Tensor, angle: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The column and the row that each pixel of the result shows: float64, shape (batch, height, width)."""
    height, width = images.shape[2:]
    wide = widest_float(images.device)
    angle, dx, dy = (value.to(images.device, wide)[:, None, None] for value in (angle, dx, dy))
    cosine, sine = (angle * (math.pi / 180)).cos(), (angle * (math.pi / 180)).sin()
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    rows, columns = (torch.arange(size, device=images.device, dtype=wide) for size in (height, width))
    across, down = columns[None, None] - centre_x - dx, rows[None, :, None] - centre_y - dy
    x, y = cosine * across - sine * down + centre_x, sine * across + cosine * down + centre_y
    return (x * _STEPS).round() / _STEPS, (y * _STEPS).round() / _STEPS


def _pixels(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor, padding: str) -> torch.Tensor:
    """The pixels at whole columns and rows: shape (batch, channels, height, width)."""
    height, width = images.shape[2:]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if padding == "reflection":
        x, y = _mirrored(x, width), _mirrored(y, height)
    places = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    chosen = places.long().flatten(1)[:, None].expand(-1, images.shape[1], -1)
    pixels = images.flatten(2).gather(2, chosen).reshape(images.shape)
    return pixels * inside[:, None] if padding == "zeros" else pixels


def _mirrored(place: torch.Tensor, size: int) -> torch.Tensor:
    """Places mirrored at the first and the last pixel until they are inside."""
    if size == 1:
        return torch.zeros_like(place)
    place = place.abs() % (2 * (size - 1))
    return torch.minimum(place, 2 * (size - 1) - place)
