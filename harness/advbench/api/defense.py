"""The contract of defenses."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING

from advbench.api.component import Component

if TYPE_CHECKING:
    import torch

    from advbench.api.randomness import SampleRandom

__all__ = ["Defense"]


@dataclasses.dataclass(frozen=True)
class Defense(Component):
    """Transforms images before the model sees them."""

    @abstractmethod
    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Transforms one batch.

        Args:
            images: float32 in [0, 1], shape (batch, channels, height, width), on any device. Not to be changed.
            rng: The samples' random streams; the only source of randomness a defense may use.

        Returns:
            Images of the same shape, dtype and device, finite. Whether they stay in [0, 1] is the
            defense's own affair; the model is given them as they are.
        """

    def misfit(self, image_shape: tuple[int, int, int]) -> str:
        """Why images of this shape cannot be transformed.

        Asked before anything else; cells of a dataset whose images do not fit are skipped with this reason.

        Args:
            image_shape: (channels, height, width).

        Returns:
            The reason, in words that name the defense and the shape; empty where they can be transformed.
        """
        del image_shape
        return ""

    @property
    def stochastic(self) -> bool:
        """Whether two applications to the same image may differ in anything but their streams."""
        return False

    def weights_digest(self) -> str | None:
        """SHA-256 of trained weights that the defense uses, or None; a part of every key.

        Raises:
            WeightsError: The weights are missing or damaged; the message names the command that makes them.
        """
        return None
