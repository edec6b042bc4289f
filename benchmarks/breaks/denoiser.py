"""Breaks `denoiser`: autograd, its mean over noisy images, the identity and a blur."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from advbench.api import SampleRandom
from advbench_defenses.generative.denoiser import Denoiser
from benchmarks.breaks.replaced import Approximation, autograd, blur, identity
from benchmarks.breaks.runner import main

NOISE, COPIES = 0.02, 4


def smoothed(defense: Denoiser, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The mean of the denoised images of noisy copies, whose gradient changes less from step to step."""
    del output
    copies = [images + NOISE * rng.normal(*images.shape[1:]).to(images) for _ in range(COPIES)]
    return torch.stack([defense.apply(copy, rng) for copy in copies]).mean(dim=0)


APPROXIMATIONS: Mapping[str, Approximation] = {
    "autograd": autograd,
    "smoothed": smoothed,
    "identity": identity,
    "blur": blur(0.5),
}

if __name__ == "__main__":
    main("denoiser", __doc__, approximations=APPROXIMATIONS)
