"""RayS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Access, Artefact, Budget, Goal, Norm, SampleRandom, param
from advbench_attacks.black_box.rays_search import RaySearch
from advbench_attacks.goals import UntargetedAttack

__all__ = ["RayS"]


@dataclass(frozen=True)
class RayS(UntargetedAttack):
    """Searches for the direction of signs along which the decision boundary is nearest; it needs labels only.

    The attack starts with a step of the same sign at all values of the image. It flips the signs of the whole image, of
    its halves, of its quarters and so on, down to single values, and then of single values again. A flip is kept if the
    present radius still suffices; the radius is then bisected. There is nothing to tune, and nothing is random.

    Without ``eps``, a sample ends when its queries do, or when no flip of a single value shortens the radius. With
    ``eps``, it ends as soon as a direction succeeds at radius eps, which a bisection tries first; a sample without a
    success gets the point at distance eps in the best direction.
    """

    name: ClassVar[str] = "rays"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Chen and Gu 2020, RayS: A Ray Searching Method for Hard-label Adversarial Attack, algorithms 2 and 3"
    )
    access: ClassVar[Access] = "labels"
    why_untargeted: ClassVar[str] = "its first directions hardly ever lead to a given class"
    use_instead: ClassVar[str] = "square"

    eps: float | None = param(
        None, min=0, help="largest L∞ norm of the perturbation, for images in [0, 1]; none: search for the smallest"
    )
    queries: int = param(10_000, min=1, help="maximum number of queries per sample, with the one about the clean image")

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
        return RaySearch(model, images, goal, eps=self.eps, queries=self.queries).run()

    def budget(self) -> Budget | None:
        """Returns the L∞ ball of radius eps, or None without eps."""
        return None if self.eps is None else Budget("linf", self.eps)

    def minimized_norm(self) -> Norm:
        """Returns L∞."""
        return "linf"

    def passes(self) -> int:
        """Returns a third of a gradient for each query: a forward pass each, for a sample that uses them all."""
        return self.queries // 3
