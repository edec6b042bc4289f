"""The smallest L∞ ball in which projected gradient descent finds an adversarial point."""

from __future__ import annotations

import math

import torch

from advbench.api import Goal, SampleRandom, for_rows, is_stochastic
from advbench_attacks.active_sets import store_where
from advbench_attacks.classifier_calls import float32_logits, reaches_goal
from advbench_attacks.input_gradients import sign_gradient
from advbench_attacks.losses import Loss, logsumexp_margin, margin, targeted_margin_loss, top_other_classes
from advbench_attacks.minimal.nearest_boundary import find_nearest_boundary
from advbench_attacks.nearest_adversarials import NearestAdversarials, verify_in_batch
from advbench_attacks.norms import per_image
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["FIRST_EPS", "MinimalPgdSearch", "search_passes"]

FIRST_EPS = 0.3
"""First eps to try, as a share of the largest (Foolbox 2.3, where the largest is 1)."""

EPS_GROWTH = 1.5
"""Factor by which eps grows until an attempt succeeds (Foolbox 2.3)."""

_MIN_BOUNDARY_STEPS = 40
"""Steps along the boundary; or as many as PGD has, if more."""

_TARGETS = 3
"""Default number of target classes whose boundaries are followed."""


_BOUNDARY_OVERSHOOT = 1.05
"""How far to go, as a multiple of the distance to the nearest boundary linearised at the clean image."""

_BISECTIONS = 8
"""Number of bisections on the way to that point."""


class MinimalPgdSearch:
    """Finds the smallest eps of each sample: increases eps, bisects, then follows the decision boundary.

    1. Increase: PGD with eps .3 · max_eps, 1.5 times that and so on, until a point is adversarial.
    2. Bisect: PGD half-way between the largest eps that failed and the distance of the nearest adversarial point.
    3. Follow the boundary: gradient steps in a ball that shrinks below each adversarial point and grows after each
       other one (Pintor, Roli, Brendel and Biggio 2021, Fast Minimum-norm Adversarial Attacks, algorithm 1, here with
       the signs of the gradients). It starts at the nearest adversarial point, then at the clean image for each of a
       few target classes, or for the goal's target, then again at the nearest point. Before that, the segment to the
       nearest boundary linearised at the clean image is bisected, since small eps would take many steps.

    Each PGD attempt ends at its first adversarial point; its step size is proportional to eps. The loss is log Σ_{j≠y}
    exp zⱼ − z_y. Its gradient has the signs of the cross-entropy's, and does not vanish in float32 where the model is
    confident.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        max_eps: The largest eps to try.
        rng: The samples' random streams, for start points uniform in the ball; None to start at the clean image.
        steps: Gradient steps per attempt.
        relative_step_size: Step size as a share of eps.
        bisections: Number of bisections.
        targets: Number of target classes whose boundaries to follow, those with the largest logits first; None for the
            three of the top nine whose linearised boundaries are nearest to the clean image.

    Attributes:
        points: Each sample's nearest adversarial point, or the clean image.
        eps: Its L∞ distance, or infinity.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        max_eps: float,
        *,
        rng: SampleRandom | None,
        steps: int,
        relative_step_size: float,
        bisections: int,
        targets: int | None = None,
    ) -> None:
        self.model = model
        self.images = images
        self.goal = goal
        self.max_eps = max_eps
        self.rng = rng
        self.steps = steps
        self.relative_step_size = relative_step_size
        self.bisections = bisections
        self.targets = targets
        self.points = images.clone()
        self.eps = torch.full(goal.labels.shape, math.inf, device=images.device)

    def run(self) -> torch.Tensor:
        """Runs the search.

        Returns:
            Images of the clean images' shape; the clean image for a sample that reaches the goal already, or has no
            adversarial point within max_eps.
        """
        rows = (~reaches_goal(self.model, self.images, self.goal)).nonzero().flatten()
        if not len(rows):
            return self.points
        failed = self._grow(rows)
        self._bisect(rows, failed)
        losses = self._losses(rows)
        self._follow_boundary(rows, self.points[rows], self.eps[rows], logsumexp_margin)
        for loss in losses:
            self._follow_boundary(rows, self.images[rows], self.eps[rows] / 2, loss)
        self._follow_boundary(rows, self.points[rows], self.eps[rows], logsumexp_margin)
        is_adv = self.eps.isfinite()
        return verify_in_batch(self.model, self.points, self.images, self.goal, is_adv=is_adv, max_eps=self.max_eps)

    def _grow(self, rows: torch.Tensor) -> torch.Tensor:
        """Finds a first adversarial point per sample; returns the largest eps that failed, 0 if none did."""
        failed = torch.zeros_like(self.eps)
        eps = FIRST_EPS * self.max_eps
        while len(rows):
            rows = rows[~self._attack(rows, torch.full((len(rows),), eps, device=rows.device))]
            failed[rows] = eps
            if eps >= self.max_eps:
                break
            eps = min(eps * EPS_GROWTH, self.max_eps)
        return failed

    def _bisect(self, rows: torch.Tensor, failed: torch.Tensor) -> None:
        """Bisects between eps and the largest that failed, for those of these samples that have an eps."""
        rows = rows[self.eps[rows].isfinite()]
        failed = failed[rows]
        for _ in range(self.bisections if len(rows) else 0):
            # The point may be nearer than an eps that failed: success is not monotonic in eps.
            middle = (failed.minimum(self.eps[rows]) + self.eps[rows]) / 2
            failed = torch.where(self._attack(rows, middle), failed, middle)

    def _attack(self, rows: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Runs PGD in balls of radius eps, one per sample; keeps first successes and returns who succeeded."""
        points = self.images[rows]
        if self.rng is not None:
            uniforms = self.rng[rows].uniform(*points.shape[1:], low=-1.0, high=1.0).to(points.device)
            points = (points + per_image(eps) * uniforms).clamp(0, 1)
        is_adv = torch.zeros_like(rows, dtype=torch.bool)
        active = torch.arange(len(rows), device=rows.device)
        for steps_left in range(self.steps, -1, -1):
            if not len(active):
                break
            signs, logits = sign_gradient(
                for_rows(self.model, rows[active]), points, self.goal[rows[active]], logsumexp_margin
            )
            is_adv_now = self._update(rows[active], points, logits)
            store_where(is_adv_now, active, (is_adv, True))
            failed = (~is_adv_now).nonzero().flatten()
            if len(failed) < len(active):
                active, points, signs = active[failed], points[failed], signs[failed]
            if steps_left:
                points = self._take_step(rows[active], points, signs, eps[active], self.relative_step_size)
        return is_adv

    def _losses(self, rows: torch.Tensor) -> list[Loss]:
        """Returns a loss for each boundary to follow: for some of the other classes, or for the goal's target.

        If the number of classes is not given, also bisects the way to the nearest linearised boundary.
        """
        row_model, images, goal = for_rows(self.model, rows), self.images[rows], self.goal[rows]
        if self.targets is None:
            boundary = find_nearest_boundary(
                row_model, images, goal, "linf", steps=search_passes(self.steps, self.bisections)
            )
            if not is_stochastic(self.model):
                if goal.targeted:
                    self._bisect_towards(rows, (images + boundary.perturbations).clamp(0, 1))
                self._bisect_towards(rows, (images + _BOUNDARY_OVERSHOOT * boundary.perturbations).clamp(0, 1))
            if goal.targeted:
                return [margin]
            return [targeted_margin_loss(targets) for targets in boundary.classes[:, :_TARGETS].T]
        with torch.no_grad():
            logits = float32_logits(row_model, images)
        return [targeted_margin_loss(targets) for targets in top_other_classes(logits, goal.labels, self.targets).T]

    def _bisect_towards(self, rows: torch.Tensor, points: torch.Tensor) -> None:
        """Bisects the segments from these samples' clean images to given points for nearer adversarial ones."""
        nearest = NearestAdversarials(self.images, self.goal, "linf")
        is_adv = rows[nearest.query(self.model, rows, points)]
        nearest.bisect(self.model, is_adv, _BISECTIONS)
        nearer = (nearest.distances < self.eps) & (nearest.distances <= self.max_eps)
        store_where(nearer, None, (self.points, nearest.points), (self.eps, nearest.distances))

    def _follow_boundary(self, rows: torch.Tensor, points: torch.Tensor, eps: torch.Tensor, loss: Loss) -> None:
        """Follows the boundary from these points to its nearest part, in balls of initial radius eps."""
        eps = eps.clamp(max=self.max_eps)
        steps = max(self.steps, _MIN_BOUNDARY_STEPS)
        for step in range(steps):
            decay = (1 + math.cos(math.pi * step / steps)) / 2
            change = 0.001 + 0.049 * decay
            relative_step_size = 0.01 + 0.29 * decay
            signs, logits = sign_gradient(for_rows(self.model, rows), points, self.goal[rows], loss)
            distances = _linf(points - self.images[rows])
            self._update(rows, points, logits)
            shrunk = torch.minimum(eps, distances) * (1 - change)
            grown = torch.minimum(eps * (1 + change), self.eps[rows] * (1 - change / 2)).clamp(max=self.max_eps)
            eps = torch.where(is_adversarial(logits, self.goal[rows]), shrunk, grown)
            points = self._take_step(rows, points, signs, eps, relative_step_size)

    def _take_step(
        self,
        rows: torch.Tensor,
        points: torch.Tensor,
        signs: torch.Tensor,
        eps: torch.Tensor,
        relative_step_size: float,
    ) -> torch.Tensor:
        """Takes one PGD step: along the signs, then projected into the ball and [0, 1]."""
        images, eps = self.images[rows], per_image(eps)
        return (images + (points + relative_step_size * eps * signs - images).clamp(-eps, eps)).clamp(0, 1)

    def _update(self, rows: torch.Tensor, points: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Keeps adversarial points that are nearer than before; returns which points are adversarial."""
        is_adv = is_adversarial(logits, self.goal[rows])
        eps = _linf(points - self.images[rows])
        nearer = is_adv & (eps < self.eps[rows])
        store_where(nearer, rows, (self.points, points), (self.eps, eps))
        return is_adv


def search_passes(steps: int, bisections: int, targets: int | None = None) -> int:
    """Estimates the gradients per image: most bisections fail, and so take every step."""
    return steps * bisections + (2 + (targets or _TARGETS)) * max(steps, _MIN_BOUNDARY_STEPS)


def _linf(perturbations: torch.Tensor) -> torch.Tensor:
    """Returns the L∞ norm of each sample's perturbation."""
    return perturbations.abs().flatten(1).amax(dim=1)
