"""Square Attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Access, Artefact, Attack, Budget, Goal, Norm, SampleRandom, goal_param, param
from advbench_attacks.balls import Ball
from advbench_attacks.black_box.square_search import SquareSearch

__all__ = ["SquareAttack"]


@dataclass(frozen=True)
class SquareAttack(Attack):
    """Random search over square-shaped changes, guided by the margin; it uses no gradients.

    The first query of a sample is about its clean image, and the next one about random stripes. ``queries`` counts from
    the stripes on, as in the authors' code. Squares shrink as the search goes on. A sample is done at its first
    adversarial point. If there is none, it gets the point of highest margin, max_{j≠y} zⱼ − z_y, or
    zₜ − max_{j≠t} zⱼ with a ``goal`` t.
    """

    name: ClassVar[str] = "square"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Andriushchenko, Croce, Flammarion and Hein 2020, Square Attack: a query-efficient black-box adversarial "
        "attack via random search, algorithms 1 to 3"
    )
    access: ClassVar[Access] = "scores"

    eps: float = param(0.3, min=0, help="largest norm of the perturbation, for images in [0, 1]")
    norm: str = param("linf", choices=("linf", "l2"), help="norm of the perturbation")
    queries: int = param(
        5000, min=1, help="maximum number of queries per sample, not counting the one about the clean image"
    )
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
        del fitted
        ball = Ball(cast(Norm, self.norm), self.eps)
        return SquareSearch(model, images, goal, ball, queries=self.queries, rng=rng.derive(self.name)).run()

    def budget(self) -> Budget:
        """Returns the ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """Returns a third of a gradient for each query: a forward pass each, for a sample that withstands them all."""
        return self.queries // 3
