"""Projected gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import torch

from advbench.api import Norm, ParameterError, SampleRandom, param
from advbench_attacks.balls import Ball
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.gradient.eps_search import EpsSearch
from advbench_attacks.gradient.pgd_minimal import FIRST, BallSearch, search_passes
from advbench_attacks.gradient.pgd_restarts import restarted
from advbench_attacks.gradient.pgd_steps import sign_steps
from advbench_attacks.logit_differences import LOSSES

if TYPE_CHECKING:
    from eagerpy.tensor.tensor import Tensor
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack

__all__ = ["ProjectedGradientDescent"]

REACH: Mapping[str, float] = {"linf": 2.5, "l2": 5.0}
"""How far the steps go together by default, as a multiple of eps.

In L∞ a random start may lie 2 · eps from the corner of the ball that is best on a linear model; Madry et al. 2018 take
2.5 where they compare several eps (figure 6). In L2 many short steps in one direction d turn a start on the sphere, at
a right angle to d, until tan(θ/2) = exp(-reach), θ being the angle to d: 2.5 would leave 1.3 % of eps unused, 5 leaves
.01 %.
"""


@dataclass(frozen=True)
class ProjectedGradientDescent(EpsSearch):
    """Steps along the sign of the loss's gradient, each projected back into the ball.

    x ← clip(Π(x + step_size · sign(∇ₓ loss(x, y))), 0, 1), with Π the projection on the L∞ ball of radius eps around
    the clean image, from a point drawn uniformly in the ball. With ``norm=l2`` the step goes along ∇ₓ loss/‖∇ₓ loss‖₂,
    from a point at distance eps in a random direction. ``loss=ce`` is the cross-entropy, whose direction is computed so
    that it does not vanish where the model is sure; ``dlr`` the difference of logits ratio, for models of 3 classes or
    more; ``margin`` is max_{j≠y} zⱼ − z_y.

    The default steps reach from any point of the ball to any other. Madry et al.'s on MNIST, .01 at eps .3 in 40 steps,
    are shorter: ``step_size=0.01``, in general eps/30, which Foolbox and the experiments of the paper that advbench
    grew from take as well.

    With ``early_stop`` a sample leaves the batch at its first point that fools the model: its success is the same and
    found sooner, but such points lie next to the boundary, so that a defense restores more of them. With ``restarts`` a
    sample that a run has fooled takes part in no further one; the others get their point of highest loss. With
    ``engine=foolbox`` Foolbox's implementation runs, with the same result where its float32 cross-entropy does not
    vanish.

    With ``search=minimal`` each sample gets the nearest point that a search over eps finds: it grows eps until PGD
    succeeds and bisects, each try ending at its first success, as in Foolbox 2.3; then it follows the
    boundary to where it is nearer, since PGD succeeds at some eps and fails at a larger one.
    """

    name: ClassVar[str] = "pgd"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Madry, Makelov, Schmidt, Tsipras and Vladu 2018, Towards Deep Learning Models Resistant to Adversarial "
        "Attacks, section 2.1; loss=dlr: Croce and Hein 2020, Reliable evaluation of adversarial robustness with an "
        "ensemble of diverse parameter-free attacks, equation 6"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON
    only_in: ClassVar[Mapping[str, str]] = {
        **EpsSearch.only_in,
        "search_steps": "minimal",
        "targets": "minimal",
        "early_stop": "none",
        "restarts": "none",
    }
    only_native: ClassVar[Mapping[str, str]] = {
        **EpsSearch.only_native,
        "early_stop": ", whose PGD takes every step",
        "restarts": ", which runs once; use engine=native",
        "norm": "; use engine=native or foolbox:attack=L2PGD",
    }

    eps: float = param(0.3, min=0, help="largest perturbation in the norm, images being in [0, 1]")
    steps: int = param(40, min=1, help="number of gradient steps")
    step_size: float | None = param(
        None,
        above=0,
        help="length of a step, with search=minimal at eps .3 · max_eps and in proportion at others; "
        "none: 2.5 · eps/steps, with norm=l2 5 · eps/steps; Madry et al. and the paper's experiments: eps/30",
    )
    random_start: bool = param(True, help="start at a random point of the ball instead of at the clean image")
    search: str = param(
        "none",
        choices=("none", "minimal"),
        help="none: keep to eps; minimal: find the smallest eps that fools the model",
    )
    max_eps: float = param(1.0, above=0, max=1, help="largest eps that search=minimal tries")
    search_steps: int = param(3, min=0, help="how many times search=minimal bisects")
    early_stop: bool = param(
        False,
        help="leave a sample at its first point that fools the model; quicker, but not for reuse against defenses",
    )
    engine: str = param("native", choices=("native", "foolbox"), help="whose implementation runs, with search=none")
    norm: str = param("linf", choices=("linf", "l2"), help="the norm of the perturbation, with search=none")
    loss: str = param(
        "ce",
        choices=LOSSES,
        help="what rises, with search=none: the cross-entropy, the difference of logits ratio, or the largest other "
        "logit less the true class's",
    )
    restarts: int = param(1, min=1, help="number of runs, each from a random point, with search=none")
    targets: int | None = param(
        None,
        min=1,
        help="towards how many of the likeliest other classes search=minimal follows the boundary; none: towards the 3 "
        "of the 9 likeliest that the slopes at the clean image call the nearest; the paper's experiments: 3",
    )

    def __post_init__(self) -> None:
        """Checks every parameter, and that the engine heeds those that are set.

        Raises:
            ParameterError: A value is not allowed, or not together with the others.
        """
        super().__post_init__()
        if self.restarts > 1 and not self.random_start:
            raise ParameterError(
                f"restarts={self.restarts} with random_start=false would repeat one run; leave one out"
            )

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`.

        Raises:
            ContractError: The model has too few classes for the loss.
        """
        if self.search == "minimal":
            rate = self._rate() if self.step_size is None else self.step_size / (FIRST * self.max_eps)
            return BallSearch(
                model,
                images,
                labels,
                self.max_eps,
                rng=rng if self.random_start else None,
                steps=self.steps,
                rate=rate,
                bisections=self.search_steps,
                targets=self.targets,
            ).run()
        step_size = self._rate() * self.eps if self.step_size is None else self.step_size
        if self.engine == "foolbox":
            attack = _foolbox_attack(self.steps, step_size, self._start(images, rng) if self.random_start else None)
            return foolbox_engine.maximise(attack, model, images, labels, self.eps)
        ball = Ball(cast(Norm, self.norm), self.eps)

        def once(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
            start = self._start(images, rng) if self.random_start else images
            return sign_steps(
                model,
                images,
                labels,
                start,
                ball=ball,
                steps=self.steps,
                step_size=step_size,
                loss=self.loss,
                early_stop=self.early_stop,
            )

        return restarted(once, model, images, labels, rng, loss=self.loss, restarts=self.restarts)

    def passes(self) -> int:
        """A gradient a step and restart; in a search most tries, but not all, take every step."""
        if self.search == "none":
            return self.steps * self.restarts
        return search_passes(self.steps, self.search_steps, self.targets)

    def _rate(self) -> float:
        """The default length of a step as a share of eps."""
        return REACH[self.norm] / self.steps

    def _start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Random points of the ball, not yet clipped to [0, 1] in L∞, which Foolbox does itself."""
        if self.norm == "l2":
            return Ball("l2", self.eps).start(images, rng)
        shift = rng.uniform(*images.shape[1:], low=-self.eps, high=self.eps)
        return images + shift.to(images.device)


def _foolbox_attack(steps: int, step_size: float, start: torch.Tensor | None) -> LinfProjectedGradientDescentAttack:
    """Foolbox's PGD, from the given points instead of ones drawn from torch's global generator."""
    foolbox_engine.load()
    from eagerpy.astensor import astensor
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack

    class FromStart(LinfProjectedGradientDescentAttack):
        def get_random_start(self, x0: Tensor, epsilon: float) -> Tensor:
            del x0, epsilon
            return astensor(start)

    return FromStart(abs_stepsize=step_size, steps=steps, random_start=start is not None)
