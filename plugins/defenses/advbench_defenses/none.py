"""The undefended baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from advbench.api import Defense

if TYPE_CHECKING:
    import torch

    from advbench.api import SampleRandom

__all__ = ["NoDefense"]


@dataclass(frozen=True)
class NoDefense(Defense):
    """The undefended baseline: returns the images unchanged."""

    name = "none"
    self_contained = True
    identity = True
    differentiable = True

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the images themselves."""
        del rng
        return images
