"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from advbench.api import Attack, Budget, SampleRandom, param
from advbench_attacks import foolbox_engine

if TYPE_CHECKING:
    from eagerpy.tensor.tensor import Tensor
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack

__all__ = ["ProjectedGradientDescent"]

MADRY_STEP = 0.01 / 0.3
"""Step size relative to eps: .01 at eps .3 (Madry et al. 2018, MNIST)."""


@dataclass(frozen=True)
class ProjectedGradientDescent(Attack):
    """Steps along the sign of the loss's gradient, each projected back into the ball.

    x ← clip(Π(x + step_size · sign(∇ₓ cross-entropy(x, y))), 0, 1), with Π the projection on the L∞ ball of
    radius eps around the clean image, from a point drawn uniformly in the ball.
    """

    name: ClassVar[str] = "pgd"
    source: ClassVar[str] = (
        "Madry, Makelov, Schmidt, Tsipras and Vladu 2018, Towards Deep Learning Models Resistant to Adversarial "
        "Attacks, section 2.1"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON

    eps: float = param(0.3, min=0, help="largest change of a pixel, images being in [0, 1]")
    steps: int = param(40, min=1, help="number of gradient steps")
    step_size: float | None = param(
        None, above=0, help="change of a pixel a step; none: eps/30, or more where steps are fewer than 40"
    )
    random_start: bool = param(True, help="start at a random point of the ball instead of at the clean image")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        start = None
        if self.random_start:
            shift = rng.uniform(*images.shape[1:], low=-self.eps, high=self.eps)
            start = images + shift.to(images.device)
        attack = _descent(self.steps, self.step_size, start)
        return foolbox_engine.maximise(attack, model, images, labels, self.eps)

    def budget(self) -> Budget:
        """The L∞ ball of radius eps."""
        return Budget("linf", self.eps)

    def passes(self) -> int:
        """A gradient a step."""
        return self.steps


def _descent(steps: int, step_size: float | None, start: torch.Tensor | None) -> LinfProjectedGradientDescentAttack:
    """Foolbox's PGD, from the given points instead of ones drawn from torch's global generator."""
    foolbox_engine.load()
    from eagerpy.astensor import astensor
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack

    class FromStart(LinfProjectedGradientDescentAttack):
        def get_random_start(self, x0: Tensor, epsilon: float) -> Tensor:
            del x0, epsilon
            return astensor(start)

    return FromStart(
        # Fewer steps than 40 of Madry et al.'s size would reach only a part of the ball: 4/3 is how far 40 go.
        rel_stepsize=max(MADRY_STEP, 4 / (3 * steps)),
        abs_stepsize=step_size,
        steps=steps,
        random_start=start is not None,
    )
