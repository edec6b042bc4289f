"""Auto-PGD, untargeted and targeted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Artefact, Attack, Budget, Goal, Norm, SampleRandom, goal_param, param
from advbench_attacks.balls import Ball
from advbench_attacks.goals import AttackWithTargets
from advbench_attacks.gradient.apgd_search import AutoPgdSearch, Objective
from advbench_attacks.losses import (
    LOSSES,
    check_classes,
    dlr_loss,
    logsumexp_margin,
    margin,
    targeted_dlr_loss,
    targeted_margin,
    top_other_classes,
)

__all__ = ["AutoPgd", "TargetedAutoPgd"]

_SOURCE = (
    "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
    "attacks, algorithm 1"
)

_OBJECTIVES: Mapping[str, Objective] = {
    # The cross-entropy is the softplus of this margin. APGD uses only the gradient's direction and which of two losses
    # is higher; both are the same, and they do not vanish in float32 where the model is confident.
    "ce": lambda logits, goal, _: logsumexp_margin(logits, goal),
    "dlr": lambda logits, goal, _: dlr_loss(logits, goal),
    "margin": lambda logits, goal, _: margin(logits, goal),
}


def _targeted_dlr(logits: torch.Tensor, goal: Goal, targets: torch.Tensor) -> torch.Tensor:
    return targeted_dlr_loss(logits, targeted_margin(logits, goal.labels, targets))


def _targeted_margin(logits: torch.Tensor, goal: Goal, targets: torch.Tensor) -> torch.Tensor:
    return targeted_margin(logits, goal.labels, targets)


def _goal_dlr(logits: torch.Tensor, goal: Goal, _: torch.Tensor) -> torch.Tensor:
    return targeted_dlr_loss(logits, goal.margin(logits))


@dataclass(frozen=True)
class AutoPgd(Attack):
    """Projected gradient ascent with momentum and an adaptive step size.

    The step size starts at 2 · eps. It is halved where the loss makes little progress, and the sample continues from
    its best point. ``loss=ce`` is the cross-entropy; ``loss=dlr`` the difference of logits ratio, for models with at
    least 3 classes; ``loss=margin`` its numerator, max_{j≠y} zⱼ − z_y. With a ``goal``, the loss is minus that of the
    target class t; ``margin`` is then zₜ − max_{j≠t} zⱼ, and ``dlr`` the ratio of ``apgd-t``.

    Each sample gets its point of highest loss among the adversarial ones, or among all if none is adversarial. A sample
    that a run has broken skips the remaining restarts; with ``early_stop``, it ends the run at its first adversarial
    point.
    """

    name: ClassVar[str] = "apgd"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = f"{_SOURCE}; the loss dlr: equation 6"

    eps: float = param(0.3, min=0, help="largest norm of the perturbation, for images in [0, 1]")
    norm: str = param("linf", choices=("linf", "l2"), help="norm of the perturbation")
    loss: str = param(
        "ce",
        choices=LOSSES,
        help="loss to maximise: cross-entropy, difference of logits ratio, or the margin of the largest other logit",
    )
    steps: int = param(100, min=1, help="number of gradient steps per run")
    restarts: int = param(1, min=1, help="number of runs, each from a random start")
    early_stop: bool = param(
        False, help="stop at a sample's first adversarial point instead of searching for its worst"
    )
    goal: str = goal_param()

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`.

        Raises:
            ContractError: The model has too few classes for the loss.
        """
        del fitted
        rng = rng.derive(f"{self.name}-{self.loss}")
        ball = Ball(cast(Norm, self.norm), self.eps)
        search = AutoPgdSearch(model, images, goal, ball, steps=self.steps, early_stop=self.early_stop)
        check_classes(self.loss, search.logits.shape[1])
        for _ in range(self.restarts):
            rows = search.unsolved()
            search.run(rows, _OBJECTIVES[self.loss], goal.classes[rows], rng)
        return search.points

    def budget(self) -> Budget:
        """Returns the ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """Returns one gradient per step and restart."""
        return self.steps * self.restarts


@dataclass(frozen=True)
class TargetedAutoPgd(AttackWithTargets):
    """Auto-PGD on the targeted difference of logits ratio, for one target class after another.

    Targets are the other classes with the largest logits at the clean image, at most ``targets`` of them. For models
    with fewer than 4 classes the ratio is not defined; the difference zₜ − z_y is maximised instead. A sample that a
    run has broken skips the remaining runs.

    With a ``goal``, there is one target class t, and only this class counts. The loss is that ratio, or difference,
    with max_{j≠t} zⱼ in place of z_y, since another class than the true one may be ahead of t.
    """

    name: ClassVar[str] = "apgd-t"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = f"{_SOURCE} and equation 8"

    eps: float = param(0.3, min=0, help="largest norm of the perturbation, for images in [0, 1]")
    norm: str = param("linf", choices=("linf", "l2"), help="norm of the perturbation")
    targets: int = param(9, min=1, help="number of target classes, those with the largest logits first")
    steps: int = param(100, min=1, help="number of gradient steps per run")
    restarts: int = param(1, min=1, help="number of runs per target class, each from a random start")
    early_stop: bool = param(
        False, help="stop at a sample's first adversarial point instead of searching for its worst"
    )
    goal: str = goal_param()

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`."""
        del fitted
        rng = rng.derive(self.name)
        ball = Ball(cast(Norm, self.norm), self.eps)
        search = AutoPgdSearch(model, images, goal, ball, steps=self.steps, early_stop=self.early_stop)
        has_ratio = search.logits.shape[1] >= 4
        objective: Objective = _targeted_dlr if has_ratio else _targeted_margin
        classes = top_other_classes(search.logits, goal.labels, self.targets).T
        if goal.targets is not None:
            objective, classes = _goal_dlr if has_ratio else _OBJECTIVES["margin"], goal.targets[None]
        for targets in classes:
            for _ in range(self.restarts):
                rows = search.unsolved()
                search.run(rows, objective, targets[rows], rng)
        return search.points

    def budget(self) -> Budget:
        """Returns the ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """Returns one gradient per step, restart and target class, as a sample needs that withstands them all."""
        return self.steps * self.restarts * (self.targets if self.goal == "untargeted" else 1)
