"""What attacks return, held to their contract."""

from __future__ import annotations

import math
from typing import get_args

import torch

from advbench.api import Attack, Budget, ContractError, Norm
from advbench.contracts.images import TOLERANCE, check_form, distances

__all__ = ["NOTES", "check_adversarial", "check_budget", "check_norm", "check_note"]

NOTES = ("component",)
"""What an attack may tell of each sample."""


def check_adversarial(attack: Attack, clean: torch.Tensor, adversarial: object) -> torch.Tensor:
    """Holds an attack's images to its contract: form, values in [0, 1], budget.

    Raises:
        ContractError: They break it; the message names the attack, what was expected and what was seen.
    """
    label = f"attack {attack.name!r}"
    images = check_form(label, clean, adversarial)
    low, high = float(images.min()), float(images.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ContractError(f"{label} returned pixels from {_told(low, 0)} to {_told(high, 1)}; images are in [0, 1]")
    budget = check_budget(attack)
    if budget is not None:
        furthest = float(distances(clean, images, budget).max())
        if furthest > budget.eps * (1 + TOLERANCE) + TOLERANCE:
            told = f"went {_told(furthest, budget.eps)} from the image in {budget.norm}"
            raise ContractError(f"{label} {told}; its budget is {budget.eps:.6g}")
    return images


def check_note(attack: Attack, name: str, note: object, labels: torch.Tensor) -> torch.Tensor:
    """Holds what an attack tells of each sample to its contract: whole numbers from -1 to the last component's place.

    Raises:
        ContractError: It breaks it.
    """
    last = len(attack.component_names()) - 1
    valid = isinstance(note, torch.Tensor) and note.shape == labels.shape and not note.is_floating_point()
    if not valid or not -1 <= int(note.min()) <= int(note.max()) <= last:  # type: ignore[attr-defined]
        raise ContractError(
            f"attack {attack.name!r} tells of {name!r} what is not one whole number from -1 to {last} a sample"
        )
    assert isinstance(note, torch.Tensor)
    return note.to(torch.int8)


def check_budget(attack: Attack) -> Budget | None:
    """The attack's budget, held to its contract.

    Raises:
        ContractError: It is none that images can be held to.
    """
    budget = attack.budget()
    if budget is None:
        return None
    valid = isinstance(budget, Budget) and budget.norm in get_args(Norm) and math.isfinite(budget.eps)
    if not valid or budget.eps < 0:
        raise ContractError(f"attack {attack.name!r} has the budget {budget!r}; expected a Budget(norm, eps) or None")
    return budget


def check_norm(attack: Attack) -> Norm | None:
    """The norm of the attack's budget, or that a minimal attack keeps small, held to its contract.

    Raises:
        ContractError: There is no such norm, or the budget is none that images can be held to.
    """
    budget = check_budget(attack)
    norm = attack.minimises() if budget is None else budget.norm
    if norm is not None and norm not in get_args(Norm):
        expected = ", ".join(get_args(Norm))
        raise ContractError(f"attack {attack.name!r} minimises {norm!r}; expected one of {expected}, or None")
    return norm


def _told(value: float, bound: float) -> str:
    """A number with as many digits as it takes to see on which side of a bound it lies."""
    texts = [f"{value:.{digits}g}" for digits in (6, 8, 12, 17)]
    return next((text for text in texts if value == bound or (float(text) - bound) * (value - bound) > 0), texts[-1])
