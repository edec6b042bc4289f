"""The attack that decouples a perturbation's direction and its norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Attack, Norm, SampleRandom, for_rows, is_stochastic, param
from advbench_attacks.first_boundary import to_first_boundary
from advbench_attacks.input_gradients import each, margin_gradient, surplus_gradient
from advbench_attacks.minimal_steps import NearestPoints, annealed, scaling, size

__all__ = ["DecoupledDirectionAndNorm"]

CHANGE = 0.05
"""γ: by what share the norm shrinks after a point that fools the model, and grows after one that does not."""

WITHOUT_SLOPES = 1.0
"""The L2 norm of the first perturbation where no boundary was found at the clean image."""

_SETTLING = 0.65
"""After what share of the steps the norm may first have shrunk to the boundary and still settle at it."""

FIRST_STEP, LAST_STEP = 1.0, 0.01
"""α, the L2 length of a step as a share of the first perturbation's: it falls along a cosine."""


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
    the later half of the steps is taken again from there.
    """

    name: ClassVar[str] = "ddn"
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
        nearest = NearestPoints(images, labels, "l2")
        rows = torch.arange(len(images), device=images.device)
        first = to_first_boundary(for_rows(model, rows), images, labels, "l2", steps=self.steps)
        rows = (first.logits.argmax(dim=1) == labels).nonzero().flatten()
        if not len(rows):
            return nearest.points
        begins = (images + (1 + CHANGE) * first.changes).clamp(0, 1)[rows]
        norm = size(begins - images[rows], "l2")
        norm = torch.where(norm > 0, norm, WITHOUT_SLOPES)
        self._shrink(model, nearest, rows, begins, norm, begin=first.gradients)
        if not is_stochastic(model):
            share = nearest.distances[rows] / norm
            unsettled = rows[share < (1 - CHANGE) ** (_SETTLING * self.steps)]
            if len(unsettled):
                nearest.look_on_the_way(model, unsettled)
                self._shrink(
                    model,
                    nearest,
                    unsettled,
                    nearest.points[unsettled],
                    nearest.distances[unsettled],
                    begin=self.steps // 2,
                )
        return nearest.confirmed(model)

    def _shrink(
        self,
        model: torch.nn.Module,
        nearest: NearestPoints,
        rows: torch.Tensor,
        points: torch.Tensor,
        norm: torch.Tensor,
        *,
        begin: int,
    ) -> None:
        """Takes the steps of these samples from that one on, which begin at points of these norms: (samples,)."""
        images, labels, first_norm = nearest.images[rows], nearest.labels[rows], norm
        among = NearestPoints(images, labels, "l2")
        for step in range(begin, self.steps):
            # At unit length the gradient of the surplus is that of the cross-entropy.
            loss = surplus_gradient if step < self.steps / 2 else margin_gradient
            gradient, logits = loss(for_rows(model, rows), points, labels)
            change = points - images
            hit = among.note(None, points, logits, size(change, "l2"))
            norm = norm * torch.where(hit, 1 - CHANGE, 1 + CHANGE)
            gradient, factors = scaling(gradient)
            length = annealed(FIRST_STEP, LAST_STEP, step, self.steps) * first_norm
            change, shrink = scaling(change.addcmul_(gradient, each(length * factors)))
            points = torch.addcmul(images, change, each(norm * shrink)).clamp_(0, 1)
        with torch.no_grad():
            among.note(None, points, for_rows(model, rows)(points))
        nearest.take(rows, among)

    def minimises(self) -> Norm:
        """L2."""
        return "l2"

    def passes(self) -> int:
        """A gradient a step."""
        return self.steps
