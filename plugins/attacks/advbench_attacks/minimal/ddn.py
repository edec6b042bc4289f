"""The attack that decouples a perturbation's direction and its norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Attack, Norm, SampleRandom, param
from advbench_attacks.minimal.ddn_search import shrink_norms

__all__ = ["DecoupledDirectionAndNorm"]


@dataclass(frozen=True)
class DecoupledDirectionAndNorm(Attack):
    """Turns a perturbation along the loss's gradient, and shrinks or grows it by 5 % a step.

    At each step δ ← δ + α ∇J/‖∇J‖₂, rescaled to the norm ε, which is 5 % smaller after a point that fools the model
    and 5 % larger after one that does not; x' = clip(x + δ, 0, 1). The nearest x' that fools the model is the result.
    J is the cross-entropy at first; in the second half of the steps, which settle at the boundary with one class,
    it is the difference of that class's logit and the true one's: no other class's gradient turns the way to it.

    A minimal attack in L2, deterministic. The paper begins at the clean image with a norm of 1; here the nearest of
    the boundaries linearised there is where δ begins, and the gradients of at most nine classes that this takes count
    as steps. α is as much larger or smaller than the paper's as that norm is. The cross-entropy is that of logits
    scaled to one range, and the paper knows no other loss; it also rounds x' to 8 bits at every step, where here
    nothing is rounded. Where the norm shrinks until the end, the way to the result is halved towards the boundary, and
    the later half of the steps is taken again from there. The last tenth of the way to where δ begins is halved four
    times: that is where the boundary of a linear model is, and the norm goes by 5 % at a time.
    """

    name: ClassVar[str] = "ddn"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger 2019, Decoupling Direction and Norm for Efficient "
        "Gradient-Based L2 Adversarial Attacks and Defenses, algorithm 1"
    )

    steps: int = param(100, min=1, help="number of gradient steps")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        del rng
        return shrink_norms(model, images, labels, steps=self.steps).confirmed(model)

    def minimises(self) -> Norm:
        """L2."""
        return "l2"

    def passes(self) -> int:
        """A gradient a step."""
        return self.steps
