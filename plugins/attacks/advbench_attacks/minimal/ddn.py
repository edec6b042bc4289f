"""Decoupled direction and norm (DDN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Artefact, Attack, Goal, Norm, SampleRandom, goal_param, param
from advbench_attacks.minimal.ddn_search import run_ddn

__all__ = ["DecoupledDirectionAndNorm"]


@dataclass(frozen=True)
class DecoupledDirectionAndNorm(Attack):
    """Gradient steps change the direction of the perturbation; its norm shrinks or grows by 5 % a step.

    At each step δ ← δ + α ∇J/‖∇J‖₂, rescaled to a norm ε that is 5 % smaller after an adversarial point and 5 % larger
    after any other; x' = clip(x + δ, 0, 1). The result is the nearest adversarial x'. In the first half of the steps, J
    is the cross-entropy. In the second half, which converges to one class's boundary, J is the difference of that
    class's logit and the true one's, so that other classes' gradients do not change the direction.

    With a ``goal`` t, the cross-entropy of t falls and the difference is zₜ − max_{j≠t} zⱼ; the start is the nearest
    point at which t is the predicted class, all logits linearised.

    A minimal attack in L2, deterministic. It differs from the paper as follows:

    - The paper starts at the clean image with a norm of 1. Here, δ starts at the nearest boundary linearised at the
      clean image; the gradients of at most nine classes that this takes count as steps. α is scaled with the initial
      norm.
    - The paper uses the cross-entropy throughout. Here, it is computed from logits rescaled to a common range.
    - The paper rounds x' to 8 bits at every step. Here, nothing is rounded.
    - Where the norm shrinks until the end, the segment to the result is bisected, and the second half of the steps is
      repeated from there.
    - The last tenth of the segment to the initial δ is bisected four times: a linear model has its boundary there, and
      the norm changes by 5 % at a time.
    """

    name: ClassVar[str] = "ddn"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger 2019, Decoupling Direction and Norm for Efficient "
        "Gradient-Based L2 Adversarial Attacks and Defenses, algorithm 1"
    )

    steps: int = param(100, min=1, help="number of gradient steps")
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
        del rng, fitted
        return run_ddn(model, images, goal, steps=self.steps).verified(model)

    def minimized_norm(self) -> Norm:
        """Returns L2."""
        return "l2"

    def passes(self) -> int:
        """Returns one gradient per step."""
        return self.steps
