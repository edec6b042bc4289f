"""The contract of defenses."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from advbench._deprecated import renamed_members
from advbench.api.component import Component

if TYPE_CHECKING:
    import torch

    from advbench.api.randomness import SampleRandom

__all__ = ["Defense"]


@renamed_members("0.2", "0.4", misfit="incompatibility")
@dataclasses.dataclass(frozen=True)
class Defense(Component):
    """Transforms images before the model sees them.

    Attributes:
        identity: Whether it leaves every image as it is: the undefended baseline.
        differentiable: Whether autograd can go through :meth:`apply` itself. Adaptive attacks then do, and
            :meth:`approximation` is not asked.
    """

    identity: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False

    @abstractmethod
    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Transforms one batch.

        Args:
            images: float32 in [0, 1], shape (batch, channels, height, width), on any device. Not to be changed.
            rng: The samples' random streams; the only source of randomness a defense may use.

        Returns:
            Images of the same shape, dtype and device, finite, and of the same scale: in about [0, 1]. The
            model is given them as they are; more than .5 outside, or 20 where it is stochastic, is an error.
        """

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """A differentiable stand-in for :meth:`apply`, whose gradient adaptive attacks take for its own (BPDA).

        The forward pass of an adaptive attack is always ``apply``. The identity, which this is unless a defense
        knows better, serves wherever the transformed image is near the image.

        Args:
            images: As for :meth:`apply`; a gradient may be asked through them.
            rng: Streams that draw the same numbers as those that ``apply`` is given.

        Returns:
            Images of the same shape, dtype and device, through which autograd finds its way to ``images``.

        Source: Athalye, Carlini and Wagner 2018, Obfuscated Gradients Give a False Sense of Security, section 4.1.
        """
        del rng
        return images

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
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
