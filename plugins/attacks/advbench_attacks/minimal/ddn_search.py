"""The search of DDN."""

from __future__ import annotations

import torch

from advbench.api import Goal, for_rows, is_stochastic
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.input_gradients import logsumexp_margin_gradient, margin_gradient
from advbench_attacks.minimal.cosine_annealing import cosine_annealing
from advbench_attacks.minimal.nearest_boundary import find_nearest_boundary
from advbench_attacks.nearest_adversarials import NearestAdversarials
from advbench_attacks.norms import l2_scale_factors, lp_norm, per_image

__all__ = ["run_ddn"]

_GAMMA = 0.05
"""γ: relative decrease of the norm after an adversarial point, and relative increase after any other."""

_DEFAULT_NORM = 1.0
"""L2 norm of the initial perturbation where no linearised boundary exists."""

_SETTLING_SHARE = 0.65
"""A sample repeats its last steps if shrinking to its distance took more than this share of the steps."""

_INITIAL_BISECTIONS = 4
"""Number of bisections of the last tenth of the initial perturbation, which a hyperplane crosses at 1/1.05 of it."""

_FIRST_STEP, _LAST_STEP = 1.0, 0.01
"""α: L2 length of the first and of the last step, as a share of the initial norm; it falls along a cosine."""


def run_ddn(model: torch.nn.Module, images: torch.Tensor, goal: Goal, *, steps: int) -> NearestAdversarials:
    """Searches for the nearest adversarial points in L2.

    At each step δ ← δ + α ∇J/‖∇J‖₂, rescaled to a norm that is 5 % smaller after an adversarial point and 5 % larger
    after any other; see :class:`advbench_attacks.minimal.ddn.DecoupledDirectionAndNorm`.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        steps: Number of gradient steps, including those for the linearised boundaries.

    Returns:
        The nearest adversarial points; none for a sample that reaches the goal already, or where the search fails.
    """
    nearest = NearestAdversarials(images, goal, "l2")
    rows = torch.arange(len(images), device=images.device)
    boundary = find_nearest_boundary(for_rows(model, rows), images, goal, "l2", steps=steps)
    rows = (~goal.reached(boundary.logits)).nonzero().flatten()
    if not len(rows):
        return nearest
    initial_points = (images + (1 + _GAMMA) * boundary.perturbations).clamp(0, 1)[rows]
    norm = lp_norm(initial_points - images[rows], "l2")
    norm = torch.where(norm > 0, norm, _DEFAULT_NORM)
    if not is_stochastic(model):
        if goal.targeted:
            nearest.query(model, rows, (images + boundary.perturbations).clamp(0, 1)[rows])
        is_adv = rows[nearest.query(model, rows, initial_points)]
        nearest.bisect(model, is_adv, _INITIAL_BISECTIONS, low=1 - 2 * _GAMMA)
    _take_steps(model, nearest, rows, initial_points, norm, begin=boundary.gradients, steps=steps)
    if not is_stochastic(model):
        share = nearest.distances[rows] / norm
        late_rows = rows[share < (1 - _GAMMA) ** (_SETTLING_SHARE * steps)]
        if len(late_rows):
            nearest.bisect(model, late_rows)
            _take_steps(
                model,
                nearest,
                late_rows,
                nearest.points[late_rows],
                nearest.distances[late_rows],
                begin=steps // 2,
                steps=steps,
            )
    return nearest


def _take_steps(
    model: torch.nn.Module,
    nearest: NearestAdversarials,
    rows: torch.Tensor,
    points: torch.Tensor,
    norm: torch.Tensor,
    *,
    begin: int,
    steps: int,
) -> None:
    """Takes the steps from number ``begin`` on, for samples at points with these norms: (samples,)."""
    images, goal, first_norm = nearest.images[rows], nearest.goal[rows], norm
    batch_nearest = NearestAdversarials(images, goal, "l2")
    for step in range(begin, steps):
        # Scaled to length 1, the gradient of the logsumexp margin equals that of the cross-entropy.
        loss = logsumexp_margin_gradient if step < steps / 2 else margin_gradient
        gradient, logits = loss(for_rows(model, rows), points, goal)
        perturbations = points - images
        is_adv = batch_nearest.update(None, points, logits, lp_norm(perturbations, "l2"))
        norm = norm * torch.where(is_adv, 1 - _GAMMA, 1 + _GAMMA)
        gradient, factors = l2_scale_factors(gradient)
        step_size = cosine_annealing(_FIRST_STEP, _LAST_STEP, step, steps) * first_norm
        perturbations, l2_factors = l2_scale_factors(perturbations.addcmul_(gradient, per_image(step_size * factors)))
        points = torch.addcmul(images, perturbations, per_image(norm * l2_factors)).clamp_(0, 1)
    with torch.no_grad():
        batch_nearest.update(None, points, float32_logits(for_rows(model, rows), points))
    nearest.merge(rows, batch_nearest)
