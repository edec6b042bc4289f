"""The identity as an approximation of a defense."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from advbench.api import SampleRandom

__all__ = ["identity_approximation"]


def identity_approximation(images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """Returns the images; one of the functions that :meth:`advbench.api.Defense.approximations` returns."""
    del output, rng
    return images
