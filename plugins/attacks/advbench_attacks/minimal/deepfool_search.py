"""The search of DeepFool."""

from __future__ import annotations

import itertools
import math

import torch

from advbench.api import Goal, Norm, for_rows, has_limited_queries, is_stochastic
from advbench_attacks.active_sets import on_device, store_where
from advbench_attacks.classifier_calls import float32_logits, reaches_goal
from advbench_attacks.nearest_adversarials import verify_in_batch
from advbench_attacks.norms import lp_norm, per_image

__all__ = ["DeepFoolSearch"]

_MAX_EXTRA_LENGTH = 1e-4
"""Length added to a step beyond the boundary, against rounding (Foolbox; the paper adds nothing)."""

_EXTRA_SHARE = 1e-4
"""Maximum of that length as a share of the distance from the clean image: 1e-4 is large where boundaries are near.

In the first step, the part that the overshoot covers is left out. If it covers everything, the step is shortened by as
much instead, so that rounding makes it no longer than (1 + overshoot) times the distance to a hyperplane. Later steps
need the length: without it they would approach a boundary but never cross it.
"""

_ROUNDING = 6e-8
"""Rounding error of a pixel: half the gap between float32 numbers near 1.

The first step is also shortened by this where the overshoot covers as much: next to a boundary, rounding alone would
make it longer than (1 + overshoot) times the distance.
"""

_MAX_SHORTENING = 0.005
"""Maximum relative shortening of the first step against rounding; the overshoot must be at least twice as large."""

_SMALL_STEP_SHARE = 1e-3
"""A step is small if it is shorter than this share of the perturbation so far; see :class:`_NearestBoundaries`."""

_TIE_STEP = 1e-4
"""Length of the first step of a sample whose two top logits are equal, so that the distance is 0."""

_REUSE_SHARE = 0.9
"""If at least this share of a batch is active, the backward passes include the inactive samples."""

_REUSE_SHARE_ONE = 0.6
"""If at least this share of a batch needs a boundary, one backward pass includes the other samples."""

_MAX_SLOPE_GROWTH = 4.0
"""Factor by which a class's slope may grow unseen, while the slopes that are computed stay within the tolerance."""

_SLOPE_TOLERANCE = 1.25
"""Factor by which a slope may change before all boundaries are computed again."""


class DeepFoolSearch:
    """Takes DeepFool's steps on a batch (Moosavi-Dezfooli, Fawzi and Frossard 2016, algorithm 2).

    At each step, every sample moves to the nearest of the boundaries f_k = z_k − z_y = 0, linearised at its point: in
    L2 by |f_k|/‖∇f_k‖₂² · ∇f_k, in L∞ by |f_k|/‖∇f_k‖₁ · sign ∇f_k (section 3.3). The sum of the steps, times 1 +
    overshoot and clipped to [0, 1], gives the next point. Misclassified samples leave the batch.

    The first step needs a backward pass per class. Later steps compute the boundary that seems nearest, and skip those
    that would be farther even if they were four times as steep as when all were last computed. If a computed slope has
    changed by a quarter since then, all boundaries are computed again.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: The true labels; no targets.
        steps: Maximum number of steps.
        candidates: Number of candidate classes, those with the largest logits at the clean image, the true one
            included.
        overshoot: How far to go past the boundary, as a share of the perturbation.
        norm: ``l2`` or ``linf``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        *,
        steps: int,
        candidates: int,
        overshoot: float,
        norm: Norm,
    ) -> None:
        self.model = model
        self.images = images
        self.goal = goal
        self.labels = goal.labels
        self.steps = steps
        self.candidates = candidates
        self.overshoot = overshoot
        self.norm = norm
        self._counts_matter = is_stochastic(model) or has_limited_queries(model)
        # On an accelerator, gradients of finished samples cost less than waiting to find out which these are.
        self._ahead = images.device.type != "cpu" and not self._counts_matter
        self._first_step = True
        self._slopes = images.new_zeros(len(images), 0)
        self._small_steps = torch.zeros_like(goal.labels)

    def run(self) -> torch.Tensor:
        """Runs the search.

        Returns:
            Images of the clean images' shape; the clean image for a sample that is misclassified already, or whose
            steps crossed no boundary.
        """
        points, current = self.images.clone(), self.images
        crossed = torch.zeros_like(self.labels, dtype=torch.bool)
        rows = torch.arange(len(current), device=current.device)
        total = torch.zeros_like(current)
        for step in range(self.steps + 1):
            evaluated, logits = self._evaluate(rows, current, gradient=not self._counts_matter)
            if step == 0:
                classes = logits.detach().argsort(dim=1, descending=True, stable=True)[:, : self.candidates]
                self._slopes = logits.new_zeros(classes.shape)
            misclassified = logits.argmax(dim=1) != self.labels[rows]
            store_where(misclassified, rows, (points, current), (crossed, True))
            if step == self.steps:
                break
            active = torch.arange(len(rows), device=rows.device)
            if not self._ahead:
                active = (~misclassified).nonzero().flatten()
                rows, classes, total, current = _select(active, rows, classes, total, current)
                misclassified = torch.zeros_like(rows, dtype=torch.bool)
                if not len(rows):
                    break
                if self._counts_matter or len(rows) < _REUSE_SHARE * len(evaluated):
                    evaluated, logits = self._evaluate(rows, current, gradient=True)
                    active = torch.arange(len(rows), device=rows.device)
            boundaries = self._find_nearest(
                evaluated, logits, rows, classes, active_indices=active, unfinished=~misclassified, total=total
            )
            total = total + boundaries.steps
            if self._ahead:
                rows, classes, total = _select(boundaries.active, rows, classes, total)
                if not len(rows):
                    break
            current = (self.images[rows] + (1 + self.overshoot) * total).clamp(0, 1)
        finite = points.flatten(1).isfinite().all(dim=1)
        failed = ~reaches_goal(self.model, points, self.goal) & finite
        points = torch.where(per_image(finite), points, self.images)
        # Only points that are no longer misclassified are pushed; the overshoot protects the others.
        return verify_in_batch(self.model, points, self.images, self.goal, is_adv=failed & crossed)

    def _evaluate(
        self, rows: torch.Tensor, points: torch.Tensor, *, gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns these samples' points and logits, with or without a graph between them."""
        with torch.set_grad_enabled(gradient):
            points = points.detach().requires_grad_(gradient)
            return points, float32_logits(for_rows(self.model, rows), points)

    def _find_nearest(
        self,
        evaluated: torch.Tensor,
        logits: torch.Tensor,
        rows: torch.Tensor,
        classes: torch.Tensor,
        *,
        active_indices: torch.Tensor,
        unfinished: torch.Tensor,
        total: torch.Tensor,
    ) -> _NearestBoundaries:
        """Finds the steps from these points to their nearest linearised boundaries.

        Args:
            evaluated: The points at which the model was evaluated.
            logits: Its logits, with a graph.
            rows: Indices of the samples.
            classes: Their candidate classes, shape (samples, candidates); the true class is skipped.
            active_indices: The places of the samples among the evaluated ones.
            unfinished: Which of the samples take a step; bool, shape (samples,).
            total: The sum of their steps so far.
        """
        labels, slopes = self.labels[rows], self._slopes[rows]
        places = torch.arange(len(rows), device=rows.device)  # of the samples, among those last evaluated
        points = evaluated.detach()[active_indices]
        gaps = _gaps(logits, active_indices, classes, labels)
        heights = gaps.detach().abs()
        pending = (classes != labels[:, None]) & unfinished[:, None]
        bounds = torch.where(slopes > 0, heights / (_MAX_SLOPE_GROWTH * slopes), 0.0)
        new_slopes = torch.zeros_like(slopes)
        boundaries = _NearestBoundaries(total, self.norm, self.overshoot, self._small_steps[rows])
        # All samples need their first boundary, and all boundaries at their first step.
        unchecked = 0 if not self._ahead else classes.shape[1] - 1 if self._first_step else 1
        self._first_step = False
        for number in itertools.count():
            bound, column = bounds.masked_fill(~pending, math.inf).min(dim=1)
            needed = pending.any(dim=1) & (bound <= boundaries.distances)
            selected = places
            if number >= unchecked:
                if self._ahead and number == unchecked:  # one wait for both
                    boundaries.active, selected = (
                        on_device(mask.nonzero().flatten(), rows) for mask in torch.stack((unfinished, needed)).cpu()
                    )
                else:
                    selected = needed.nonzero().flatten()
                if not len(selected):
                    break
            if len(selected) < _REUSE_SHARE_ONE * len(evaluated) and not self._counts_matter:
                evaluated, logits = self._evaluate(rows[selected], points[selected], gradient=True)
                active_indices = torch.arange(len(selected), device=rows.device)
                places[selected] = active_indices  # a sample that needs no boundary now needs none later
                gaps = _gaps(logits, active_indices, classes[selected], labels[selected])
            subset, needed = places[selected], needed[selected]
            k = column[selected, None]
            with torch.enable_grad():
                gap_sum = torch.where(needed, gaps[subset].gather(1, k)[:, 0], 0.0).sum()
            gradient = torch.autograd.grad(gap_sum, evaluated, retain_graph=True)[0][active_indices[subset]]
            slope = boundaries.update(selected, k[:, 0], heights[selected].gather(1, k)[:, 0], gradient, needed)
            pending[selected, k[:, 0]] = pending[selected, k[:, 0]] & ~needed
            new_slopes[selected, k[:, 0]] = torch.where(needed, slope, new_slopes[selected, k[:, 0]])
            change = slope / slopes[selected].gather(1, k)[:, 0]
            changed = (change > _SLOPE_TOLERANCE) | (change < 1 / _SLOPE_TOLERANCE)
            store_where(needed & changed, selected, (bounds, 0.0))
        store_where(~pending.any(dim=1), rows, (self._slopes, new_slopes))
        self._small_steps[rows] = torch.where(boundaries.is_small(), self._small_steps[rows] + 1, 0)
        return boundaries


def _select(chosen: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Returns the values at these positions."""
    return values if len(chosen) == len(values[0]) else tuple(value[chosen] for value in values)


class _NearestBoundaries:
    """For each sample, the step to the nearest of the linearised boundaries computed so far.

    Logits of low precision, such as those of float16 and of quantised networks, may be equal near a boundary. The
    distance then seems to be 0, and the sample would stop moving. From the third small step in a row on, a sample goes
    twice as far beyond the boundary as in the step before.

    Args:
        total: The sum of the samples' steps so far; shape (samples, channels, height, width).
        norm: ``l2`` or ``linf``.
        overshoot: How far to go past the boundary, as a share of the perturbation.
        small_steps: The number of small steps in a row of each sample; shape (samples,).

    Attributes:
        steps: The steps, of the shape of ``total``.
        distances: Distances of the nearest boundaries, or infinity; shape (samples,).
        active: Positions of the samples that are not finished, where that is found out together with the boundaries.
    """

    active: torch.Tensor

    def __init__(self, total: torch.Tensor, norm: Norm, overshoot: float, small_steps: torch.Tensor) -> None:
        self.norm = norm
        self.overshoot = overshoot
        self._pushes = 2.0 ** (small_steps - 1).clamp(min=0)
        self.steps = torch.zeros_like(total)
        self.distances = total.new_full(total.shape[:1], math.inf)
        self._columns = torch.zeros_like(self.distances, dtype=torch.int64)
        self._travelled = lp_norm(total, norm)
        self._rounding = _ROUNDING * (total[0].numel() ** 0.5 if norm == "l2" else 1.0)

    def update(
        self,
        positions: torch.Tensor,
        columns: torch.Tensor,
        heights: torch.Tensor,
        gradients: torch.Tensor,
        chosen: torch.Tensor,
    ) -> torch.Tensor:
        """Adds one boundary for each of some samples.

        Args:
            positions: Indices of the samples; shape (some,).
            columns: Index of each one's boundary; of two at equal distance, the lower index counts as nearer.
            heights: The values |f_k|.
            gradients: The gradients ∇f_k, shape (some, channels, height, width).
            chosen: The samples to which the boundary is added; bool, shape (some,).

        Returns:
            The slopes ‖∇f_k‖ in the dual norm; shape (some,).
        """
        flat = gradients.flatten(1)
        slopes = flat.norm(dim=1) if self.norm == "l2" else flat.abs().sum(dim=1)
        distances = heights / slopes
        lengths = distances + self._extra_length(distances, self._travelled[positions], self._pushes[positions])
        steps = per_image(lengths / slopes) * gradients if self.norm == "l2" else per_image(lengths) * gradients.sign()
        previous = self.distances[positions]
        nearer = (distances < previous) | ((distances == previous) & (columns < self._columns[positions]))
        nearer &= distances.isfinite() & chosen
        store_where(nearer, positions, (self.steps, steps), (self.distances, distances), (self._columns, columns))
        return slopes

    def is_small(self) -> torch.Tensor:
        """Returns whose steps are small: bool, shape (samples,)."""
        return self.distances <= _SMALL_STEP_SHARE * self._travelled

    def _extra_length(self, distances: torch.Tensor, travelled: torch.Tensor, pushes: torch.Tensor) -> torch.Tensor:
        """Returns the length to add to steps of these distances; all arguments have one shape."""
        later_steps = (_EXTRA_SHARE * (travelled + distances)).clamp(max=_MAX_EXTRA_LENGTH) * pushes
        share = max(_EXTRA_SHARE - self.overshoot, -_EXTRA_SHARE)
        first_step = (share * distances).clamp(max=_MAX_EXTRA_LENGTH)
        if share < 0 and self.overshoot >= 2 * _MAX_SHORTENING:
            first_step = torch.minimum(first_step, -(_MAX_SHORTENING * distances).clamp(max=self._rounding))
        first_step = torch.where(distances > 0, first_step, _TIE_STEP)
        return torch.where(travelled > 0, later_steps, first_step)


def _gaps(
    logits: torch.Tensor, active_indices: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Returns f_k = z_k − z_y of the samples at these indices, with a graph: shape (samples, candidates)."""
    with torch.enable_grad():
        logits = logits[active_indices]
        return logits.gather(1, classes) - logits.gather(1, labels[:, None])
