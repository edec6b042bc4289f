"""Breaks `bit-depth`: rounding has zero gradient almost everywhere; smooth staircases approximate it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from advbench.api import SampleRandom
from advbench_defenses.transformations.bit_depth import BitDepth
from benchmarks.breaks.replaced import Approximation, identity, own
from benchmarks.breaks.runner import main

SHARPNESS = 6.0
"""Slope of a sigmoid step at its middle, as a multiple of 4 over the height of a step."""


def sigmoid_staircase(defense: BitDepth, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The sum of a sigmoid at each threshold."""
    del output, rng
    levels = (1 << defense.bits) - (defense.rounding == "xu")
    scaled = images * levels
    whole = scaled.detach().floor()
    return (whole + (SHARPNESS * (scaled - whole - 0.5)).sigmoid()) / levels


APPROXIMATIONS: Mapping[str, Approximation] = {
    "soft rounding": own,
    "identity": identity,
    "sigmoid staircase": sigmoid_staircase,
}

if __name__ == "__main__":
    main("bit-depth", __doc__, approximations=APPROXIMATIONS)
