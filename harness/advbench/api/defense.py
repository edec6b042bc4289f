"""The contract of defenses."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from advbench._deprecated import renamed_members
from advbench.api.component import Component

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from advbench.api.attack import Access
    from advbench.api.randomness import SampleRandom

__all__ = ["Defense"]


@renamed_members("0.2", "0.4", misfit="incompatibility")
@dataclasses.dataclass(frozen=True)
class Defense(Component):
    """Transforms images before the model classifies them.

    Attributes:
        identity: Whether the defense returns every image unchanged, as the undefended baseline does.
        differentiable: Whether autograd can differentiate :meth:`apply`. Adaptive attacks then use its gradient and do
            not call :meth:`approximations`.
        needs: What the defense needs of the model, in the words of :attr:`advbench.api.Model.gives`. Cells with models
            that give less are skipped. May be a property.
    """

    identity: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    needs: ClassVar[Access] = "labels"

    @abstractmethod
    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Transforms one batch.

        Args:
            images: float32 in [0, 1], shape (batch, channels, height, width), on any device. Do not change them.
            rng: The samples' random streams; the only source of randomness a defense may use.

        Returns:
            Images of the same shape, dtype and device, finite, and approximately in [0, 1]. They are passed to the
            model without clipping. A pixel more than 0.5 outside [0, 1] is an error; for stochastic defenses, more
            than 20.
        """

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """A differentiable approximation of :meth:`apply`, for the backward pass of adaptive attacks (BPDA).

        The forward pass of an adaptive attack is always ``apply``. The default is the identity, which is adequate
        if the transformed image is close to the original.

        Args:
            images: As for :meth:`apply`; they may require a gradient.
            rng: Streams that draw the same numbers as those passed to ``apply``.

        Returns:
            Images of the same shape, dtype and device, connected to ``images`` in the autograd graph.

        Source: Athalye, Carlini and Wagner 2018, Obfuscated Gradients Give a False Sense of Security, section 4.1.
        """
        del rng
        return images

    def approximation_from_output(self, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The same as :meth:`approximation`, for a caller that has the output of :meth:`apply`.

        Adaptive attacks call this method, unless :meth:`approximations` returns others. Override it if the
        approximation depends on the output and computing the output again would be expensive, and let
        :meth:`approximation` call it. The default ignores the output.

        Args:
            images: As for :meth:`approximation`.
            output: What ``apply`` returned for these images and this ``rng``, without a gradient. Do not change it.
            rng: As for :meth:`approximation`.

        Returns:
            As :meth:`approximation`.
        """
        del output
        return self.approximation(images, rng)

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """All approximations that adaptive attacks try, each called as :meth:`approximation_from_output`.

        Override it if no single approximation is best for all images and attacks. An adaptive attack that uses
        gradients then runs once with each of them, and each sample keeps its best result. So its time multiplies, up to
        the samples that an earlier approximation has already broken. The result is chosen on random draws that are not
        used for scoring.

        In a chain, run i uses approximation i of each part, or its last one if it has fewer.

        Returns:
            At least one function of ``(images, output, rng)``, as many at every call. The default is
            ``approximation_from_output`` alone.
        """
        return (self.approximation_from_output,)

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Why images of this shape cannot be transformed.

        Called before any other method. If the shape is not supported, the cells are skipped, with this reason.

        Args:
            image_shape: (channels, height, width).

        Returns:
            The reason, in words that name the defense and the shape; empty if the images can be transformed.
        """
        del image_shape
        return ""

    @property
    def stochastic(self) -> bool:
        """Whether the output depends on random numbers, so that two calls on one image may differ."""
        return False

    def weights_digest(self) -> str | None:
        """SHA-256 of the trained weights that the defense uses, or None; a part of every key.

        Raises:
            WeightsError: The weights are missing or damaged; the message names the command that creates them.
        """
        return None
