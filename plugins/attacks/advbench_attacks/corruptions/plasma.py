"""Plasma: a random height map with details of all sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["plasma"]

_Map = npt.NDArray[np.float64]


def plasma(side: int, decay: float, generator: np.random.Generator) -> _Map:
    """A height map by the diamond-square algorithm on a torus.

    Points in the middle of squares, and then of diamonds, get the mean of the four corners and a random number. With
    every halving of the step, the range of the random numbers is divided by ``decay``.

    Args:
        side: The least side of the map; it is rounded up to a power of two.
        decay: How fast the range decays; the larger, the smoother is the map.
        generator: The random numbers.

    Returns:
        Heights from 0 to 1, a square.

    Source: Fournier, Fussell and Carpenter 1982, Computer rendering of stochastic models.
    """
    step = size = max(2, 1 << (side - 1).bit_length())
    heights = np.zeros((size, size))
    wobble = 100.0

    def mean_of(total: _Map) -> _Map:
        # The published fog multiplies the range by itself, so that details decay with the square of ``decay``.
        mean: _Map = total / 4 + wobble * generator.uniform(-wobble, wobble, total.shape)
        return mean

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        total = corners + np.roll(corners, -1, axis=0)
        centres = mean_of(total + np.roll(total, -1, axis=1))
        heights[half::step, half::step] = centres
        across = corners + np.roll(corners, -1, axis=1)
        heights[::step, half::step] = mean_of(centres + np.roll(centres, 1, axis=0) + across)
        down = corners + np.roll(corners, -1, axis=0)
        heights[half::step, ::step] = mean_of(centres + np.roll(centres, 1, axis=1) + down)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    scaled: _Map = heights / heights.max()
    return scaled
