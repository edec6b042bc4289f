"""DeepFool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Attack, Norm, SampleRandom, param
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.minimal.deepfool_search import BoundarySteps

__all__ = ["DeepFool"]


@dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest of the class boundaries, linearised at the point reached, until one is crossed.

    A minimal attack: for an affine classifier it ends at the closest misclassified point, times 1 + overshoot.
    Deterministic. With ``engine=foolbox`` Foolbox's implementation runs, which goes 1e-4 beyond each boundary besides;
    here it is a ten-thousandth of the way at most, and nothing at the first step where the overshoot is as much. The
    result is otherwise the same but for rounding.
    """

    name: ClassVar[str] = "deepfool"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Moosavi-Dezfooli, Fawzi and Frossard 2016, DeepFool: a simple and accurate method to fool deep neural "
        "networks, algorithm 2; for L-infinity section 3.3"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON

    steps: int = param(50, min=1, help="largest number of steps")
    candidates: int = param(
        10, min=2, help="how many of the likeliest classes are looked at, the predicted one included"
    )
    overshoot: float = param(0.02, min=0, help="how far to go past the boundary, as a share of the way to it")
    norm: str = param("l2", choices=("l2", "linf"), help="the norm to keep small")
    engine: str = param("native", choices=("native", "foolbox"), help="whose implementation runs")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        del rng
        if self.engine == "native":
            return BoundarySteps(
                model,
                images,
                labels,
                steps=self.steps,
                candidates=self.candidates,
                overshoot=self.overshoot,
                norm=self.minimises(),
            ).run()
        attacks = foolbox_engine.load().attacks
        variant = {"l2": attacks.L2DeepFoolAttack, "linf": attacks.LinfDeepFoolAttack}[self.norm]
        attack = variant(steps=self.steps, candidates=self.candidates, overshoot=self.overshoot)
        return foolbox_engine.minimise(attack, model, images, labels)

    def minimises(self) -> Norm:
        """The norm that is given."""
        return cast(Norm, self.norm)

    def passes(self) -> int:
        """A gradient a candidate at first and a few a step then; few images need more than a dozen steps."""
        steps = min(self.steps, 12)
        return self.candidates * steps if self.engine == "foolbox" else self.candidates + 2 * steps
