"""Checks of what attacks return."""

from __future__ import annotations

import torch

from advbench.api import Attack, ContractError, Crafted
from advbench.contracts.budgets import check_budget
from advbench.contracts.images import TOLERANCE, check_form, distances

__all__ = ["NOTES", "check_adversarial", "check_crafted", "check_note"]

NOTES = ("component",)
"""The names of notes that an attack may return for each sample."""


def check_crafted(attack: Attack, returned: object) -> Crafted:
    """Checks the form of what :meth:`advbench.api.Attack.craft` returned.

    Raises:
        ContractError: It is neither a tensor nor a :class:`advbench.api.Crafted`.
    """
    if isinstance(returned, Crafted):
        return returned
    if isinstance(returned, tuple):
        raise ContractError(
            f"attack {attack.name!r} returned a tuple from craft(); return a tensor or Crafted(images, notes)"
        )
    return Crafted(returned)  # type: ignore[arg-type]  # check_adversarial rejects what is no tensor


def check_adversarial(attack: Attack, clean: torch.Tensor, adversarial: object) -> torch.Tensor:
    """Checks the form, the range [0, 1] and the budget of an attack's images.

    Raises:
        ContractError: A check failed; the message names the attack, what was expected and what it returned.
    """
    label = f"attack {attack.name!r}"
    images = check_form(label, clean, adversarial)
    low, high = float(images.min()), float(images.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ContractError(
            f"{label} returned pixels from {_format(low, 0)} to {_format(high, 1)}; images are in [0, 1]"
        )
    budget = check_budget(attack)
    if budget is not None:
        furthest = float(distances(clean, images, budget).max())
        if furthest > budget.eps * (1 + TOLERANCE) + TOLERANCE:
            distance = f"went {_format(furthest, budget.eps)} from the image in {budget.norm}"
            raise ContractError(f"{label} {distance}; its budget is {budget.eps:.6g}")
    return images


def check_note(attack: Attack, name: str, note: object, labels: torch.Tensor) -> torch.Tensor:
    """Checks a note: one whole number for each sample, from -1 to the index of the last component.

    Returns:
        The note as int8, shape (batch,).

    Raises:
        ContractError: The note is something else.
    """
    last = len(attack.component_names()) - 1
    valid = isinstance(note, torch.Tensor) and note.shape == labels.shape and not note.is_floating_point()
    if not valid or not -1 <= int(note.min()) <= int(note.max()) <= last:  # type: ignore[attr-defined]
        raise ContractError(
            f"attack {attack.name!r} returned an invalid note {name!r}; expected one whole number from -1 to {last} "
            "for each sample"
        )
    assert isinstance(note, torch.Tensor)
    return note.to(torch.int8)


def _format(value: float, bound: float) -> str:
    """A number with as many digits as it takes to see on which side of a bound it lies."""
    texts = [f"{value:.{digits}g}" for digits in (6, 8, 12, 17)]
    return next((text for text in texts if value == bound or (float(text) - bound) * (value - bound) > 0), texts[-1])
