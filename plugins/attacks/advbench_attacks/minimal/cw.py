"""The attack of Carlini and Wagner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Attack, Norm, SampleRandom, param
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.minimal.cw_search import ConstantSearch

__all__ = ["CarliniWagnerL2"]


@dataclass(frozen=True)
class CarliniWagnerL2(Attack):
    """Minimises ‖x' − x‖₂² + c · max(0, margin + confidence) with Adam, searching the constant c.

    The margin is the true class's logit minus the largest other; x' = (tanh(w) + 1)/2 stays in [0, 1] by
    construction. A minimal attack, deterministic.

    The search begins beside the nearest of the boundaries linearised at the clean image, or where these slopes mislead
    at what a few steps of DDN find. It goes on from what each constant found; one that is far too small by
    the slopes there is passed over, and a sample without progress ends its steps early. Adam's steps are smaller than
    the learning rate where a point has been found that is nearer than a few of them are long.
    With ``engine=foolbox`` Foolbox's implementation runs instead, which begins each constant at the clean image.
    """

    name: ClassVar[str] = "cw"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Carlini and Wagner 2017, Towards Evaluating the Robustness of Neural Networks, sections V and VI-A"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON

    search_steps: int = param(5, min=1, help="how many constants c are tried")
    steps: int = param(1000, min=1, help="largest number of steps of Adam a constant")
    learning_rate: float = param(5e-3, above=0, help="step size of Adam, in the space of w")
    initial_const: float = param(1e-2, above=0, help="the first constant c; it is multiplied by 10 until one succeeds")
    confidence: float = param(0.0, min=0, help="by how much another logit must exceed the true class's")
    engine: str = param("native", choices=("native", "foolbox"), help="whose implementation runs")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        del rng
        if self.engine == "native":
            return ConstantSearch(
                model,
                images,
                labels,
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
            # Foolbox's early abort ends the steps of all samples when the loss summed over the batch no longer
            # falls, so that a sample's result would depend on its neighbours.
            abort_early=False,
        )
        return foolbox_engine.minimise(attack, model, images, labels)

    def minimises(self) -> Norm:
        """L2."""
        return "l2"

    def passes(self) -> int:
        """A gradient a step and constant; natively most samples end after a fifth of them."""
        return self.search_steps * self.steps // (5 if self.engine == "native" else 1)
