"""The nearest adversarial point of each sample, as minimal attacks collect it."""

from __future__ import annotations

import math

import torch

from advbench.api import Goal, Norm, for_rows
from advbench_attacks.active_sets import store_where
from advbench_attacks.classifier_calls import float32_logits, reaches_goal_in_batch
from advbench_attacks.norms import lp_norm, per_image
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["NearestAdversarials", "verify_in_batch"]

_BISECTIONS = 12
"""Default number of bisections between a clean image and its nearest adversarial point."""

_PUSHES = 8
_PUSH_FACTOR = 1.001
"""How often, and by which factor at a time, a point is pushed outwards that is no longer adversarial in the batch."""

_ROUNDING = 1e-7
"""First push of a point as a share of its image's L2 norm: about the rounding error of a sum over an image."""


class NearestAdversarials:
    """Keeps the nearest adversarial point seen so far for each sample.

    Args:
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        norm: The norm that measures distances: ``linf``, ``l2`` or ``l1``.

    Attributes:
        points: The nearest adversarial points, of the images' shape; the clean image where there is none yet.
        distances: Their distances from the clean images, infinite where there is none; shape (batch,).
    """

    def __init__(self, images: torch.Tensor, goal: Goal, norm: Norm) -> None:
        self.images = images
        self.goal = goal
        self.norm = norm
        self.points = images.clone()
        self.distances = torch.full(goal.labels.shape, math.inf, device=images.device)

    def update(
        self,
        rows: torch.Tensor | None,
        points: torch.Tensor,
        logits: torch.Tensor,
        distances: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Keeps those points that are adversarial and nearer than their sample's nearest so far.

        Args:
            rows: Indices of the samples that the points belong to, without duplicates; None for all samples in order,
                which is faster.
            points: Shape (samples, channels, height, width).
            logits: The model's logits at the points.
            distances: Distances from the clean images, where already computed; shape (samples,).

        Returns:
            Which points are adversarial: bool, shape (samples,).
        """
        is_adv = is_adversarial(logits, self.goal if rows is None else self.goal[rows])
        if distances is None:
            distances = lp_norm(points - (self.images if rows is None else self.images[rows]), self.norm)
        if rows is None:
            nearer = is_adv & (distances < self.distances)
            self.points = torch.where(per_image(nearer), points, self.points)
            self.distances = torch.where(nearer, distances, self.distances)
        else:
            self._keep(rows, points, distances, is_adv)
        return is_adv

    def query(self, model: torch.nn.Module, rows: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Evaluates the model at these samples' points, then calls :meth:`update`."""
        if not len(rows):  # some networks raise an error on an empty batch
            return torch.zeros_like(rows, dtype=torch.bool)
        with torch.no_grad():
            return self.update(rows, points, float32_logits(for_rows(model, rows), points))

    def merge(self, rows: torch.Tensor, others: NearestAdversarials) -> None:
        """Keeps those of the others' points, which belong to these samples, that are nearer."""
        self._keep(rows, others.points, others.distances, others.distances.isfinite())

    def bisect(
        self, model: torch.nn.Module, rows: torch.Tensor, bisections: int = _BISECTIONS, *, low: float = 0.0
    ) -> None:
        """Bisects the segments from these samples' clean images to their nearest points for nearer ones.

        Args:
            model: Classifier in eval mode.
            rows: Indices of the samples.
            bisections: How many times to bisect.
            low: The lower end of the bisection, as a share of the segment.
        """
        images = self.images[rows]
        perturbations = self.points[rows] - images
        lower, upper = torch.full_like(self.distances[rows], low), torch.ones_like(self.distances[rows])
        for _ in range(bisections):
            middle = (lower + upper) / 2
            points = images + per_image(middle) * perturbations
            is_adv = self.query(model, rows, points)
            lower, upper = torch.where(is_adv, lower, middle), torch.where(is_adv, middle, upper)

    def _keep(self, rows: torch.Tensor, points: torch.Tensor, distances: torch.Tensor, is_adv: torch.Tensor) -> None:
        nearer = is_adv & (distances < self.distances[rows])
        store_where(nearer, rows, (self.points, points), (self.distances, distances))

    def verified(self, model: torch.nn.Module) -> torch.Tensor:
        """Returns the nearest points as :func:`verify_in_batch` does; the clean image where there is none."""
        return verify_in_batch(model, self.points, self.images, self.goal, is_adv=self.distances.isfinite())


def verify_in_batch(
    model: torch.nn.Module,
    points: torch.Tensor,
    images: torch.Tensor,
    goal: Goal,
    *,
    is_adv: torch.Tensor,
    max_eps: float = 1.0,
) -> torch.Tensor:
    """Checks that points reach the goal in the whole batch too, and not only in the batch they were found in.

    Rounding may differ between batches. Each point is first pushed outwards by about one rounding error. Where that
    undoes the success, the exact point is tried, then pushes of growing length, a few at most.

    Args:
        model: Classifier in eval mode.
        points: Images of shape (batch, channels, height, width); changed in place.
        images: Clean images, of the same shape.
        goal: What to make of each sample.
        is_adv: Which points were adversarial when they were found: bool, shape (batch,).
        max_eps: The largest change of a pixel.

    Returns:
        The points; the clean image where none reaches the goal, or ``is_adv`` is false.
    """
    exact, perturbations, failed = points.clone(), points - images, is_adv.clone()
    tiny = torch.finfo(images.dtype).tiny
    rounding = _ROUNDING * lp_norm(images, "l2") / lp_norm(perturbations, "l2").clamp(min=tiny)
    pushes = torch.full_like(rounding, _PUSH_FACTOR)
    for factors in (1 + rounding, None, *(pushes**times for times in range(1, _PUSHES + 1))):
        rows = failed.nonzero().flatten()
        if not len(rows):
            break
        points[rows] = exact[rows]
        if factors is not None:
            pushed = (per_image(factors[rows]) * perturbations[rows]).clamp(-max_eps, max_eps)
            points[rows] = (images[rows] + pushed).clamp(0, 1)
        failed[rows] = ~reaches_goal_in_batch(model, points, goal, rows)
    store_where(failed, None, (points, images))
    return points
