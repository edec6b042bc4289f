"""Masks of strokes and stickers: fixed places of an image, and as many pixels around them as an area allows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch

from advbench_attacks.patch.pasting import nearest_pixels, pixel_count

__all__ = ["MASKS", "make_mask"]

Point: TypeAlias = tuple[float, float]

_STROKES: Sequence[Sequence[Point]] = (
    ((0.08, 0.36), (0.25, 0.12), (0.4, 0.42), (0.56, 0.14), (0.7, 0.4), (0.92, 0.16)),
    ((0.1, 0.86), (0.5, 0.62), (0.9, 0.88)),
)
_STICKERS: Sequence[Sequence[Point]] = tuple(
    ((left, height), (left + 0.24, height)) for height in (0.22, 0.78) for left in (0.16, 0.6)
)
_LINES: Mapping[str, Sequence[Sequence[Point]]] = {
    "graffiti": _STROKES,
    "stickers": _STICKERS,
    "square": (((0.5, 0.5), (0.5, 0.5)),),
}
"""The middle lines of each mask: points (x, y) as shares of width and height, joined by straight lines."""

MASKS = tuple(_LINES)
"""``graffiti``: two zigzag lines; ``stickers``: four horizontal bars; ``square``: a square in the centre."""


def make_mask(name: str, area: float, height: int, width: int) -> torch.Tensor:
    """The pixels nearest to the middle lines of a mask: bool, shape (height, width).

    Strokes have round ends, and bars and squares have corners: their distance is the larger one of both axes.

    Args:
        name: One of :data:`MASKS`.
        area: The largest share of the image that the mask may cover.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """
    rows, columns = (torch.arange(size, dtype=torch.float64) + 0.5 for size in (height, width))
    distance = torch.full((height, width), math.inf, dtype=torch.float64)
    for line in _LINES[name]:
        for (x0, y0), (x1, y1) in itertools.pairwise(line):
            along_x, along_y = (x1 - x0) * width, (y1 - y0) * height
            right, down = columns[None] - x0 * width, rows[:, None] - y0 * height
            length = max(along_x**2 + along_y**2, 1e-9)
            share = ((right * along_x + down * along_y) / length).clamp(0, 1)
            right, down = right - share * along_x, down - share * along_y
            found = torch.hypot(right, down) if name == "graffiti" else right.abs().maximum(down.abs())
            distance = distance.minimum(found)
    return nearest_pixels(distance[None], pixel_count(area, height, width))[0]
