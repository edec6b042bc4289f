"""DeepFool's search: steps to the nearest of the linearised class boundaries until one is crossed."""

from __future__ import annotations

import math

import torch

from advbench.api import Norm, for_rows, is_stochastic
from advbench_attacks.input_gradients import each, fooled
from advbench_attacks.minimal_steps import size

__all__ = ["BoundarySteps"]

_BEYOND = 1e-4
"""By how much a step is longer than the way to the boundary, against rounding (Foolbox; the paper has none)."""

_BEYOND_SHARE = 1e-3
"""That length as a share of the way from the clean image at most: 1e-4 alone is much where boundaries are near."""

_SMALLEST = 1e-8
"""Added to the norm of a gradient before dividing by it."""


_WORTH = 0.9
"""What share of a batch must go on for the backward passes to be worth taking for the others, too."""


class BoundarySteps:
    """Takes DeepFool's steps (Moosavi-Dezfooli, Fawzi and Frossard 2016, algorithm 2) on a batch.

    At each step every sample moves to the nearest of the boundaries f_k = z_k − z_y = 0, linearised at its point:
    in L2 by |f_k|/‖∇f_k‖₂² · ∇f_k, in L∞ by |f_k|/‖∇f_k‖₁ · sign ∇f_k (section 3.3). The sum of the steps, times
    1 + overshoot and clipped to [0, 1], is the next point. A step costs a forward pass, or two, and a backward
    pass a class, and samples that are done leave the batch.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        steps: Largest number of steps.
        candidates: How many classes are looked at, the likeliest at the clean image first, the true one included.
        overshoot: How far to go past the boundary, as a share of the way to it.
        norm: ``l2`` or ``linf``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        steps: int,
        candidates: int,
        overshoot: float,
        norm: Norm,
    ) -> None:
        self.model = model
        self.images = images
        self.labels = labels
        self.steps = steps
        self.candidates = candidates
        self.overshoot = overshoot
        self.norm = norm
        self._stochastic = is_stochastic(model)

    def run(self) -> torch.Tensor:
        """Takes the steps.

        Returns:
            Images of the clean images' shape; the clean image for a sample that is misclassified already, or whose
            steps crossed no boundary.
        """
        points, reached = self.images.clone(), self.images
        rows = torch.arange(len(reached), device=reached.device)
        moved = torch.zeros_like(reached)
        for step in range(self.steps + 1):
            asked, logits = self._ask(rows, reached, gradient=not self._stochastic)
            if step == 0:
                classes = logits.detach().argsort(dim=1, descending=True, stable=True)[:, : self.candidates]
            going = logits.argmax(dim=1) == self.labels[rows]
            points[rows[~going]] = reached[~going]
            rows, classes, moved, reached = rows[going], classes[going], moved[going], reached[going]
            if not len(rows) or step == self.steps:
                break
            if self._stochastic or len(rows) < _WORTH * len(asked):
                asked, logits = self._ask(rows, reached, gradient=True)
                going = torch.ones_like(rows, dtype=torch.bool)
            moved = moved + self._nearest(asked, logits, going, rows, classes, moved=moved)
            reached = (self.images[rows] + (1 + self.overshoot) * moved).clamp(0, 1)
        lost = ~fooled(self.model, points, self.labels) | ~points.flatten(1).isfinite().all(dim=1)
        points[lost] = self.images[lost]
        return points

    def _ask(self, rows: torch.Tensor, points: torch.Tensor, *, gradient: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """These samples' points, and what the model says of them; with a graph from one to the other, or without."""
        with torch.set_grad_enabled(gradient):
            points = points.detach().requires_grad_(gradient)
            return points, for_rows(self.model, rows)(points)

    def _nearest(
        self,
        asked: torch.Tensor,
        logits: torch.Tensor,
        going: torch.Tensor,
        rows: torch.Tensor,
        classes: torch.Tensor,
        *,
        moved: torch.Tensor,
    ) -> torch.Tensor:
        """The steps from these points to the nearest of their linearised boundaries, of the points' shape.

        Args:
            asked: Where the samples that the model was asked about are.
            logits: Its answer, with a graph.
            going: Which of them take a step.
            rows: Which samples those are.
            classes: Their candidates, shape (samples, candidates); the true class is skipped.
            moved: Their steps so far, in sum.
        """
        labels = self.labels[rows]
        with torch.enable_grad():
            logits = logits[going]
            gaps = logits.gather(1, classes) - logits.gather(1, labels[:, None])
        shortest = torch.full(labels.shape, math.inf, device=labels.device)
        steps = torch.zeros_like(self.images[rows])
        gone = size(moved, self.norm)
        for k in range(classes.shape[1]):
            another = classes[:, k] != labels
            if not another.any():
                continue
            gradient = torch.autograd.grad(gaps[:, k].sum(), asked, retain_graph=True)[0][going]
            flat = gradient.flatten(1)
            slope = (flat.norm(dim=1) if self.norm == "l2" else flat.abs().sum(dim=1)) + _SMALLEST
            distance = gaps[:, k].detach().abs() / slope
            length = distance + (_BEYOND_SHARE * (gone + distance)).clamp(max=_BEYOND)
            nearer = another & (distance < shortest)
            shortest = torch.where(nearer, distance, shortest)
            step = each(length / slope) * gradient if self.norm == "l2" else each(length) * gradient.sign()
            steps = torch.where(each(nearer), step, steps)
        return steps
