"""The attack of Carlini and Wagner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Artefact, Attack, Goal, Norm, SampleRandom, goal_param, param
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.minimal.cw_search import CarliniWagnerSearch

__all__ = ["CarliniWagnerL2"]


@dataclass(frozen=True)
class CarliniWagnerL2(Attack):
    """Minimises ‖x' − x‖₂² + c · max(0, margin + confidence) with Adam, and searches for the constant c.

    The margin is the true class's logit minus the largest other one; x' = (tanh(w) + 1)/2 stays in [0, 1] by
    construction. A minimal attack in L2, deterministic.

    The search starts just beyond the nearest boundary linearised at the clean image, or, where the linearisation is
    poor, at the result of a few steps of DDN. Each constant continues from the result of the previous one. A constant
    that is far too small by the linearisation is skipped, and a sample without progress ends its steps early. Adam's
    step size falls below the learning rate once an adversarial point is nearer than a few such steps.

    With a ``goal`` t, the margin is max_{j≠t} zⱼ − zₜ, and the search starts just beyond the nearest point at which t
    is the predicted class, all logits linearised.

    ``engine=foolbox`` runs Foolbox's implementation instead, which starts each constant at the clean image.
    """

    name: ClassVar[str] = "cw"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Carlini and Wagner 2017, Towards Evaluating the Robustness of Neural Networks, sections V and VI-A"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON

    search_steps: int = param(5, min=1, help="number of constants c to try")
    steps: int = param(1000, min=1, help="maximum number of Adam steps per constant")
    learning_rate: float = param(5e-3, above=0, help="Adam's step size, in the space of w")
    initial_const: float = param(1e-2, above=0, help="first constant c; multiplied by 10 until one succeeds")
    confidence: float = param(0.0, min=0, help="margin by which another logit must exceed the true class's")
    engine: str = param("native", choices=("native", "foolbox"), help="implementation to run")
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
        if self.engine == "native":
            return CarliniWagnerSearch(
                model,
                images,
                goal,
                search_steps=self.search_steps,
                steps=self.steps,
                learning_rate=self.learning_rate,
                initial_const=self.initial_const,
                confidence=self.confidence,
            ).run()
        attack = foolbox_engine.load().attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.search_steps,
            steps=self.steps,
            stepsize=self.learning_rate,
            confidence=self.confidence,
            initial_const=self.initial_const,
            # Foolbox's early abort stops all samples when the loss summed over the batch no longer falls, so a sample's
            # result would depend on the rest of its batch.
            abort_early=False,
        )
        return foolbox_engine.run_minimal(attack, model, images, goal)

    def minimized_norm(self) -> Norm:
        """Returns L2."""
        return "l2"

    def passes(self) -> int:
        """Returns one gradient per step and constant; natively, a fifth, since most samples end early."""
        return self.search_steps * self.steps // (5 if self.engine == "native" else 1)
