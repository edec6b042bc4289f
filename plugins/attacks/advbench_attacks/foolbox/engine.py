"""Foolbox as the engine: what its attacks need before a run, and what they leave to be put right after it.

Foolbox is imported only when an attack runs, since that takes most of a second.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from advbench_attacks.answers import ask

if TYPE_CHECKING:
    from foolbox.attacks.base import Attack as AnyFoolboxAttack
    from foolbox.attacks.base import FixedEpsilonAttack

    from advbench.api import Norm

__all__ = ["DEPENDS_ON", "load", "maximise", "minimise", "predict", "quiet", "search"]

DEPENDS_ON = ("foolbox", "eagerpy")
"""The distributions whose versions shape what Foolbox's attacks return."""


def load() -> Any:
    """Imports Foolbox, without the warnings that its own imports cause, and returns it."""
    with quiet():
        import foolbox
    return foolbox


def maximise(
    attack: FixedEpsilonAttack, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, eps: float
) -> torch.Tensor:
    """Runs a budget attack.

    Args:
        attack: An attack of Foolbox that works within a budget.
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        eps: The budget, in the attack's norm.

    Returns:
        What ``attack(…, epsilons=eps)`` returns as clipped, to the bit, without the forward pass that Foolbox
        spends on telling the successes. A sample without a finite result has its clean image.
    """
    with quiet(), torch.enable_grad():
        found = attack.run(_wrapped(model, images), images, _misclassified(labels), epsilon=eps)
        found = attack.distance.clip_perturbation(images, found, eps)
    return _usable(found, images)


def minimise(
    attack: AnyFoolboxAttack, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Runs a minimal attack; a sample that the model misclassifies already keeps its clean image.

    Foolbox's attacks alone would not see to that: some move such a sample by a rounding error, some far.

    Returns:
        As :func:`search`.
    """
    right = predict(model, images) == labels
    found = search(attack, model, images, labels)
    return _choose(right, found, images)


def search(
    attack: AnyFoolboxAttack,
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    eps: float | None = None,
    norm: Norm | None = None,
    starting_points: torch.Tensor | None = None,
) -> torch.Tensor:
    """Lets an attack search an adversarial image for every sample.

    Args:
        attack: An attack of Foolbox that takes no budget.
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        eps: The largest perturbation that counts, or None for any. Longer ones are shortened to it, as
            Foolbox does, where the norm lets one do so.
        norm: The norm of eps.
        starting_points: Misclassified images to start from, for the attacks that take them.

    Returns:
        Images that the model misclassifies, and the clean image where the attack found none.
    """
    started = {} if starting_points is None else {"starting_points": starting_points}
    with quiet(), torch.enable_grad():
        found = attack.run(_wrapped(model, images), images, _misclassified(labels), **started)  # type: ignore[attr-defined]
        if eps is not None and norm is not None:
            found = _shortened(found, images, eps, norm)
    if isinstance(attack, _attacks_that_return_black()):
        found = _choose(found.flatten(1).any(dim=1), found, images)
    found = _usable(found, images)
    return _choose(predict(model, found) != labels, found, images)


def predict(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The classes that the model gives the images, int64, shape (batch,)."""
    with torch.no_grad():
        return ask(model, images).argmax(dim=-1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops the warnings that come from Foolbox's own lines; what it has to say is not for the user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(foolbox|eagerpy)\b")
        warnings.filterwarnings("ignore", message=r"torch\.meshgrid")  # SpatialAttack calls it the old way
        yield


class _Float32(torch.nn.Module):
    """A model whose logits are float32; Foolbox computes its losses in the dtype that the model returns."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._models = (model,)  # in a tuple it is no child, whose mode eval() would set

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return ask(self._models[0], images)


def _wrapped(model: torch.nn.Module, images: torch.Tensor) -> Any:
    return load().PyTorchModel(_Float32(model).eval(), bounds=(0, 1), device=images.device)


def _misclassified(labels: torch.Tensor) -> Any:
    return load().Misclassification(labels)


def _attacks_that_return_black() -> tuple[type, ...]:
    # Where these find nothing they return the image that their search for the best began with: all zeros,
    # which the model may well misclassify.
    attacks = load().attacks
    return (attacks.L2CarliniWagnerAttack, attacks.EADAttack)


def _shortened(found: torch.Tensor, images: torch.Tensor, eps: float, norm: Norm) -> torch.Tensor:
    distance = getattr(load().distances, norm)
    if norm == "l0":
        # No rule says which pixels to give up, so that a perturbation of too many is none.
        return _choose(distance(images, found) <= eps, found, images)
    shortened: torch.Tensor = distance.clip_perturbation(images, found, eps)
    return shortened


def _usable(found: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Detached images of the clean images' type, in [0, 1]; the clean image for what is not finite."""
    found = found.detach().to(images.dtype)
    finite = torch.isfinite(found).flatten(1).all(dim=1)
    return _choose(finite, found.clamp(0, 1), images)


def _choose(which: torch.Tensor, found: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return torch.where(which.reshape(-1, *[1] * (images.ndim - 1)), found, images)
