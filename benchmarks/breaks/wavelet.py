"""Breaks `wavelet`: soft thresholds cut the gradient of small details, a smooth shrinkage does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from advbench.api import SampleRandom
from advbench_defenses.transformations.wavelet import WaveletDenoising
from benchmarks.breaks.replaced import Approximation, identity, own
from benchmarks.breaks.runner import main


class SmoothShrinkage(WaveletDenoising):
    """Shrinks details d with the threshold t to d³ / (d² + t²)."""

    def _threshold(self, details: torch.Tensor) -> torch.Tensor:
        variance = details.detach().square().mean(dim=(2, 3), keepdim=True)
        smallest = torch.finfo(details.dtype).eps
        threshold = self.sigma**2 / (variance - self.sigma**2).clamp(min=smallest).sqrt()
        kept = details**2 / (details**2 + threshold**2 + smallest)
        return details * kept


def smooth_shrinkage(
    defense: WaveletDenoising, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom
) -> torch.Tensor:
    """The denoising with :class:`SmoothShrinkage`."""
    del output
    return SmoothShrinkage(**dataclasses.asdict(defense)).approximation(images, rng)


APPROXIMATIONS: Mapping[str, Approximation] = {
    "autograd": own,
    "identity": identity,
    "smooth shrinkage": smooth_shrinkage,
}

if __name__ == "__main__":
    main("wavelet", __doc__, approximations=APPROXIMATIONS)
