"""Fast adaptive boundary attack (FAB), targeted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Artefact, Goal, Norm, SampleRandom, goal_param, param
from advbench_attacks.goals import AttackWithTargets
from advbench_attacks.minimal.fab_search import FabSearch

__all__ = ["TargetedFab"]


@dataclass(frozen=True)
class TargetedFab(AttackWithTargets):
    """Steps to the linearised boundary with one class after another, biased towards the clean image.

    A minimal attack: it returns each sample's nearest adversarial point. Targets are the other classes with the largest
    logits at the clean image, at most ``targets`` of them. Deterministic.

    With a ``goal``, there is one target class t. Each step goes to the nearest point at which t is ahead of the three
    other classes with the largest logits, all linearised.
    """

    name: ClassVar[str] = "fab-t"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Croce and Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack, "
        "algorithm 1; targeted as in their Reliable evaluation of adversarial robustness (2020)"
    )

    norm: str = param("linf", choices=("linf", "l2"), help="norm to minimize")
    targets: int = param(9, min=1, help="number of target classes, those with the largest logits first")
    steps: int = param(100, min=1, help="number of steps per target class")
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
        return FabSearch(model, images, goal, steps=self.steps, targets=self.targets, norm=self.minimized_norm()).run()

    def minimized_norm(self) -> Norm:
        """Returns the norm parameter."""
        return cast(Norm, self.norm)

    def passes(self) -> int:
        """Returns one gradient and one forward pass per step and class; with a goal, two more backward passes."""
        return self.steps * (4 * self.targets if self.goal == "untargeted" else 8) // 3
