"""Auto-PGD, untargeted and targeted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Attack, Budget, Norm, SampleRandom, param
from advbench_attacks.balls import Ball
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
    "ce": lambda logits, labels, _: logsumexp_margin(logits, labels),
    "dlr": lambda logits, labels, _: dlr_loss(logits, labels),
    "margin": lambda logits, labels, _: margin(logits, labels),
}


@dataclass(frozen=True)
class AutoPgd(Attack):
    """Projected gradient ascent with momentum and an adaptive step size.

    The step size starts at 2 · eps. It is halved where the loss makes little progress, and the sample continues from
    its best point. ``loss=ce`` is the cross-entropy; ``loss=dlr`` the difference of logits ratio, for models with at
    least 3 classes; ``loss=margin`` its numerator, max_{j≠y} zⱼ − z_y.

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

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`.

        Raises:
            ContractError: The model has too few classes for the loss.
        """
        rng = rng.derive(f"{self.name}-{self.loss}")
        ball = Ball(cast(Norm, self.norm), self.eps)
        search = AutoPgdSearch(model, images, labels, ball, steps=self.steps, early_stop=self.early_stop)
        check_classes(self.loss, search.logits.shape[1])
        for _ in range(self.restarts):
            rows = search.unsolved()
            search.run(rows, _OBJECTIVES[self.loss], labels[rows], rng)
        return search.points

    def budget(self) -> Budget:
        """Returns the ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """Returns one gradient per step and restart."""
        return self.steps * self.restarts


@dataclass(frozen=True)
class TargetedAutoPgd(Attack):
    """Auto-PGD on the targeted difference of logits ratio, for one target class after another.

    Targets are the other classes with the largest logits at the clean image, at most ``targets`` of them. For models
    with fewer than 4 classes the ratio is not defined; the difference zₜ − z_y is maximised instead. A sample that a
    run has broken skips the remaining runs.
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

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        rng = rng.derive(self.name)
        ball = Ball(cast(Norm, self.norm), self.eps)
        search = AutoPgdSearch(model, images, labels, ball, steps=self.steps, early_stop=self.early_stop)
        objective = targeted_dlr_loss if search.logits.shape[1] >= 4 else targeted_margin
        for targets in top_other_classes(search.logits, labels, self.targets).T:
            for _ in range(self.restarts):
                rows = search.unsolved()
                search.run(rows, objective, targets[rows], rng)
        return search.points

    def budget(self) -> Budget:
        """Returns the ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """Returns one gradient per step, restart and target class, as a sample needs that withstands them all."""
        return self.steps * self.restarts * self.targets
