"""Weather: brightness and fog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from advbench.api import SampleRandom
from advbench_attacks.corruptions.corruption import CommonCorruption
from advbench_attacks.corruptions.plasma import plasma

__all__ = ["Brightness", "Fog"]


@dataclass(frozen=True)
class Brightness(CommonCorruption):
    """More brightness: the constant is added to the value of HSV, and hue and saturation are kept."""

    name: ClassVar[str] = "brightness"
    constants: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.15, 0.2, 0.3)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Scales the channels of each pixel to the new value, which is the largest of them; black becomes grey."""
        del rng
        value = images.amax(dim=1, keepdim=True)
        brighter = (value + self._constant).clamp(max=1)
        colours = torch.where(value > 0, images / value.clamp(min=1e-12), 1.0)
        return colours.mul(brighter)


@dataclass(frozen=True)
class Fog(CommonCorruption):
    """Fog of random density; the constants are its strength and how fast its random details decay with their size."""

    name: ClassVar[str] = "fog"
    depends_on: ClassVar[tuple[str, ...]] = ("numpy",)
    constants: ClassVar[tuple[tuple[float, float], ...]] = (
        *((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    )

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Adds the fog, and scales the result so that the brightest value stays the brightest."""
        strength, decay = self._constant
        height, width = images.shape[2:]
        fogs = [
            plasma(max(height, width), decay, np.random.Generator(np.random.Philox(key=seed)))[:height, :width]
            for seed in rng.seeds()
        ]
        brightest = images.amax(dim=(1, 2, 3), keepdim=True)
        foggy: torch.Tensor = images + strength * torch.from_numpy(np.stack(fogs)[:, None]).to(images)
        return foggy.mul(brightest).div(brightest + strength)
