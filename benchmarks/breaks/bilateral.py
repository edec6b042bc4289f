"""Breaks `bilateral`: autograd follows its weights; a plain blur has no weights that depend on the image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from advbench.api import SampleRandom
from advbench_defenses.gaussian import GaussianBlur
from advbench_defenses.transformations.bilateral import BilateralFilter
from benchmarks.breaks.replaced import Approximation, autograd, identity
from benchmarks.breaks.runner import main


def spatial_blur(
    defense: BilateralFilter, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom
) -> torch.Tensor:
    """The blur that the filter is where all colours are alike."""
    del output
    return GaussianBlur(defense.space).apply(images, rng)


APPROXIMATIONS: Mapping[str, Approximation] = {"autograd": autograd, "identity": identity, "spatial blur": spatial_blur}

if __name__ == "__main__":
    main("bilateral", __doc__, approximations=APPROXIMATIONS)
