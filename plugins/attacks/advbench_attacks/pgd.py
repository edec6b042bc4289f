"""Projected gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from advbench.api import ParameterError, SampleRandom, param
from advbench_attacks import foolbox_engine
from advbench_attacks.ball_search import FIRST, BallSearch, search_passes
from advbench_attacks.eps_search import EpsSearch
from advbench_attacks.sign_steps import sign_steps

if TYPE_CHECKING:
    from eagerpy.tensor.tensor import Tensor
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack

__all__ = ["ProjectedGradientDescent"]

MADRY_STEP = 0.01 / 0.3
"""Step size relative to eps: .01 at eps .3 (Madry et al. 2018, MNIST)."""


@dataclass(frozen=True)
class ProjectedGradientDescent(EpsSearch):
    """Steps along the sign of the loss's gradient, each projected back into the ball.

    x ← clip(Π(x + step_size · sign(∇ₓ cross-entropy(x, y))), 0, 1), with Π the projection on the L∞ ball of
    radius eps around the clean image, from a point drawn uniformly in the ball. With ``early_stop`` a sample leaves
    the batch at its first point that fools the model: its success is the same and found sooner, but such points
    lie next to the boundary, so that a defense restores more of them. With ``engine=foolbox`` Foolbox's
    implementation runs, with the same result.

    With ``search=minimal`` each sample gets the nearest point that a search over eps finds: it grows eps until PGD
    succeeds and bisects, each try ending at its first success, as in Foolbox 2.3; then it follows the
    boundary to where it is nearer, since PGD succeeds at some eps and fails at a larger one.
    """

    name: ClassVar[str] = "pgd"
    source: ClassVar[str] = (
        "Madry, Makelov, Schmidt, Tsipras and Vladu 2018, Towards Deep Learning Models Resistant to Adversarial "
        "Attacks, section 2.1"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON
    only_in: ClassVar[Mapping[str, str]] = {
        **EpsSearch.only_in,
        "search_steps": "minimal",
        "early_stop": "none",
        "engine": "none",
    }

    eps: float = param(0.3, min=0, help="largest change of a pixel, images being in [0, 1]")
    steps: int = param(40, min=1, help="number of gradient steps")
    step_size: float | None = param(
        None,
        above=0,
        help="change of a pixel a step, with search=minimal at eps .3 · max_eps and in proportion at others; "
        "none: eps/30, or more where steps are fewer than 40",
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

    def __post_init__(self) -> None:
        """Checks every parameter, and that the engine heeds those that are set.

        Raises:
            ParameterError: A value is not allowed, or not together with the others.
        """
        super().__post_init__()
        if self.early_stop and self.engine == "foolbox":
            raise ParameterError("early_stop=true has no meaning with engine=foolbox, whose PGD takes every step")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        if self.search == "minimal":
            rate = _rate(self.steps) if self.step_size is None else self.step_size / (FIRST * self.max_eps)
            return BallSearch(
                model,
                images,
                labels,
                self.max_eps,
                rng=rng if self.random_start else None,
                steps=self.steps,
                rate=rate,
                bisections=self.search_steps,
            ).run()
        start = None
        if self.random_start:
            shift = rng.uniform(*images.shape[1:], low=-self.eps, high=self.eps)
            start = images + shift.to(images.device)
        step_size = _rate(self.steps) * self.eps if self.step_size is None else self.step_size
        if self.engine == "foolbox":
            attack = _foolbox_attack(self.steps, step_size, start)
            return foolbox_engine.maximise(attack, model, images, labels, self.eps)
        return sign_steps(
            model,
            images,
            labels,
            images if start is None else start,
            eps=self.eps,
            steps=self.steps,
            step_size=step_size,
            early_stop=self.early_stop,
        )

    def passes(self) -> int:
        """A gradient a step; in a search most tries, but not all, take every step."""
        return self.steps if self.search == "none" else search_passes(self.steps, self.search_steps)


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


def _rate(steps: int) -> float:
    """The size of a step as a share of eps."""
    # Fewer steps than 40 of Madry et al.'s size would reach only a part of the ball: 4/3 is how far 40 go.
    return max(MADRY_STEP, 4 / (3 * steps))
