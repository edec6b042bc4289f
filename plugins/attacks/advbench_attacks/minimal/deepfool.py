"""DeepFool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Attack, Norm, SampleRandom, param
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.minimal.deepfool_search import DeepFoolSearch

__all__ = ["DeepFool"]


@dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest linearised class boundary until one is crossed.

    A minimal attack: for an affine classifier it returns the closest misclassified point, times 1 + overshoot.
    Deterministic. ``engine=foolbox`` runs Foolbox's implementation, which goes another 1e-4 beyond each boundary. Here,
    that is at most a ten-thousandth of the distance, and nothing at the first step if the overshoot is at least as
    large. Otherwise the results are equal up to rounding.
    """

    name: ClassVar[str] = "deepfool"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Moosavi-Dezfooli, Fawzi and Frossard 2016, DeepFool: a simple and accurate method to fool deep neural "
        "networks, algorithm 2; for L-infinity section 3.3"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON

    steps: int = param(50, min=1, help="maximum number of steps")
    candidates: int = param(
        10, min=2, help="number of candidate classes, those with the largest logits, including the predicted one"
    )
    overshoot: float = param(0.02, min=0, help="how far to go past the boundary, as a share of the perturbation")
    norm: str = param("l2", choices=("l2", "linf"), help="norm to minimize")
    engine: str = param("native", choices=("native", "foolbox"), help="implementation to run")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        del rng
        if self.engine == "native":
            return DeepFoolSearch(
                model,
                images,
                labels,
                steps=self.steps,
                candidates=self.candidates,
                overshoot=self.overshoot,
                norm=self.minimized_norm(),
            ).run()
        attacks = foolbox_engine.load().attacks
        variant = {"l2": attacks.L2DeepFoolAttack, "linf": attacks.LinfDeepFoolAttack}[self.norm]
        attack = variant(steps=self.steps, candidates=self.candidates, overshoot=self.overshoot)
        return foolbox_engine.run_minimal(attack, model, images, labels)

    def minimized_norm(self) -> Norm:
        """Returns the norm parameter."""
        return cast(Norm, self.norm)

    def passes(self) -> int:
        """Estimates the gradients: one per candidate at first, then a few per step; a dozen steps are mostly enough."""
        steps = min(self.steps, 12)
        return self.candidates * steps if self.engine == "foolbox" else self.candidates + 2 * steps
