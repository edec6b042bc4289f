"""Auto-PGD, untargeted and targeted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Attack, Budget, Norm, SampleRandom, param
from advbench_attacks.balls import Ball
from advbench_attacks.gradient.apgd_search import Ascent, Objective
from advbench_attacks.input_gradients import likeliest, logsumexp_margin
from advbench_attacks.logit_differences import (
    LOSSES,
    check_classes,
    logit_ratio,
    margin,
    targeted_logit_ratio,
    targeted_margin,
)

__all__ = ["AutoPgd", "TargetedAutoPgd"]

_SOURCE = (
    "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
    "attacks, algorithm 1"
)

_OBJECTIVES: Mapping[str, Objective] = {
    # The cross-entropy is the softplus of this surplus: all that APGD asks of a loss, the direction of its gradient
    # and which of two losses is higher, is the same, and does not vanish in float32 where the model is sure.
    "ce": lambda logits, labels, _: logsumexp_margin(logits, labels),
    "dlr": lambda logits, labels, _: logit_ratio(logits, labels),
    "margin": lambda logits, labels, _: margin(logits, labels),
}


@dataclass(frozen=True)
class AutoPgd(Attack):
    """Projected gradient ascent with momentum that finds its step size itself.

    Steps begin at length 2 · eps and are halved where the loss makes little progress; the sample then goes on from its
    best point. ``loss=ce`` is the cross-entropy, ``loss=dlr`` the difference of logits ratio, for models of 3
    classes or more, ``loss=margin`` its numerator max_{j≠y} zⱼ − z_y.

    Each sample gets its point of highest loss, of those that fool the model if there are any. One that a run has fooled
    takes part in no further restart; with early_stop it ends the run at the first point that fools the model.
    """

    name: ClassVar[str] = "apgd"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = f"{_SOURCE}; the loss dlr: equation 6"

    eps: float = param(0.3, min=0, help="largest perturbation in the norm, images being in [0, 1]")
    norm: str = param("linf", choices=("linf", "l2"), help="the norm of the perturbation")
    loss: str = param(
        "ce",
        choices=LOSSES,
        help="what rises: the cross-entropy, the difference of logits ratio, or the largest other logit less the true "
        "class's",
    )
    steps: int = param(100, min=1, help="number of gradient steps a run")
    restarts: int = param(1, min=1, help="number of runs, each from a random point")
    early_stop: bool = param(False, help="end a sample at its first point that fools the model, not at its worst")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`.

        Raises:
            ContractError: The model has too few classes for the loss.
        """
        rng = rng.derive(f"{self.name}-{self.loss}")
        ball = Ball(cast(Norm, self.norm), self.eps)
        ascent = Ascent(model, images, labels, ball, steps=self.steps, early_stop=self.early_stop)
        check_classes(self.loss, ascent.logits.shape[1])
        for _ in range(self.restarts):
            rows = ascent.unsolved()
            ascent.run(rows, _OBJECTIVES[self.loss], labels[rows], rng)
        return ascent.points

    def budget(self) -> Budget:
        """The ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """A gradient a step and restart."""
        return self.steps * self.restarts


@dataclass(frozen=True)
class TargetedAutoPgd(Attack):
    """Auto-PGD on the targeted difference of logits ratio, towards one class after another.

    The classes are the likeliest at the clean image, the true one left out; all of them where there are fewer than
    ``targets``. For models of fewer than 4 classes, for which the ratio is not defined, the difference zₜ − z_y alone
    rises. A sample that a run has fooled takes part in no other.
    """

    name: ClassVar[str] = "apgd-t"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = f"{_SOURCE} and equation 8"

    eps: float = param(0.3, min=0, help="largest perturbation in the norm, images being in [0, 1]")
    norm: str = param("linf", choices=("linf", "l2"), help="the norm of the perturbation")
    targets: int = param(9, min=1, help="towards how many of the likeliest other classes")
    steps: int = param(100, min=1, help="number of gradient steps a run")
    restarts: int = param(1, min=1, help="number of runs a class, each from a random point")
    early_stop: bool = param(False, help="end a sample at its first point that fools the model, not at its worst")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        rng = rng.derive(self.name)
        ball = Ball(cast(Norm, self.norm), self.eps)
        ascent = Ascent(model, images, labels, ball, steps=self.steps, early_stop=self.early_stop)
        objective = targeted_logit_ratio if ascent.logits.shape[1] >= 4 else targeted_margin
        for targets in likeliest(ascent.logits, labels, self.targets).T:
            for _ in range(self.restarts):
                rows = ascent.unsolved()
                ascent.run(rows, objective, targets[rows], rng)
        return ascent.points

    def budget(self) -> Budget:
        """The ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """A gradient a step, restart and class, for a sample that none of them fools."""
        return self.steps * self.restarts * self.targets
