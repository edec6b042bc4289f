"""The search of Carlini and Wagner: Adam for a given constant c, and a binary search for c."""

from __future__ import annotations

import math

import torch

from advbench.api import Goal, for_rows, is_stochastic
from advbench_attacks.active_sets import split
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.minimal.ddn_search import run_ddn
from advbench_attacks.minimal.nearest_boundary import find_nearest_boundary
from advbench_attacks.nearest_adversarials import NearestAdversarials, verify_in_batch
from advbench_attacks.norms import lp_norm, per_image
from advbench_attacks.success_criterion import rounding_tolerance

__all__ = ["CarliniWagnerSearch"]

_MAX_TANH = 0.999999
"""Largest absolute value of tanh(w) for the clean image, so that its atanh is finite."""

_BOUNDARY_OVERSHOOT = 0.05
"""How far the initial point lies beyond the boundary linearised at the clean image, as a share of the distance."""

_MIN_LINEAR_SHARE = 0.75
"""The linearisation is rejected if a boundary is crossed before this share of the distance that it predicts."""

_MAX_DDN_STEPS = 100
_DDN_STEP_DIVISOR = 10
"""Maximum number of DDN steps, and the divisor of all steps that limits it, where the linearisation crosses no boundary
or is rejected.
"""

_MIN_CONSTANT_SHARE = 0.25
"""A constant is skipped if it is below this share of the one that the linearisation requires."""

_PROGRESS_CHECKS = 20
"""How many times per constant the progress of each sample is checked."""

_MIN_PROGRESS = 1e-3
"""Minimum relative decrease of the lowest loss between two checks."""

_MAX_STEP_SHARE = 0.5
"""Largest step, in w and if all values take it, as a share of the distance of the nearest adversarial point."""

_BETAS = (0.9, 0.999)
_ADAM_EPS = 1e-8
"""Adam's decay rates, and the number added to its divisor (Kingma and Ba 2015, algorithm 1)."""


class CarliniWagnerSearch:
    """Minimises ‖x' − x‖₂² + c · max(0, z_y − max_{j≠y} z_j + confidence) over w, with x' = (tanh w + 1)/2.

    Each sample has its own constant c: it is multiplied by 10 until one succeeds, then set half-way between the largest
    that failed and the smallest that succeeded (Carlini and Wagner 2017, sections V-B to VI-A). A sample ends its steps
    early, and leaves the batch, if its lowest loss decreased by less than a thousandth over a twentieth of the steps.
    After a success, the next constant continues from the point of lowest loss.

    The search starts just beyond the nearest boundary linearised at the clean image; after a failure it restarts there,
    or at the nearest adversarial point. Started at the clean image, it would end at the boundary of the top other class
    even if another boundary is nearer, and black or white pixels, whose w is large, would hardly move. Where the
    linearisation crosses no boundary, or predicts one far behind the first that is crossed, as for adversarially
    trained networks, the search starts at the result of DDN. For an initial point at distance d with margin f, a
    constant below 2 d²/f leads back to the clean image if gradients stay the same; a constant far below that counts as
    failed without any steps, unless it is the last.

    Adam's first steps are as long as the learning rate, whatever the constant. They alone may cross a near boundary, so
    a success counts only if it comes from later steps. Steps as long as the distance to the boundary would not converge
    there; steps are limited to half of that distance.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        search_steps: Number of constants to try.
        steps: Maximum number of Adam steps per constant.
        learning_rate: Adam's step size.
        initial_const: The first constant.
        confidence: Margin by which another logit must exceed the true class's.

    Attributes:
        points: Each sample's nearest adversarial point, or the clean image.
        distances: Its L2 distance, or infinity.
        next_w: Each sample's w from which the next constant starts.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        *,
        search_steps: int,
        steps: int,
        learning_rate: float,
        initial_const: float,
        confidence: float,
    ) -> None:
        self.model = model
        self.images = images
        self.goal = goal
        self.search_steps = search_steps
        self.steps = steps
        self.learning_rate = learning_rate
        self.initial_const = initial_const
        self.confidence = confidence
        self.points = images.clone()
        self.distances = torch.full(goal.labels.shape, math.inf, device=images.device)
        self._initial_w = self.next_w = images.new_zeros(images.shape)

    def run(self) -> torch.Tensor:
        """Runs the search.

        Returns:
            Images of the clean images' shape; the clean image for a sample that reaches the goal already, or for which
            no constant succeeded.
        """
        rows, min_constants = self._initialize()
        constants = torch.full((len(rows),), self.initial_const, device=rows.device)
        failed, succeeded = torch.zeros_like(constants), torch.full_like(constants, math.inf)
        for constants_left in reversed(range(self.search_steps if len(rows) else 0)):
            attempted = (
                (constants >= _MIN_CONSTANT_SHARE * min_constants) | succeeded.isfinite() | (constants_left == 0)
            )
            success, tried = torch.zeros_like(attempted), attempted.nonzero().flatten()
            if len(tried):
                success[tried] = self._optimize(rows[tried], constants[tried])
            succeeded = torch.where(success, constants, succeeded)
            failed = torch.where(success, failed, constants)
            constants = torch.where(succeeded.isfinite(), (failed + succeeded) / 2, constants * 10)
        return verify_in_batch(self.model, self.points, self.images, self.goal, is_adv=self.distances.isfinite())

    def step_sizes(self, distances: torch.Tensor) -> torch.Tensor:
        """Returns Adam's step size per sample, given distances of adversarial points or infinity; shape (samples,)."""
        max_step: float = _MAX_STEP_SHARE / self.images[0].numel() ** 0.5
        return (max_step * distances).clamp(max=self.learning_rate)

    def _initialize(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes the initial points.

        Returns:
            The indices of correctly classified samples; and for each, the smallest constant that would cross the
            boundary if the classifier were linear, 0 where the linearisation has no boundary.
        """
        boundary = find_nearest_boundary(self.model, self.images, self.goal, "l2", steps=self.search_steps * self.steps)
        rows = (~self.goal.reached(boundary.logits)).nonzero().flatten()
        initial_points = (self.images + (1 + _BOUNDARY_OVERSHOOT) * boundary.perturbations).clamp(0, 1)
        if self.confidence == 0 and len(rows) and not is_stochastic(self.model):
            nearest = NearestAdversarials(self.images, self.goal, "l2")
            is_adv = nearest.query(self.model, rows, initial_points[rows])
            if self.goal.targeted:
                is_adv |= nearest.query(self.model, rows, (self.images + boundary.perturbations).clamp(0, 1)[rows])
            nearest.bisect(self.model, rows[is_adv])
            linear = (
                is_adv & (nearest.distances > _MIN_LINEAR_SHARE * lp_norm(initial_points - self.images, "l2"))[rows]
            )
            nonlinear, steps = rows[~linear], min(_MAX_DDN_STEPS, self.search_steps * self.steps // _DDN_STEP_DIVISOR)
            if len(nonlinear) and steps:
                batch = for_rows(self.model, nonlinear), self.images[nonlinear], self.goal[nonlinear]
                nearest.merge(nonlinear, run_ddn(*batch, steps=steps))
            initial_points = torch.where(per_image(nearest.distances.isfinite()), nearest.points, initial_points)
            self.points, self.distances = nearest.points, nearest.distances
        self._initial_w = _to_w(initial_points)
        self.next_w = self._initial_w.clone()
        min_constants = -2 * lp_norm(initial_points - self.images, "l2").square() / self.goal.margin(boundary.logits)
        return rows, min_constants[rows].nan_to_num(0.0)

    def _optimize(self, rows: torch.Tensor, constants: torch.Tensor) -> torch.Tensor:
        """Runs Adam on these samples, with one constant each; returns which of them succeeded."""
        state = _AdamState(self, rows, constants)
        success = torch.zeros_like(rows, dtype=torch.bool)
        check_interval = max(1, self.steps // _PROGRESS_CHECKS)
        for step in range(1, self.steps + 1):
            state.step(step)
            if step == self.steps:
                stopping = torch.ones_like(state.success)
            elif step % check_interval == 0:
                stopping = state.stalled()
            else:
                continue
            stopped, others = split(stopping)
            success[state.positions[stopped]] = state.success[stopped]
            stopped_rows = state.rows[stopped]
            self.points[stopped_rows] = state.points[stopped]
            self.distances[stopped_rows] = state.distances[stopped]
            has_adv = state.distances[stopped].isfinite()
            fallback_w = torch.where(per_image(has_adv), _to_w(state.points[stopped]), self._initial_w[stopped_rows])
            self.next_w[stopped_rows] = torch.where(
                per_image(state.success[stopped]), state.lowest_w[stopped], fallback_w
            )
            if not len(others):
                break
            if len(stopped):
                state.select(others)
        return success


def _to_w(points: torch.Tensor) -> torch.Tensor:
    """Returns the w of points in [0, 1]."""
    return torch.atanh((2 * points - 1) * _MAX_TANH)


class _AdamState:
    """The samples that still take steps at their constant; every tensor has one row per sample.

    Attributes:
        rows: Indices of the samples.
        positions: Their positions in the initial batch.
        success: Whether a sample had an adversarial point at this constant.
        points: The nearest adversarial point so far, at any constant.
        distances: Its L2 distance.
        lowest_w: The w of lowest loss.
    """

    def __init__(self, search: CarliniWagnerSearch, rows: torch.Tensor, constants: torch.Tensor) -> None:
        self._search = search
        self.rows = rows
        self.positions = torch.arange(len(rows), device=rows.device)
        self.success = torch.zeros_like(rows, dtype=torch.bool)
        self.points = search.points[rows]
        self.distances = search.distances[rows]
        self.lowest_w = search.next_w[rows]
        self._constants = constants
        self._images = search.images[rows]
        self._goal = search.goal[rows]
        self._w = self.lowest_w
        self._first_moment, self._second_moment = torch.zeros_like(self._w), torch.zeros_like(self._w)
        self._lowest = torch.full_like(constants, math.inf)
        self._lowest_at_last_check = self._lowest
        self._checked = False

    def step(self, count: int) -> None:
        """Evaluates the current points and takes Adam's step number ``count``, counted from 1."""
        tanh = self._w.tanh()
        with torch.enable_grad():
            points = ((tanh + 1) / 2).requires_grad_()
            logits = float32_logits(for_rows(self._search.model, self.rows), points)
            hinge, is_adv = self._margins(logits)
            (gradient,) = torch.autograd.grad((self._constants * hinge).sum(), points)
        points = points.detach()
        perturbations = points - self._images
        squared_distances = perturbations.flatten(1).square().sum(dim=1)
        self._update(points, squared_distances, is_adv, squared_distances + self._constants * hinge.detach())
        gradient = (gradient + 2 * perturbations) * (1 - tanh * tanh) / 2
        self._first_moment = torch.lerp(self._first_moment, gradient, 1 - _BETAS[0])
        self._second_moment = torch.lerp(self._second_moment, gradient * gradient, 1 - _BETAS[1])
        step_size = self._search.step_sizes(self.distances) / (1 - _BETAS[0] ** count)
        divisor = (self._second_moment / (1 - _BETAS[1] ** count)).sqrt() + _ADAM_EPS
        self._w = self._w - per_image(step_size) * self._first_moment / divisor

    def stalled(self) -> torch.Tensor:
        """Returns whose lowest loss hardly decreased since the last call: bool, shape (samples,)."""
        if not self._checked:  # the first steps are equally long for every constant, and may succeed by length alone
            self.success.zero_()
            self._checked = True
        is_stalled = ~(self._lowest < (1 - _MIN_PROGRESS) * self._lowest_at_last_check)
        self._lowest_at_last_check = self._lowest
        return is_stalled

    def select(self, chosen: torch.Tensor) -> None:
        """Continues with the samples at these positions only."""
        for name, value in vars(self).items():
            if isinstance(value, (torch.Tensor, Goal)):
                setattr(self, name, value[chosen])

    def _margins(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the loss's hinge term, and whether the margin exceeds confidence and rounding tolerance."""
        violation = self._search.confidence - self._goal.margin(logits)
        return violation.clamp(min=0), -violation.detach() > rounding_tolerance(logits.detach())

    def _update(
        self, points: torch.Tensor, squared_distances: torch.Tensor, is_adv: torch.Tensor, loss: torch.Tensor
    ) -> None:
        """Keeps the nearest adversarial points and the w of lowest loss."""
        distances = squared_distances.sqrt()
        nearer = is_adv & (distances < self.distances)
        self.success |= is_adv
        self.distances = torch.where(nearer, distances, self.distances)
        self.points = torch.where(per_image(nearer), points, self.points)
        lower = loss < self._lowest
        self._lowest = torch.where(lower, loss, self._lowest)
        self.lowest_w = torch.where(per_image(lower), self._w, self.lowest_w)
