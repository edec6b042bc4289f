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

    def misfit(self, image_shape: tuple[int, int, int]) -> str:
        """Why images of this shape (channels, height, width) cannot pass the chain, as its first part that cannot says.

        Defenses keep the shape, so each part is asked about the same one.
        """
        return next((reason for part in self.parts if (reason := part.misfit(image_shape))), "")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Transforms a batch; each place in the chain has random streams of its own."""
        for place, part in enumerate(self.parts):
            images = part.apply(images, rng.derive(f"{place}:{part.name}"))
        return images
