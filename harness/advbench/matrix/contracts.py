"""Checks at the border: what components return is held to their contracts before it is stored."""

from __future__ import annotations

import torch

from advbench.api import Attack, Budget, ContractError

__all__ = ["check_adversarial", "check_defended", "check_logits", "check_unchanged", "distances"]

TOLERANCE = 1e-6
"""How far float32 arithmetic may carry an image beyond its range or its budget."""


def check_adversarial(attack: Attack, clean: torch.Tensor, adversarial: object) -> torch.Tensor:
    """Holds an attack's images to its contract: form, values in [0, 1], budget.

    Raises:
        ContractError: They break it; the message names the attack, what was expected and what was seen.
    """
    label = f"attack {attack.name!r}"
    images = _check_form(label, clean, adversarial)
    low, high = float(images.min()), float(images.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ContractError(f"{label} returned pixels from {low:.6g} to {high:.6g}; images are in [0, 1]")
    budget = attack.budget()
    if budget is not None:
        furthest = float(distances(clean, images, budget).max())
        if furthest > budget.eps * (1 + TOLERANCE) + TOLERANCE:
            raise ContractError(
                f"{label} went {furthest:.6g} from the image in {budget.norm}; its budget is {budget.eps:.6g}"
            )
    return images


def check_defended(name: str, images: torch.Tensor, defended: object) -> torch.Tensor:
    """Holds a defense's images to its contract: form and finite values.

    Raises:
        ContractError: They break it.
    """
    return _check_form(f"defense {name!r}", images, defended)


def check_unchanged(label: str, before: torch.Tensor, after: torch.Tensor) -> None:
    """Raises ContractError when a component changed its input."""
    if not torch.equal(before, after):
        raise ContractError(f"{label} changed its input images in place; components work on a copy")


def check_logits(name: str, logits: object, count: int, classes: int) -> torch.Tensor:
    """Holds a model's output to its contract: finite logits of shape (batch, classes).

    Raises:
        ContractError: It breaks it.
    """
    label = f"model {name!r}"
    if not isinstance(logits, torch.Tensor):
        raise ContractError(f"{label} returned {type(logits).__name__}, not a tensor of logits")
    if tuple(logits.shape) != (count, classes):
        raise ContractError(f"{label} returned shape {tuple(logits.shape)}; expected {(count, classes)}")
    if not bool(torch.isfinite(logits).all()):
        raise ContractError(f"{label} returned logits that are not finite")
    return logits


def distances(clean: torch.Tensor, other: torch.Tensor, budget: Budget) -> torch.Tensor:
    """Distance of each image from its clean one in the budget's norm: float64, shape (batch,)."""
    difference = (other.double() - clean.double()).flatten(1).abs()
    if budget.norm == "linf":
        return difference.amax(dim=1)
    if budget.norm == "l2":
        return difference.square().sum(dim=1).sqrt()
    if budget.norm == "l1":
        return difference.sum(dim=1)
    return (difference > 0).sum(dim=1).double()


def _check_form(label: str, reference: torch.Tensor, images: object) -> torch.Tensor:
    if not isinstance(images, torch.Tensor):
        raise ContractError(f"{label} returned {type(images).__name__}, not a tensor")
    if images.shape != reference.shape:
        raise ContractError(f"{label} returned shape {tuple(images.shape)}; expected {tuple(reference.shape)}")
    if images.dtype != torch.float32:
        raise ContractError(f"{label} returned {images.dtype}; images are torch.float32")
    if images.device != reference.device:
        raise ContractError(f"{label} returned images on {images.device}; they were given on {reference.device}")
    if not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images)).flatten(1).any(dim=1).sum())
        raise ContractError(f"{label} returned NaN or infinite pixels in {bad} of {len(images)} images")
    return images.detach()
