"""Fewer bits for each value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Defense, param
from advbench_defenses.identity_approximation import identity_approximation
from advbench_defenses.transformations.rounding import soft_rounding

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import SampleRandom

__all__ = ["BitDepth"]

_DEPTH = 0.8
"""The slope of the approximation at the levels is 1 minus this: with 0, attacks could not leave a level."""


@dataclass(frozen=True)
class BitDepth(Defense):
    """Rounds each value to a few bits.

    ``rounding=xu`` rounds to multiples of 1 / (2^bits − 1), which are 2^bits levels. ``rounding=guo`` rounds to
    multiples of 1 / 2^bits, as the code of Guo et al. does; these are 2^bits + 1 levels.

    Args:
        bits: Bits of a value.
        rounding: Which levels there are.
    """

    name = "bit-depth"
    self_contained = True
    source = (
        "Xu, Evans and Qi 2018, Feature Squeezing, section III.A (1 bit for MNIST, 5 for CIFAR-10); Guo, Rana, Cisse "
        "and van der Maaten 2018, Countering Adversarial Images using Input Transformations, section 4.1 (3 bits)"
    )
    bits: int = param(3, min=1, max=8, help="bits of a value")
    rounding: str = param("xu", choices=("xu", "guo"), help="xu: 2^bits levels; guo: 2^bits + 1 levels")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the rounded images."""
        del rng
        return (images.detach() * self._steps).round_().div_(self._steps)

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the images with a soft rounding; see :func:`soft_rounding`."""
        del rng
        return soft_rounding(images, self._steps, _DEPTH)

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns the soft rounding and the identity."""
        return (self.approximation_from_output, identity_approximation)

    @property
    def _steps(self) -> int:
        """The number of steps from 0 to 1."""
        return (1 << self.bits) - (self.rounding == "xu")
