"""Noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from advbench.api import SampleRandom
from advbench_attacks.corruptions.corruption import CommonCorruption

__all__ = ["GaussianNoise", "ImpulseNoise", "ShotNoise", "SpeckleNoise"]


@dataclass(frozen=True)
class GaussianNoise(CommonCorruption):
    """Gaussian noise of one standard deviation in all values."""

    name: ClassVar[str] = "gaussian-noise"
    constants: ClassVar[tuple[float, ...]] = (0.04, 0.06, 0.08, 0.09, 0.10)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Adds the noise."""
        noise = rng.normal(*images.shape[1:]).to(images)
        return images.add(noise, alpha=self._constant)


@dataclass(frozen=True)
class ShotNoise(CommonCorruption):
    """Poisson noise of the number of photons: a white pixel has as many as the severity's constant, on average."""

    name: ClassVar[str] = "shot-noise"
    depends_on: ClassVar[tuple[str, ...]] = ("numpy",)
    constants: ClassVar[tuple[float, ...]] = (500.0, 250.0, 100.0, 75.0, 50.0)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Draws the number of photons of each value."""
        photons = (images * self._constant).cpu().numpy()
        generators = [np.random.Generator(np.random.Philox(key=seed)) for seed in rng.seeds()]
        drawn = [generator.poisson(mean) for generator, mean in zip(generators, photons, strict=True)]
        return torch.from_numpy(np.stack(drawn)).to(images).div(self._constant)


@dataclass(frozen=True)
class ImpulseNoise(CommonCorruption):
    """Salt and pepper: a share of the values, each channel for itself, becomes 0 or 1 with equal probability."""

    name: ClassVar[str] = "impulse-noise"
    constants: ClassVar[tuple[float, ...]] = (0.01, 0.02, 0.03, 0.05, 0.07)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Replaces values."""
        shape = images.shape[1:]
        replaced = rng.bernoulli(self._constant, *shape).to(images.device)
        return torch.where(replaced, rng.bernoulli(0.5, *shape).to(images), images)


@dataclass(frozen=True)
class SpeckleNoise(CommonCorruption):
    """Gaussian noise whose standard deviation is proportional to the value."""

    name: ClassVar[str] = "speckle-noise"
    constants: ClassVar[tuple[float, ...]] = (0.06, 0.1, 0.12, 0.16, 0.2)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Multiplies by the noise."""
        noise = rng.normal(*images.shape[1:]).to(images)
        return images.addcmul(images, noise, value=self._constant)
