"""Checks of what attacks return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch

from advbench.api import Attack, Budget, ContractError, Crafted
from advbench.api.devices import widest_float
from advbench.contracts.budgets import check_budget
from advbench.contracts.images import TOLERANCE, check_form, distances
from advbench.errors import blamed

__all__ = ["check_adversarial", "check_crafted", "check_notes", "check_sizes", "notes_unattacked"]

_NO_NOTES: Mapping[str, torch.Tensor] = MappingProxyType({})


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


def check_adversarial(
    attack: Attack,
    clean: torch.Tensor,
    adversarial: object,
    notes: Mapping[str, torch.Tensor] = _NO_NOTES,
    ids: Sequence[int] | None = None,
) -> torch.Tensor:
    """Checks the form and the range [0, 1] of an attack's images, and that they are inside the perturbation set.

    Args:
        attack: The attack.
        clean: The clean images.
        adversarial: What the attack returned.
        notes: The attack's notes, checked.
        ids: The samples, for messages; by default their positions.

    Returns:
        The images, detached.

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
        _check_distance(label, clean, images, budget)
        return images
    perturbation = attack.perturbation()
    with blamed(label):
        violations = perturbation.violations(clean, images, notes)
    if violations:
        row = min(violations)
        sample = row if ids is None else ids[row]
        others = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise ContractError(
            f"{label}, {perturbation.kind} {perturbation.label()}, sample {sample}{others}: {violations[row]}"
        )
    return images


def _check_distance(label: str, clean: torch.Tensor, images: torch.Tensor, budget: Budget) -> None:
    furthest = float(distances(clean, images, budget).max())
    if furthest > budget.eps * (1 + TOLERANCE) + TOLERANCE:
        distance = f"went {_format(furthest, budget.eps)} from the image in {budget.norm}"
        raise ContractError(f"{label} {distance}; its budget is {budget.eps:.6g}")


def check_notes(attack: Attack, clean: torch.Tensor, notes: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """Checks the notes that a run stores: that of ensembles, and those that the perturbation set needs.

    Args:
        attack: The attack.
        clean: The clean images of the samples.
        notes: What it returned; notes of other names are ignored.

    Returns:
        ``component`` as int8, ``angle``, ``dx`` and ``dy`` as float64, ``mask`` as bool; each on the images' device.

    Raises:
        ContractError: A note is missing or has another form.
    """
    label, perturbation = f"attack {attack.name!r}", attack.perturbation()
    needed = perturbation.notes
    for name in needed:
        if name not in notes:
            raise ContractError(
                f"{label}, {perturbation.kind} {perturbation.label()}: returned no note {name!r}; return "
                f"Crafted(images, notes) with {', '.join(map(repr, needed))}"
            )
    checked = {}
    for name in ("component", *needed):
        if name in notes:
            note, expected = _note(attack, name, notes[name], clean)
            if note is None:
                raise ContractError(f"{label} returned an invalid note {name!r}; expected {expected}")
            checked[name] = note
    return checked


def _note(attack: Attack, name: str, note: object, clean: torch.Tensor) -> tuple[torch.Tensor | None, str]:
    """A note in the form in which it is stored, or None if it is invalid; and what is expected."""
    count, shape = len(clean), (len(clean), 1, *clean.shape[2:])
    tensor = note.detach() if isinstance(note, torch.Tensor) and note.device == clean.device else None
    if name == "component":
        last = len(attack.component_names()) - 1
        expected = f"one whole number from -1 to {last} for each sample"
        if tensor is None or tensor.shape != (count,) or tensor.is_floating_point():
            return None, expected
        return (tensor.to(torch.int8) if -1 <= int(tensor.min()) <= int(tensor.max()) <= last else None), expected
    if name == "mask":
        fits = tensor is not None and tensor.dtype == torch.bool and tensor.shape == shape
        return (tensor if fits else None), f"a bool tensor of shape {shape}"
    expected = f"finite floating-point numbers of shape ({count},)"
    if tensor is None or tensor.shape != (count,) or not tensor.is_floating_point() or not tensor.isfinite().all():
        return None, expected
    return tensor.to(widest_float(tensor.device)), expected


def notes_unattacked(
    attack: Attack, clean: torch.Tensor, returned: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The notes of samples that are not attacked: no component, no pixel in a mask, no rotation.

    Args:
        attack: The attack.
        clean: The clean images of the samples.
        returned: The notes of the samples that are attacked; empty if there are none.
    """
    empty = {
        "component": clean.new_full((len(clean),), -1, dtype=torch.int8),
        "mask": clean.new_zeros((len(clean), 1, *clean.shape[2:]), dtype=torch.bool),
        **dict.fromkeys(("angle", "dx", "dy"), clean.new_zeros(len(clean), dtype=widest_float(clean.device))),
    }
    names = returned or (*(("component",) if attack.component_names() else ()), *attack.perturbation().notes)
    return {name: empty[name].clone() for name in names}


def check_sizes(
    attack: Attack, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The sizes of an attack's perturbations, by the names of the measures; the main one first.

    Arguments as for :meth:`advbench.api.PerturbationSet.sizes`.

    Raises:
        ContractError: They are no float64 tensors with a number for each sample, or the main one has another name.
    """
    label, perturbation = f"attack {attack.name!r}", attack.perturbation()
    with blamed(label):
        sizes = perturbation.sizes(clean, adversarial, notes)
        main = perturbation.main_size()
    if not isinstance(sizes, dict) or not all(_is_size(size, len(clean)) for size in sizes.values()):
        raise ContractError(
            f"{label}: sizes() of {type(perturbation).__name__} must return float64 tensors of shape ({len(clean)},)"
        )
    if main is not None and next(iter(sizes), None) != main:
        raise ContractError(
            f"{label}: the first of sizes() of {type(perturbation).__name__} must be main_size(), {main!r}"
        )
    return sizes


def _is_size(size: object, count: int) -> bool:
    fits = isinstance(size, torch.Tensor) and size.shape == (count,) and size.dtype == widest_float(size.device)
    return fits and bool(size.isfinite().all())  # type: ignore[attr-defined]


def _format(value: float, bound: float) -> str:
    """A number with as many digits as it takes to see on which side of a bound it lies."""
    texts = [f"{value:.{digits}g}" for digits in (6, 8, 12, 17)]
    return next((text for text in texts if value == bound or (float(text) - bound) * (value - bound) > 0), texts[-1])
