"""Projected gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

import torch

from advbench.api import (
    Artefact,
    Goal,
    Norm,
    ParameterError,
    SampleRandom,
    can_reject,
    goal_param,
    has_approximate_gradients,
    param,
)
from advbench_attacks.balls import Ball
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.foolbox2.pgd import STEP_SIZE, foolbox2_pgd, foolbox2_pgd_passes
from advbench_attacks.goals import AttackWithTargets
from advbench_attacks.gradient.evasion import take_evasion_steps
from advbench_attacks.gradient.fixed_or_minimal import FixedOrMinimalAttack
from advbench_attacks.gradient.pgd_minimal import FIRST_EPS, MinimalPgdSearch, search_passes
from advbench_attacks.gradient.pgd_restarts import run_with_restarts
from advbench_attacks.gradient.pgd_steps import loss_values, take_pgd_steps
from advbench_attacks.losses import LOSSES

if TYPE_CHECKING:
    from eagerpy.tensor.tensor import Tensor
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack

__all__ = ["ProjectedGradientDescent"]

PATH_LENGTH: Mapping[str, float] = {"linf": 2.5, "l2": 5.0}
"""Total length of all steps by default, as a multiple of eps.

In L∞, a random start may be 2 · eps away from the corner of the ball that is optimal for a linear model; Madry et al.
2018 use 2.5 where they compare several eps (figure 6). In L2, many short steps in one direction d rotate a start point
on the sphere, at a right angle to d, until tan(θ/2) = exp(−length), θ being the angle to d: 2.5 would leave 1.3 % of
eps unused, 5 leaves .01 %.
"""

MIN_STEP_SIZE = 1 / 8
"""Smallest step by default along approximate or noisy gradients, as a multiple of eps.

Where many components of the gradient have the wrong sign, short steps hardly leave the start.
"""


@dataclass(frozen=True)
class ProjectedGradientDescent(AttackWithTargets, FixedOrMinimalAttack):
    """Steps along the sign of the loss's gradient, each projected back into the ball.

    x ← clip(Π(x + step_size · sign(∇ₓ loss(x, y))), 0, 1), where Π is the projection onto the L∞ ball of radius eps
    around the clean image. The start is drawn uniformly from the ball. With ``norm=l2``, the step is along ∇ₓ loss/‖∇ₓ
    loss‖₂ and the start is at distance eps in a random direction. ``loss=ce`` is the cross-entropy, computed so that
    its gradient does not vanish where the model is confident; ``dlr`` is the difference of logits ratio, for models
    with at least 3 classes; ``margin`` is max_{j≠y} zⱼ − z_y. With a ``goal``, the steps raise minus the loss of the
    target class t; ``margin`` is then zₜ − max_{j≠t} zⱼ, and ``dlr`` the targeted ratio.

    By default, the steps are long enough to get from any point of the ball to any other. Madry et al. use shorter steps
    on MNIST: 40 steps of .01 at eps .3 (``step_size=0.01``), in general eps/30. Foolbox and the paper that advbench
    started from use this step size, too. In adaptive attacks on stochastic or non-differentiable defenses, whose
    gradients are noisy or approximate, a step is at least eps/8 long by default.

    In adaptive attacks on a detector, the steps raise the loss until the model is fooled, and then lower the detector's
    score, without the part of its gradient that would lower the loss; each sample gets its best point instead of the
    last one (Bryniarski et al. 2021).

    With ``early_stop``, a sample leaves the batch at its first adversarial point. This gives the same success rate in
    less time, but the points are close to the decision boundary, so a defense restores more of them. With ``restarts``,
    later runs skip the samples that a run has fooled; for a sample that no run fools, the result is the point of
    highest loss. ``engine=foolbox`` runs Foolbox's implementation; the result is the same unless its float32
    cross-entropy vanishes.

    ``search=minimal`` finds the nearest adversarial point by a search over eps: it increases eps until PGD succeeds,
    and then bisects; each attempt ends at its first success, as in Foolbox 2.3. Then it follows the decision boundary
    to nearer points, since PGD may succeed at some eps and fail at a larger one. With a ``goal``, it follows the
    boundary of the target class alone.

    ``search=foolbox2`` is the search of Foolbox 2.3.0, to reproduce results computed with it: PGD from the clean image
    with eps .3, which grows by half up to 20 times until PGD succeeds, and then 20 bisections between 0 and that eps.
    Its gradients are those of the float32 cross-entropy.
    """

    name: ClassVar[str] = "pgd"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Madry, Makelov, Schmidt, Tsipras and Vladu 2018, Towards Deep Learning Models Resistant to Adversarial "
        "Attacks, section 2.1; loss=dlr: Croce and Hein 2020, Reliable evaluation of adversarial robustness with an "
        "ensemble of diverse parameter-free attacks, equation 6"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON
    modes_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **FixedOrMinimalAttack.modes_of,
        "random_start": ("none", "minimal"),
        "search_steps": ("minimal",),
        "targets": ("minimal",),
        "early_stop": ("none",),
        "restarts": ("none",),
    }
    native_only: ClassVar[Mapping[str, str]] = {
        **FixedOrMinimalAttack.native_only,
        "early_stop": ", whose PGD takes every step",
        "restarts": ", which runs once; use engine=native",
        "norm": "; use engine=native or foolbox:attack=L2PGD",
    }

    eps: float = param(0.3, min=0, help="largest norm of the perturbation, for images in [0, 1]")
    steps: int = param(40, min=1, help="number of gradient steps")
    step_size: float | None = param(
        None,
        above=0,
        help="length of a step; none: 2.5 · eps/steps, with norm=l2 5 · eps/steps, at least eps/8 in adaptive attacks "
        "on stochastic or non-differentiable defenses, with search=foolbox2 eps/30; Madry et al.: eps/30. With "
        "search=minimal, the length at eps .3 · max_eps, which is scaled in proportion to eps",
    )
    random_start: bool = param(True, help="start at a random point of the ball instead of the clean image")
    search: str = param(
        "none",
        choices=("none", "minimal", "foolbox2"),
        help="none: use eps; minimal: find the smallest adversarial eps; foolbox2: the same as in Foolbox 2.3.0",
    )
    max_eps: float = param(1.0, above=0, max=1, help="largest eps to try, with search=minimal")
    search_steps: int = param(3, min=0, help="number of bisections, with search=minimal")
    early_stop: bool = param(
        False,
        help="stop at a sample's first adversarial point; faster, but defenses restore the label of more images",
    )
    engine: str = param("native", choices=("native", "foolbox"), help="implementation to run, with search=none")
    norm: str = param("linf", choices=("linf", "l2"), help="norm of the perturbation, with search=none")
    loss: str = param(
        "ce",
        choices=LOSSES,
        help="loss to maximise, with search=none: cross-entropy, difference of logits ratio, or the margin of the "
        "largest other logit",
    )
    restarts: int = param(1, min=1, help="number of runs, each from a random start, with search=none")
    targets: int | None = param(
        None,
        min=1,
        help="number of target classes of search=minimal: those with the largest logits; none: of the 9 classes with "
        "the largest logits, the 3 whose linearised boundaries are nearest to the clean image",
    )
    goal: str = goal_param()

    def __post_init__(self) -> None:
        """Validates the parameters, and that none is set that the engine or another parameter rules out.

        Raises:
            ParameterError: A value is not allowed, or not together with the others.
        """
        super().__post_init__()
        if self.restarts > 1 and not self.random_start:
            raise ParameterError(
                f"restarts={self.restarts} with random_start=false would repeat one run; leave one out"
            )

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
        if self.search == "foolbox2":
            step_size = STEP_SIZE if self.step_size is None else self.step_size
            return foolbox2_pgd(model, images, goal.labels, steps=self.steps, step_size=step_size)
        if self.search == "minimal":
            relative_step_size = (
                self._relative_step_size() if self.step_size is None else self.step_size / (FIRST_EPS * self.max_eps)
            )
            return MinimalPgdSearch(
                model,
                images,
                goal,
                self.max_eps,
                rng=rng if self.random_start else None,
                steps=self.steps,
                relative_step_size=relative_step_size,
                bisections=self.search_steps,
                targets=self.targets,
            ).run()
        shortest = MIN_STEP_SIZE if has_approximate_gradients(model) else 0.0
        default = max(self._relative_step_size(), shortest) * self.eps
        step_size = default if self.step_size is None else self.step_size
        if self.engine == "foolbox":
            attack = _foolbox_attack(self.steps, step_size, self._start(images, rng) if self.random_start else None)
            return foolbox_engine.run_fixed_budget(attack, model, images, goal, self.eps)
        ball = Ball(cast(Norm, self.norm), self.eps)

        def single_run(model: torch.nn.Module, images: torch.Tensor, goal: Goal, rng: SampleRandom) -> torch.Tensor:
            start = self._start(images, rng) if self.random_start else images
            if can_reject(model):
                return take_evasion_steps(
                    model,
                    images,
                    goal,
                    start,
                    ball=ball,
                    steps=self.steps,
                    step_size=step_size,
                    loss=partial(loss_values, self.loss),
                    early_stop=self.early_stop,
                )
            return take_pgd_steps(
                model,
                images,
                goal,
                start,
                ball=ball,
                steps=self.steps,
                step_size=step_size,
                loss=self.loss,
                early_stop=self.early_stop,
            )

        return run_with_restarts(single_run, model, images, goal, rng, loss=self.loss, restarts=self.restarts)

    def passes(self) -> int:
        """Returns one gradient per step and restart; for a search, an estimate."""
        if self.search == "none":
            return self.steps * self.restarts
        if self.search == "foolbox2":
            return foolbox2_pgd_passes(self.steps)
        return search_passes(self.steps, self.search_steps, self.targets if self.goal == "untargeted" else 1)

    def _relative_step_size(self) -> float:
        """Returns the default step size as a share of eps."""
        return PATH_LENGTH[self.norm] / self.steps

    def _start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Draws start points; in L∞ they are not yet clipped to [0, 1], which Foolbox does itself."""
        if self.norm == "l2":
            return Ball("l2", self.eps).random_start(images, rng)
        perturbations = rng.uniform(*images.shape[1:], low=-self.eps, high=self.eps)
        return images + perturbations.to(images.device)


def _foolbox_attack(steps: int, step_size: float, start: torch.Tensor | None) -> LinfProjectedGradientDescentAttack:
    """Returns Foolbox's PGD with given start points, instead of ones drawn from torch's global generator."""
    foolbox_engine.load()
    from eagerpy.astensor import astensor
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack

    class FromStart(LinfProjectedGradientDescentAttack):
        def get_random_start(self, x0: Tensor, epsilon: float) -> Tensor:
            del x0, epsilon
            return astensor(start)

    return FromStart(abs_stepsize=step_size, steps=steps, random_start=start is not None)
