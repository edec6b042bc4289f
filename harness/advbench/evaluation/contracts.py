"""Checks at the border: what components return is held to their contracts before it is stored."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

import torch

from advbench.api import Attack, Budget, ContractError, Dataset, LabelledImages, Norm, clip_dust

__all__ = [
    "ASTRAY",
    "NOTES",
    "are_probabilities",
    "check_adversarial",
    "check_budget",
    "check_dataset",
    "check_defended",
    "check_form",
    "check_logits",
    "check_norm",
    "check_note",
    "check_range",
    "check_unchanged",
    "distances",
]

NOTES = ("component",)
"""What an attack may tell of each sample."""

TOLERANCE = 1e-6
"""How far float32 arithmetic may carry an image beyond its range or its budget."""

ASTRAY, ASTRAY_BY_CHANCE = 0.5, 20.0
"""How far beyond [0, 1] a defense's pixels may lie, and those of one that adds noise: beyond it is another scale."""

_SUMS = ((8, 1e-2), (2, 1e-4), (1, 2e-6), (0, 0.0))
"""By how many images at least, how near to 1 in sum are numbers of at least 0 that are taken for probabilities.

Those of a softmax in bfloat16 add up to 1 within 4e-3; a single image's logits may do so nearly by chance.
"""


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
    norm = attack.minimized_norm() if budget is None else budget.norm
    if norm is not None and norm not in get_args(Norm):
        expected = ", ".join(get_args(Norm))
        raise ContractError(
            f"attack {attack.name!r} has the minimized_norm {norm!r}; expected one of {expected}, or None"
        )
    return norm


def check_dataset(dataset: Dataset, images: object) -> LabelledImages:
    """Holds what a dataset loads to its contract: forms, values, labels and ids.

    Returns:
        The images, with pixels that are up to 1e-6 outside [0, 1] clipped.

    Raises:
        ContractError: It breaks it; the message names the dataset, what was expected and what was seen.
    """
    label = f"dataset {dataset.name!r}"
    if not isinstance(images, LabelledImages):
        raise ContractError(f"{label} loaded {type(images).__name__}; expected LabelledImages")
    pixels, labels, ids = images.images, images.labels, images.ids
    n = len(ids)
    if tuple(pixels.shape) != (n, *dataset.image_shape):
        raise ContractError(f"{label} has images of shape {tuple(pixels.shape)}; expected {(n, *dataset.image_shape)}")
    if pixels.dtype not in (torch.uint8, torch.float32):
        raise ContractError(f"{label} has images of {pixels.dtype}; expected torch.uint8 or torch.float32")
    if pixels.dtype == torch.float32:
        try:
            images = dataclasses.replace(images, images=clip_dust(pixels))
        except ValueError as error:
            raise ContractError(f"{label} has {error}") from error
    if labels.dtype != torch.int64 or tuple(labels.shape) != (n,):
        raise ContractError(
            f"{label} has labels of {labels.dtype}, shape {tuple(labels.shape)}; expected int64, {(n,)}"
        )
    if n and not 0 <= int(labels.min()) <= int(labels.max()) < dataset.num_classes:
        raise ContractError(f"{label} has labels outside 0 to {dataset.num_classes - 1}")
    if ids.tolist() != list(dataset.ids()) or bool((ids[1:] <= ids[:-1]).any()):
        raise ContractError(f"{label} loads sample ids that are not ascending, or not those that its ids() tells")
    return images


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
    astray = ASTRAY_BY_CHANCE if stochastic else ASTRAY
    low, high = float(defended.min()), float(defended.max())
    if low < -astray or high > 1 + astray:
        raise ContractError(
            f"defense {name!r} returned pixels from {low:.6g} to {high:.6g}; images stay in about [0, 1], and what "
            "a model needs beyond that, such as another scale, is inside the model"
        )


def check_unchanged(label: str, what: str, before: torch.Tensor, after: torch.Tensor) -> None:
    """Raises ContractError when a component changed its input."""
    if not torch.equal(before, after):
        raise ContractError(f"{label} changed its input {what} in place; components work on a copy")


def check_logits(
    name: str, logits: object, count: int, classes: int, *, more: bool = False, labels_only: bool = False
) -> torch.Tensor:
    """Holds a model's output to its contract: finite logits of shape (batch, classes), and no probabilities.

    Args:
        name: The model's name.
        logits: What it returned.
        count: How many images it was given.
        classes: How many classes it knows.
        more: Whether there may be more of them.
        labels_only: Whether the largest of each row is all that counts, so that whole numbers and probabilities serve.

    Returns:
        Floating-point numbers, shape (batch, classes).

    Raises:
        ContractError: It breaks it.
    """
    label = f"model {name!r}"
    if not isinstance(logits, torch.Tensor):
        raise ContractError(f"{label} returned {type(logits).__name__}, not a tensor of logits")
    if logits.is_complex() or not (logits.is_floating_point() or labels_only):
        raise ContractError(f"{label} returned {logits.dtype}; logits are floating-point numbers, such as float32")
    fits = logits.ndim == 2 and len(logits) == count
    if not fits or (logits.shape[1] < classes if more else logits.shape[1] != classes):
        least = ", or more classes" if more else ""
        raise ContractError(f"{label} returned shape {tuple(logits.shape)}; expected {(count, classes)}{least}")
    if not bool(torch.isfinite(logits).all()):
        raise ContractError(f"{label} returned logits that are not finite")
    if labels_only:
        return logits if logits.is_floating_point() else logits.to(torch.float32)
    if are_probabilities(logits):
        raise ContractError(
            f"{label} returned probabilities, which hide gradients from attacks; the contract is logits: "
            "leave the softmax out, or use attacks that need labels alone, such as noise or "
            "foolbox:attack=HopSkipJumpAttack"
        )
    return logits


def are_probabilities(logits: torch.Tensor) -> bool:
    """Whether numbers of shape (batch, classes) are at least 0 and add up to 1, as labels in one-hot form do, too."""
    near = next(error for least, error in _SUMS if len(logits) >= least)
    return bool((logits >= 0).all() & ((logits.sum(dim=1) - 1).abs() < near).all())


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


def _told(value: float, bound: float) -> str:
    """A number with as many digits as it takes to see on which side of a bound it lies."""
    texts = [f"{value:.{digits}g}" for digits in (6, 8, 12, 17)]
    return next((text for text in texts if value == bound or (float(text) - bound) * (value - bound) > 0), texts[-1])


def check_form(label: str, reference: torch.Tensor, images: object) -> torch.Tensor:
    """Holds images to a reference's form, a finite float32 tensor of its shape and device; returns them detached.

    Raises:
        ContractError: They break it; the message begins with the label.
    """
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
