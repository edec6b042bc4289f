"""Breaks `quilting`: the identity, soft choices between the nearest patches, and a blur as wide as a patch's detail."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from advbench.api import SampleRandom
from advbench_defenses.transformations.quilting import ImageQuilting
from benchmarks.breaks.replaced import Approximation, blur, identity
from benchmarks.breaks.runner import main


def soft_choice(defense: ImageQuilting, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The defense's own soft choice between the nearest patches."""
    del output
    return defense.approximation(images, rng)


def soft_choice_and_identity(
    defense: ImageQuilting, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom
) -> torch.Tensor:
    """Both gradients together, since either one has little to say for some patches."""
    return soft_choice(defense, images, output, rng) + images


APPROXIMATIONS: Mapping[str, Approximation] = {
    "identity": identity,
    "soft choice": soft_choice,
    "both": soft_choice_and_identity,
    "blur": blur(1.0),
}

if __name__ == "__main__":
    main("quilting", __doc__, approximations=APPROXIMATIONS)
