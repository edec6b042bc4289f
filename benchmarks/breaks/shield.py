"""Breaks `shield`: the differentiable JPEG of the drawn qualities, that of one middle quality, or the identity."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from advbench.api import SampleRandom
from advbench_defenses.jpeg_gradient import differentiable_jpeg
from advbench_defenses.transformations.shield import Shield
from benchmarks.breaks.replaced import Approximation, blur, identity, own
from benchmarks.breaks.runner import main


def middle_quality(defense: Shield, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """One differentiable JPEG for all blocks, of the mean quality."""
    del output, rng
    return differentiable_jpeg(images, (defense.lowest + defense.highest) // 2)


APPROXIMATIONS: Mapping[str, Approximation] = {
    "differentiable JPEG": own,
    "identity": identity,
    "middle quality": middle_quality,
    "blur": blur(0.7),
}

if __name__ == "__main__":
    main("shield", __doc__, approximations=APPROXIMATIONS)
