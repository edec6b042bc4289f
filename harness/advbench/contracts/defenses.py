"""Checks of what defenses return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from advbench.api import Answer, ContractError, Defense, SampleRandom, transforms_images
from advbench.api.devices import widest_float
from advbench.contracts.images import check_finite, check_form

__all__ = [
    "RANGE_SLACK",
    "Approximation",
    "check_approximations",
    "check_classified",
    "check_defended",
    "check_range",
    "check_votes",
    "count_votes",
]

Approximation: TypeAlias = Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]
"""Takes images, the defense's output for them and random streams; returns images with a gradient."""

RANGE_SLACK, RANDOM_RANGE_SLACK = 0.5, 20.0
"""How far outside [0, 1] the pixels of a deterministic and of a stochastic defense may lie.

Pixels farther outside are on another scale."""


_VOTE_SLACK = 0.05
"""How far a share times the number of votes may be from a whole number, for rounding and for classes without a vote."""


def check_defended(
    name: str, images: torch.Tensor, defended: object, image_shape: tuple[int, ...] | None = None
) -> torch.Tensor:
    """Checks the form of a defense's images, and that they are finite.

    Args:
        name: The defense's name.
        images: The images that it got.
        defended: What it returned.
        image_shape: The expected shape of one image; None for that of the images.

    Raises:
        ContractError: A check failed.
    """
    return check_form(f"defense {name!r}", images, defended, image_shape)


def check_classified(name: str, method: str, returned: object, images: torch.Tensor) -> Answer:
    """Checks the form of what a defense returned for a batch that it classified, and that it is finite.

    Args:
        name: The defense's name.
        method: The method that returned it, for messages.
        returned: What it returned.
        images: The images that it got.

    Raises:
        ContractError: A check failed.
    """
    label, count = f"defense {name!r}", len(images)
    answer = returned if isinstance(returned, Answer) else Answer(returned)  # type: ignore[arg-type]
    logits: object = answer.logits
    if not isinstance(logits, torch.Tensor):
        raise ContractError(
            f"{label} returned {type(logits).__name__} from {method}(); expected logits of shape (batch, classes), "
            "or an Answer"
        )
    if logits.ndim != 2 or len(logits) != count:
        raise ContractError(
            f"{label} returned logits of shape {tuple(logits.shape)} from {method}(); expected ({count}, classes)"
        )
    check_finite(logits, f"{label} returned NaN or infinite logits from {method}() for {{bad}} of {{count}} images")
    score: object = answer.score
    if score is not None:
        no_number = f"{label} returned a score from {method}() that is not a finite number for each image"
        if not isinstance(score, torch.Tensor) or score.shape != (count,):
            raise ContractError(no_number)
        check_finite(score, no_number)
    return answer


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


def check_approximations(defense: Defense, before: int | None = None) -> tuple[Callable[..., Any], ...]:
    """A defense's approximations, or the views of one that classifies, at least one.

    Args:
        defense: The defense.
        before: How many approximations it returned at an earlier call, if there was one.

    Raises:
        ContractError: The defense returned something else, or another number of approximations than before.
    """
    method, arguments = "approximations", "images, output, rng"
    if not transforms_images(defense):
        method, arguments = "attacked_views", "network, images, rng, fitted"
    returned: object = getattr(defense, method)()
    if not isinstance(returned, tuple) or not returned or not all(map(callable, returned)):
        raise ContractError(
            f"defense {defense.name!r} returned {returned!r} from {method}(); "
            f"return a tuple of at least one function of ({arguments})"
        )
    if before is not None and len(returned) != before:
        raise ContractError(
            f"defense {defense.name!r} returned {len(returned)} functions from {method}(), and {before} at an "
            "earlier call; return as many at every call"
        )
    return returned


def count_votes(logits: torch.Tensor, votes: int) -> torch.Tensor:
    """The votes for each class in logits that are log shares of so many votes: int64, shape (batch, classes)."""
    return (logits.to(widest_float(logits.device)).exp() * votes).round().to(torch.int64)


def check_votes(defense: Defense, logits: torch.Tensor) -> None:
    """Checks that a defense's logits are log shares of as many votes as it declares, if it declares any.

    Raises:
        ContractError: They are not.
    """
    votes = defense.votes
    if votes is None:
        return
    if isinstance(votes, bool) or not isinstance(votes, int) or votes < 1:
        raise ContractError(f"defense {defense.name!r} has votes = {votes!r}; expected None or a whole number above 0")
    counts = logits.to(widest_float(logits.device)).exp() * votes
    whole = bool(((counts - counts.round()).abs() <= _VOTE_SLACK).all())
    if not whole or bool((count_votes(logits, votes).sum(dim=1) != votes).any()):
        raise ContractError(
            f"defense {defense.name!r} declares votes = {votes}, and its logits are not log shares of {votes} votes; "
            "use advbench.api.log_shares(counts)"
        )
