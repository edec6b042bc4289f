"""A differentiable rounding."""

from __future__ import annotations

import math

import torch

__all__ = ["soft_rounding"]


def soft_rounding(images: torch.Tensor, levels: int, depth: float = 1.0) -> torch.Tensor:
    """Rounds to multiples of 1 / levels with a useful gradient: x − depth · sin(2πLx) / (2πL), with L levels.

    The slope is 1 + depth halfway between two multiples, and 1 − depth at them.

    Args:
        images: Any shape.
        levels: Number of steps from 0 to 1.
        depth: How far the slope departs from 1.
    """
    period = 2 * math.pi * levels
    return images - depth * (period * images).sin() / period
