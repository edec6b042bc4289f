"""Checks of what components fit to data."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

import torch

from advbench.api import Artefact, Attack, ContractError, Defense, FitData, Goal, SampleRandom, artefact_file_of

__all__ = ["artefact_unchanged", "check_artefact", "trial_artefact", "trial_defense_artefact"]

_MOST = 1000
"""The largest number of entries of an artefact."""


def check_artefact(label: str, returned: object) -> dict[str, torch.Tensor | float | str]:
    """Checks what a component returned from ``fit()``.

    Args:
        label: What messages call the component.
        returned: What it returned.

    Returns:
        The artefact, with its tensors detached, contiguous and on the CPU.

    Raises:
        ContractError: It is not a mapping of names to tensors, finite numbers and texts.
    """
    if not isinstance(returned, Mapping) or not 0 < len(returned) <= _MOST:
        what = type(returned).__name__ if not isinstance(returned, Mapping) else f"{len(returned)} entries"
        raise ContractError(
            f"{label} returned {what} from fit(); expected a dictionary of names to tensors, numbers and texts"
        )
    artefact: dict[str, torch.Tensor | float | str] = {}
    for name, value in returned.items():
        if not isinstance(name, str) or not name.isprintable() or not name or "/" in name:
            raise ContractError(f"{label} returned the name {name!r} from fit(); expected printable text without '/'")
        if isinstance(value, torch.Tensor):
            tensor = value.detach().cpu().contiguous().clone()
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ContractError(f"{label} returned a tensor {name!r} from fit() with NaN or infinite values")
            artefact[name] = tensor
        elif isinstance(value, str) or (isinstance(value, (int, float)) and math.isfinite(value)):
            artefact[name] = value
        else:
            shown = repr(value) if isinstance(value, float) else type(value).__name__
            raise ContractError(
                f"{label} returned {shown} as {name!r} from fit(); expected a tensor, a finite number or a text"
            )
    return artefact


@contextlib.contextmanager
def artefact_unchanged(label: str, artefact: Artefact | None) -> Iterator[None]:
    """Checks that a defense, which gets no copy of what it has fitted, does not change its tensors in place.

    Raises:
        ContractError: It does.
    """
    tensors = {name: value for name, value in (artefact or {}).items() if isinstance(value, torch.Tensor)}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    yield
    for name, tensor in tensors.items():
        if tensor._version != versions[name]:
            raise ContractError(f"{label} changed {name!r} of what it has fitted in place; it must work on a copy")


def trial_artefact(
    attack: Attack, model: torch.nn.Module, images: torch.Tensor, goal: Goal, rng: SampleRandom
) -> Artefact | None:
    """What an attack fits to a few images, for trials; None if it fits nothing, or takes its artefact from a file.

    Args:
        attack: The attack.
        model: The classifier.
        images: Shape (batch, channels, height, width).
        goal: The goal for each of the images.
        rng: Their random streams.
    """
    if not attack.has_fit or artefact_file_of(attack) is not None:
        return None
    data = _trial_data(images, goal.labels, rng)
    return _on(images.device, check_artefact(f"attack {attack.name!r}", attack.fit(model, data, goal, rng)))


def trial_defense_artefact(
    defense: Defense, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
) -> Artefact | None:
    """The same for a defense in front of a network; None if it fits nothing."""
    if type(defense).fit is Defense.fit:
        return None
    returned = defense.fit(network, _trial_data(images, labels, rng), rng)
    return _on(images.device, check_artefact(f"defense {defense.name!r}", returned))


def _trial_data(images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom) -> FitData:
    ids = torch.tensor(rng.ids, dtype=torch.int64, device=images.device)
    return FitData(lambda places: images[places].clone(), labels.clone(), ids)


def _on(device: torch.device, artefact: Mapping[str, torch.Tensor | float | str]) -> Artefact:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in artefact.items()}
