"""Checks of what defenses return."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench.api import ContractError, Defense, SampleRandom
from advbench.contracts.images import check_form

__all__ = ["RANGE_SLACK", "Approximation", "check_approximations", "check_defended", "check_range"]

Approximation: TypeAlias = Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]
"""Takes images, the defense's output for them and random streams; returns images with a gradient."""

RANGE_SLACK, RANDOM_RANGE_SLACK = 0.5, 20.0
"""How far outside [0, 1] the pixels of a deterministic and of a stochastic defense may lie.

Pixels farther outside are on another scale."""


def check_defended(name: str, images: torch.Tensor, defended: object) -> torch.Tensor:
    """Checks the form of a defense's images, and that they are finite.

    Raises:
        ContractError: A check failed.
    """
    return check_form(f"defense {name!r}", images, defended)


def check_range(name: str, defended: torch.Tensor, *, stochastic: bool) -> None:
    """Checks that a defense's images are on the scale of its input.

    Raises:
        ContractError: Pixels are so far outside [0, 1] that they are on another scale.
    """
    slack = RANDOM_RANGE_SLACK if stochastic else RANGE_SLACK
    low, high = float(defended.min()), float(defended.max())
    if low < -slack or high > 1 + slack:
        raise ContractError(
            f"defense {name!r} returned pixels from {low:.6g} to {high:.6g}; images must stay in about [0, 1]; "
            "a model that needs another scale rescales its input itself"
        )


def check_approximations(defense: Defense, before: int | None = None) -> tuple[Approximation, ...]:
    """A defense's approximations, at least one.

    Args:
        defense: The defense.
        before: How many approximations it returned at an earlier call, if there was one.

    Raises:
        ContractError: The defense returned something else, or another number of approximations than before.
    """
    returned: object = defense.approximations()
    if not isinstance(returned, tuple) or not returned or not all(map(callable, returned)):
        raise ContractError(
            f"defense {defense.name!r} returned {returned!r} from approximations(); "
            "return a tuple of at least one function of (images, output, rng)"
        )
    if before is not None and len(returned) != before:
        raise ContractError(
            f"defense {defense.name!r} returned {len(returned)} functions from approximations(), and {before} at an "
            "earlier call; return as many at every call"
        )
    return returned
