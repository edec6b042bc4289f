"""A chain of defenses, applied left to right."""

from __future__ import annotations

import dataclasses

import torch

from advbench.api import Defense, SampleRandom

__all__ = ["Chain"]


@dataclasses.dataclass(frozen=True)
class Chain:
    """One defense or several in a row, such as ``jpeg+tvm``.

    Attributes:
        parts: The defenses, in the order in which the images pass them.
    """

    parts: tuple[Defense, ...]

    @property
    def stochastic(self) -> bool:
        """Whether any part is."""
        return any(part.stochastic for part in self.parts)

    @property
    def identity(self) -> bool:
        """Whether it leaves every image as it is."""
        return all(part.identity for part in self.parts)

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Why images of this shape (channels, height, width) cannot pass the chain, as its first part that cannot says.

        Defenses keep the shape, so each part is asked about the same one.
        """
        return next((reason for part in self.parts if (reason := part.incompatibility(image_shape))), "")

    def streams(self, place: int, rng: SampleRandom) -> SampleRandom:
        """The random streams of the part at a place, from 0: each has its own, and at every call from their start."""
        return rng.derive(f"{place}:{self.parts[place].name}")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Transforms a batch."""
        for place, part in enumerate(self.parts):
            images = part.apply(images, self.streams(place, rng))
        return images
