"""The schedule of step sizes in DDN and FMN."""

from __future__ import annotations

import math

__all__ = ["cosine_annealing"]


def cosine_annealing(first: float, last: float, step: int, steps: int) -> float:
    """Returns a value that falls from first to last along half a cosine wave; ``step`` is in 0 … steps − 1."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2
