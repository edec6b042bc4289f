"""The search of FAB."""

from __future__ import annotations

import torch

from advbench.api import Goal, Norm, for_rows, is_stochastic
from advbench_attacks.classifier_calls import float32_logits, reaches_goal
from advbench_attacks.half_spaces import step_into_half_spaces
from advbench_attacks.hyperplane_projection import step_to_hyperplane
from advbench_attacks.input_gradients import input_gradient
from advbench_attacks.losses import targeted_margin_loss, top_other_classes
from advbench_attacks.minimal.nearest_boundary import find_nearest_boundary, linearized_region
from advbench_attacks.nearest_adversarials import NearestAdversarials
from advbench_attacks.norms import lp_norm, per_image
from advbench_attacks.success_criterion import margin_above_tolerance

__all__ = ["FabSearch"]

_MAX_BIAS = 0.1
"""α_max: largest weight of the clean image's step in a step."""

_OVERSHOOT = 1.05
"""η: length of a step, as a multiple of the distance to the boundary."""

_BACKWARD = 0.9
"""β: share of its distance from the clean image that an adversarial point keeps in the backward step."""

_REGION_CLASSES = 3
"""Number of classes whose boundaries with a goal's target are linearised at each step, the largest logits first."""

_INTERPOLATIONS = 3
"""Number of points evaluated between the clean image and the nearest adversarial point at the end."""

_INTERPOLATION_OVERSHOOT = 0.01
"""How far beyond the predicted boundary such a point lies, as a share of the rest of the segment."""


class FabSearch:
    """Searches for the nearest adversarial point, for one target class after another.

    Each step goes to the linearised boundary z_t = z_y within [0, 1], partly from the current point and partly from the
    clean image. After an adversarial point, a backward step towards the clean image follows. At the end, the boundary
    on the segment to each sample's nearest point is located by linear interpolation. This is algorithm 1 of Croce and
    Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack, in the targeted form of
    their Reliable evaluation of adversarial robustness (2020), without restarts.

    With a goal, each step goes into the intersection of the linearised half-spaces z_t ≥ z_j of the three other classes
    with the largest logits. With one class at a time, a third of the samples of a small network would not reach their
    target. First, the nearest point of the target's region linearised at the clean image is tried.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        steps: Steps per target class.
        targets: Number of target classes, those with the largest logits at the clean image first; with a goal, the
            goal's target is the only one.
        norm: ``linf`` or ``l2``.
        eps: A sample leaves the search once it has an adversarial point within eps; None to search to the end.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        *,
        steps: int,
        targets: int,
        norm: Norm,
        eps: float | None = None,
    ) -> None:
        self.model = model
        self.images = images
        self.goal = goal
        self.steps = steps
        self.targets = targets
        self.norm = norm
        self.eps = -1.0 if eps is None else eps
        self.nearest = NearestAdversarials(images, goal, norm)

    def run(self) -> torch.Tensor:
        """Runs the search.

        Returns:
            Images of the clean images' shape; the clean image for a sample that reaches the goal already, or has no
            adversarial point. With eps, a point beyond it is returned if there is none within it.
        """
        with torch.no_grad():
            logits = float32_logits(self.model, self.images)
        unreached = ~self.goal.reached(logits)
        if self.goal.targeted and unreached.any() and not is_stochastic(self.model):
            region = find_nearest_boundary(self.model, self.images, self.goal, self.norm, steps=self.steps)
            points = (self.images + region.perturbations).clamp(0, 1)
            self.nearest.query(self.model, unreached.nonzero().flatten(), points[unreached])
        classes = top_other_classes(logits, self.goal.labels, self.targets).T
        for targets in classes if self.goal.targets is None else self.goal.targets[None]:
            rows = (unreached & (self.nearest.distances > self.eps)).nonzero().flatten()
            self._run_target(rows, targets[rows])
        outside_eps = self.nearest.distances.isfinite() & (self.nearest.distances > self.eps)
        rows = outside_eps.nonzero().flatten()
        self._interpolate(rows, margin_above_tolerance(logits, self.goal)[rows])
        if self.eps < 0:
            return self.nearest.verified(self.model)
        points = self.nearest.points
        failed = ~reaches_goal(self.model, points, self.goal)
        return torch.where(per_image(failed), self.images, points)

    def _run_target(self, rows: torch.Tensor, targets: torch.Tensor) -> None:
        """Takes all steps of these samples for one target class each."""
        points = self.images[rows]
        for _ in range(self.steps):
            if not len(rows):
                return
            model, goal = for_rows(self.model, rows), self.goal[rows]
            points = self._step(model, points, self.images[rows], goal, targets)
            with torch.no_grad():
                logits = float32_logits(model, points)
            self.nearest.update(rows, points, logits)
            # Points within the rounding tolerance of the boundary do not count as adversarial, but they take the
            # backward step too: without it, they would stay where they are, as all later steps would be as short.
            crossed = per_image(goal.reached(logits))
            points = torch.where(crossed, torch.lerp(self.images[rows], points, _BACKWARD), points)
            if self.eps >= 0:
                active = (self.nearest.distances[rows] > self.eps).nonzero().flatten()
                rows, targets, points = rows[active], targets[active], points[active]

    def _step(
        self,
        model: torch.nn.Module,
        points: torch.Tensor,
        images: torch.Tensor,
        goal: Goal,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """Returns the points after one step; all arguments have one row per sample."""
        both = torch.cat((points, images))
        if goal.targets is None:
            loss = targeted_margin_loss(targets)
            normals, logits = input_gradient(model, points, goal, loss)
            offsets = loss(logits, goal).nan_to_num(0.0)
            clean_offsets = offsets + (normals * (images - points)).flatten(1).sum(dim=1)
            both_steps = step_to_hyperplane(
                both, normals.repeat(2, 1, 1, 1), torch.cat((offsets, clean_offsets)), self.norm
            )
        else:
            normals, offsets = linearized_region(model, points, goal.targets, _REGION_CLASSES)
            clean_offsets = offsets + (normals * (images - points)[:, None]).flatten(2).sum(dim=2)
            both_steps = step_into_half_spaces(
                both, normals.repeat(2, 1, 1, 1, 1), torch.cat((offsets, clean_offsets)), self.norm
            )
        steps, clean_steps = both_steps.chunk(2)
        distance, clean_distance = lp_norm(steps, self.norm), lp_norm(clean_steps, self.norm)
        bias = per_image(
            (distance / (distance + clean_distance).clamp(min=torch.finfo(distance.dtype).tiny)).clamp(max=_MAX_BIAS)
        )
        next_points = torch.lerp(points + _OVERSHOOT * steps, images + _OVERSHOOT * clean_steps, bias)
        return next_points.clamp(0, 1)

    def _interpolate(self, rows: torch.Tensor, clean_margin: torch.Tensor) -> None:
        """Locates the boundary on the segments from these samples' clean images to their nearest points."""
        if not len(rows):
            return
        images, goal, model = self.images[rows], self.goal[rows], for_rows(self.model, rows)
        perturbations = self.nearest.points[rows] - images
        with torch.no_grad():
            adv_margin = margin_above_tolerance(float32_logits(model, images + perturbations), goal)
        low, high = torch.zeros_like(adv_margin), torch.ones_like(adv_margin)
        for _ in range(_INTERPOLATIONS):
            share = (clean_margin / (clean_margin - adv_margin)).nan_to_num(0.0).clamp(0, 1)
            position = low + (high - low) * (share + _INTERPOLATION_OVERSHOOT * (1 - share))
            points = (images + per_image(position) * perturbations).clamp(0, 1)
            with torch.no_grad():
                logits = float32_logits(model, points)
            is_adv, margins = self.nearest.update(rows, points, logits), margin_above_tolerance(logits, goal)
            low, clean_margin = torch.where(is_adv, low, position), torch.where(is_adv, clean_margin, margins)
            high, adv_margin = torch.where(is_adv, position, high), torch.where(is_adv, margins, adv_margin)
