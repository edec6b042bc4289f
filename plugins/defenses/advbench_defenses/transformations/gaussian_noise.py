"""Gaussian noise as a defense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from advbench.api import Defense, param

if TYPE_CHECKING:
    import torch

    from advbench.api import SampleRandom

__all__ = ["GaussianNoise"]


@dataclass(frozen=True)
class GaussianNoise(Defense):
    """Adds Gaussian noise to each value, and clips the result to [0, 1].

    One noisy copy decides. The defense ``smoothing`` is a vote over many copies, with certificates. The network should
    be one that was trained with such noise.

    Args:
        sigma: Standard deviation of the noise, for pixels in [0, 1].
    """

    name = "gaussian-noise"
    self_contained = True
    differentiable = True
    source = "Li, Chen, Wang and Carin 2019, Certified Adversarial Robustness with Additive Noise, section 3"
    sigma: float = param(0.25, min=0, max=1000, help="standard deviation of the noise, for pixels in [0, 1]")

    @property
    def stochastic(self) -> bool:
        """Whether there is any noise."""
        return self.sigma > 0

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the noisy images."""
        if not self.sigma:
            return images
        return (images + self.sigma * rng.normal(*images.shape[1:]).to(images)).clamp(0, 1)
