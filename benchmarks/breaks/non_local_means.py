"""Breaks `non-local-means`: with its weights fixed it is linear, and autograd also follows the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from advbench.api import SampleRandom
from advbench_defenses.non_local_means import non_local_means
from advbench_defenses.transformations.non_local_means import NonLocalMeans
from benchmarks.breaks.replaced import Approximation, blur, identity, own
from benchmarks.breaks.runner import main


def all_weights(defense: NonLocalMeans, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The filter, differentiated through its weights, too."""
    del output, rng
    return (
        non_local_means(images, defense.strength / 255, defense.search, defense.patch) if defense.strength else images
    )


APPROXIMATIONS: Mapping[str, Approximation] = {
    "fixed weights": own,
    "identity": identity,
    "all weights": all_weights,
    "blur": blur(0.5),
}

if __name__ == "__main__":
    main("non-local-means", __doc__, approximations=APPROXIMATIONS)
