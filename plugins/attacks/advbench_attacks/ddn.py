"""The attack that decouples a perturbation's direction and its norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Attack, Norm, SampleRandom, for_rows, is_stochastic, param
from advbench_attacks.input_gradients import each, margin_gradient, surplus_gradient
from advbench_attacks.minimal_steps import NearestPoints, annealed, scaling, size

__all__ = ["DecoupledDirectionAndNorm"]

FIRST_NORM = 1.0
"""The L2 norm of the first perturbation."""

CHANGE = 0.05
"""γ: by what share the norm shrinks after a point that fools the model, and grows after one that does not."""

_SETTLING = 0.65
"""After what share of the steps the norm may first have shrunk to the boundary and still settle at it."""

_LOOKS = 12
"""How often the way to a nearer boundary is halved."""

FIRST_STEP, LAST_STEP = 1.0, 0.01
"""α, the L2 length of a step: it falls along a cosine."""


@dataclass(frozen=True)
class DecoupledDirectionAndNorm(Attack):
    """Turns a perturbation along the loss's gradient, and shrinks or grows it by 5 % a step.

    At each step δ ← δ + α ∇J/‖∇J‖₂, rescaled to the norm ε, which is 5 % smaller after a point that fools the model
    and 5 % larger after one that does not; x' = clip(x + δ, 0, 1). The nearest x' that fools the model is the result.
    J is the cross-entropy at first; in the second half of the steps, which settle at the boundary with one class,
    it is the difference of that class's logit and the true one's: no other class's gradient turns the way to it.

    A minimal attack in L2, deterministic. The paper knows the cross-entropy alone; it also rounds x' to 8 bits at
    every step, where here nothing is rounded. Where the boundary is so near that the norm shrinks until the end, the
    way to the result is halved towards it, and the later half of the steps is taken again from there, in proportion.
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
        self._shrink(model, nearest, rows, torch.full(labels.shape, FIRST_NORM, device=images.device), begin=0)
        if not is_stochastic(model):
            unsettled = (nearest.distances < FIRST_NORM * (1 - CHANGE) ** (_SETTLING * self.steps)).nonzero().flatten()
            if len(unsettled):
                self._look_on_the_way(model, nearest, unsettled)
                self._shrink(model, nearest, unsettled, nearest.distances[unsettled], begin=self.steps // 2)
        return nearest.confirmed(model)

    def _shrink(
        self, model: torch.nn.Module, nearest: NearestPoints, rows: torch.Tensor, norm: torch.Tensor, *, begin: int
    ) -> None:
        """Takes the steps of these samples from that one on; their first perturbations have these norms: (samples,)."""
        images, labels = nearest.images[rows], nearest.labels[rows]
        points, share = images, norm / FIRST_NORM
        for step in range(begin, self.steps):
            # Of unit length, the gradient of the first loss is that of the cross-entropy.
            loss = surplus_gradient if step < self.steps / 2 else margin_gradient
            gradient, logits = loss(for_rows(model, rows), points, labels)
            if step == begin:
                right = logits.argmax(dim=1) == labels
                if not right.any():
                    return
                rows, points, norm, share = (x[right] for x in (rows, points, norm, share))
                images, labels, gradient, logits = (x[right] for x in (images, labels, gradient, logits))
                among = NearestPoints(images, labels, "l2")
            change = points - images
            hit = among.note(None, points, logits, size(change, "l2"))
            norm = norm * torch.where(hit, 1 - CHANGE, 1 + CHANGE)
            gradient, factors = scaling(gradient)
            length = annealed(FIRST_STEP, LAST_STEP, step, self.steps) * share
            change, shrink = scaling(change.addcmul_(gradient, each(length * factors)))
            points = torch.addcmul(images, change, each(norm * shrink)).clamp_(0, 1)
        with torch.no_grad():
            among.note(None, points, for_rows(model, rows)(points))
        nearest.take(rows, among)

    def _look_on_the_way(self, model: torch.nn.Module, nearest: NearestPoints, rows: torch.Tensor) -> None:
        """Halves the way from these samples' clean images to their nearest points."""
        images = nearest.images[rows]
        ways = nearest.points[rows] - images
        low, high = torch.zeros_like(nearest.distances[rows]), torch.ones_like(nearest.distances[rows])
        for _ in range(_LOOKS):
            middle = (low + high) / 2
            points = images + each(middle) * ways
            with torch.no_grad():
                hit = nearest.note(rows, points, for_rows(model, rows)(points))
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)

    def minimises(self) -> Norm:
        """L2."""
        return "l2"

    def passes(self) -> int:
        """A gradient a step."""
        return self.steps
