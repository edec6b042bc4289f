"""Runs Foolbox's attacks: adapts the model, and checks the results.

Foolbox is imported when an attack first runs, since the import takes most of a second.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from advbench.api import Goal
from advbench_attacks.classifier_calls import float32_logits, reaches_goal

if TYPE_CHECKING:
    from foolbox.attacks.base import Attack as AnyFoolboxAttack
    from foolbox.attacks.base import FixedEpsilonAttack

    from advbench.api import Norm

__all__ = [
    "DEPENDS_ON",
    "find_adversarials",
    "load",
    "lost_start",
    "run_fixed_budget",
    "run_minimal",
    "suppress_warnings",
]

DEPENDS_ON = ("foolbox", "eagerpy")
"""Distributions whose versions affect the results of Foolbox's attacks."""


def load() -> Any:
    """Imports Foolbox without the warnings of its own imports, and returns it."""
    with suppress_warnings():
        import foolbox
    return foolbox


def run_fixed_budget(
    attack: FixedEpsilonAttack, model: torch.nn.Module, images: torch.Tensor, goal: Goal, eps: float
) -> torch.Tensor:
    """Runs an attack with a fixed budget.

    Args:
        attack: A Foolbox attack with a fixed budget.
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        eps: The budget, in the attack's norm.

    Returns:
        The clipped images of ``attack(…, epsilons=eps)``, equal to the bit, without the forward pass in which Foolbox
        computes successes. The clean image where the result is not finite.
    """
    with suppress_warnings(), torch.enable_grad():
        adversarials = attack.run(_foolbox_model(model, images), images, _criterion(goal), epsilon=eps)
        adversarials = attack.distance.clip_perturbation(images, adversarials, eps)
    return _finite_or_clean(adversarials, images)


def run_minimal(attack: AnyFoolboxAttack, model: torch.nn.Module, images: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Runs a minimal attack; a sample that reaches the goal already keeps its clean image.

    Foolbox's attacks do not ensure that: some move such a sample by a rounding error, some by much more.

    Returns:
        As :func:`find_adversarials`.
    """
    unreached = ~reaches_goal(model, images, goal)
    adversarials = find_adversarials(attack, model, images, goal)
    return _where(unreached, adversarials, images)


def find_adversarials(
    attack: AnyFoolboxAttack,
    model: torch.nn.Module,
    images: torch.Tensor,
    goal: Goal,
    *,
    eps: float | None = None,
    norm: Norm | None = None,
    starting_points: torch.Tensor | None = None,
) -> torch.Tensor:
    """Runs an attack that searches for an image of every sample that reaches the goal.

    Args:
        attack: A Foolbox attack without a fixed budget.
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        eps: The largest perturbation that counts, or None for any. As in Foolbox, longer ones are shortened to it where
            the norm allows that.
        norm: The norm of eps.
        starting_points: Images that reach the goal, to start from, for attacks that need them.

    Returns:
        Images that reach the goal; the clean image where the attack found none.
    """
    run_arguments = {} if starting_points is None else {"starting_points": starting_points}
    with suppress_warnings(), torch.enable_grad():
        adversarials = attack.run(_foolbox_model(model, images), images, _criterion(goal), **run_arguments)  # type: ignore[attr-defined]
        if eps is not None and norm is not None:
            adversarials = _clip_perturbations(adversarials, images, eps, norm)
    if isinstance(attack, _attacks_returning_black_images()):
        adversarials = _where(adversarials.flatten(1).any(dim=1), adversarials, images)
    adversarials = _finite_or_clean(adversarials, images)
    return _where(reaches_goal(model, adversarials, goal), adversarials, images)


def lost_start(error: Exception) -> bool:
    """Whether Foolbox ended an attack since an image that had reached the goal did not reach it in another query.

    So it ends its attacks along the decision boundary if the classifier is stochastic.
    """
    if isinstance(error, AssertionError):
        return not str(error)
    return isinstance(error, ValueError) and ("not adversarial" in str(error) or "init_attack failed" in str(error))


@contextlib.contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppresses warnings from Foolbox's own code, which are not addressed to users of advbench."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(foolbox|eagerpy)\b")
        warnings.filterwarnings("ignore", message=r"torch\.meshgrid")  # SpatialAttack uses a deprecated call
        yield


class _Float32(torch.nn.Module):
    """A model with float32 logits; Foolbox computes its losses in the dtype that the model returns."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._models = (model,)  # in a tuple, it is not a submodule, so eval() does not change its mode

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return float32_logits(self._models[0], images)


def _foolbox_model(model: torch.nn.Module, images: torch.Tensor) -> Any:
    return load().PyTorchModel(_Float32(model).eval(), bounds=(0, 1), device=images.device)


def _criterion(goal: Goal) -> Any:
    foolbox = load()
    return foolbox.TargetedMisclassification(goal.targets) if goal.targeted else foolbox.Misclassification(goal.labels)


def _attacks_returning_black_images() -> tuple[type, ...]:
    # If these find no adversarial image, they return their initial best image: all zeros, which the model may well
    # misclassify.
    attacks = load().attacks
    return (attacks.L2CarliniWagnerAttack, attacks.EADAttack)


def _clip_perturbations(adversarials: torch.Tensor, images: torch.Tensor, eps: float, norm: Norm) -> torch.Tensor:
    distance = getattr(load().distances, norm)
    if norm == "l0":
        # There is no rule for which pixels to restore, so a perturbation of too many pixels is dropped.
        return _where(distance(images, adversarials) <= eps, adversarials, images)
    clipped: torch.Tensor = distance.clip_perturbation(images, adversarials, eps)
    return clipped


def _finite_or_clean(adversarials: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Returns detached images of the clean images' dtype, clipped to [0, 1]; the clean image where not finite."""
    adversarials = adversarials.detach().to(images.dtype)
    finite = torch.isfinite(adversarials).flatten(1).all(dim=1)
    return _where(finite, adversarials.clamp(0, 1), images)


def _where(mask: torch.Tensor, adversarials: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return torch.where(mask.reshape(-1, *[1] * (images.ndim - 1)), adversarials, images)
