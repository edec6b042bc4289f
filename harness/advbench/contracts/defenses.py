"""What defenses return, held to its contract."""

from __future__ import annotations

import torch

from advbench.api import ContractError
from advbench.contracts.images import check_form

__all__ = ["RANGE_SLACK", "check_defended", "check_range"]

RANGE_SLACK, RANDOM_RANGE_SLACK = 0.5, 20.0
"""How far beyond [0, 1] a defense's pixels may lie, and those of one that adds noise: beyond it is another scale."""


def check_defended(name: str, images: torch.Tensor, defended: object) -> torch.Tensor:
    """Holds a defense's images to its contract: form and finite values.

    Raises:
        ContractError: They break it.
    """
    return check_form(f"defense {name!r}", images, defended)


def check_range(name: str, defended: torch.Tensor, *, stochastic: bool) -> None:
    """Holds a defense's images to the scale of the images that it was given.

    Raises:
        ContractError: Pixels are so far outside [0, 1] that they are of another scale.
    """
    slack = RANDOM_RANGE_SLACK if stochastic else RANGE_SLACK
    low, high = float(defended.min()), float(defended.max())
    if low < -slack or high > 1 + slack:
        raise ContractError(
            f"defense {name!r} returned pixels from {low:.6g} to {high:.6g}; images stay in about [0, 1], and what "
            "a model needs beyond that, such as another scale, is inside the model"
        )
