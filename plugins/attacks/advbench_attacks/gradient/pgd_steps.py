"""Projected gradient steps: the inner loop of PGD."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from advbench.api import Goal, for_rows
from advbench_attacks.active_sets import split
from advbench_attacks.balls import Ball
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.losses import Loss, check_classes, dlr_loss, logsumexp_margin, margin
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["loss_gradient", "loss_values", "take_pgd_steps"]

_SMALL_PROBABILITY = 2.0**-7
"""Below this probability of all other classes, its relative error in float32 is no longer negligible."""


def take_pgd_steps(
    model: torch.nn.Module,
    images: torch.Tensor,
    goal: Goal,
    start: torch.Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    loss: str = "ce",
    early_stop: bool = False,
) -> torch.Tensor:
    """Takes steps x ← clip(Π(x + step_size · d), 0, 1), where d is the direction of steepest ascent of the loss.

    In L∞, d is the sign of the loss's gradient; in L2, the gradient scaled to L2 norm 1. Π is the projection onto the
    ball. The loop does not wait for the device, unless samples stop early and leave the batch.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        start: Start points, of the images' shape; they are projected into the ball and [0, 1].
        ball: The ball around each image.
        steps: Number of steps.
        step_size: Length of a step in the ball's norm.
        loss: One of :data:`advbench_attacks.losses.LOSSES`.
        early_stop: Whether a sample stops at its first adversarial point.

    Returns:
        The points after the last step, of the images' shape.

    Raises:
        ContractError: The model has too few classes for the loss.
    """
    points = ball.project_(start.detach().clone(), images)
    if not early_stop:
        for _ in range(steps):
            directions, _ = _directions(model, points, goal, loss, ball)
            points = ball.project_(points.add_(directions, alpha=step_size), images)
        return points
    finished = points.clone()
    rows = torch.arange(len(images), device=images.device)
    for _ in range(steps):
        directions, logits = _directions(for_rows(model, rows), points, goal, loss, ball)
        stopped, active = split(is_adversarial(logits, goal))
        if len(stopped):
            finished[rows[stopped]] = points[stopped]
            rows, images, points, directions = (x[active] for x in (rows, images, points, directions))
            goal = goal[active]
        if not len(rows):
            return finished
        points = ball.project_(points.add_(directions, alpha=step_size), images)
    finished[rows] = points
    return finished


def loss_gradient(
    model: torch.nn.Module, points: torch.Tensor, goal: Goal, loss: str = "ce"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the gradient of a loss with respect to each image; for ``ce``, up to a positive factor per sample.

    The cross-entropy's gradient is computed as in Foolbox and torch: softmax minus 1 for the true class. Where the
    probability q of all other classes is below 2⁻⁷, it is divided by q. That is the gradient of log Σ_{j≠y} exp zⱼ −
    z_y, which has the same direction. Without this, it would lose digits, and be exactly 0 where q rounds to 0. With
    target classes t, the gradient is minus the one for t in place of y.

    Args:
        model: Classifier in eval mode.
        points: Shape (batch, channels, height, width).
        goal: What to make of each sample.
        loss: One of :data:`advbench_attacks.losses.LOSSES`.

    Returns:
        The gradient, of the points' shape, 0 where it is NaN; and the logits, detached.

    Raises:
        ContractError: The model has too few classes for the loss.
    """
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()  # shares memory with points, which only move after the last read
        logits = float32_logits(model, leaf)
    detached = logits.detach()
    check_classes(loss, detached.shape[1])
    (gradient,) = torch.autograd.grad(logits, leaf, _LOGIT_GRADIENTS[loss](detached, goal))
    return gradient.nan_to_num(0.0), detached


def loss_values(loss: str, logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns each sample's loss, shape (batch,); for ``ce``, a monotonic function of it that does not saturate."""
    return _VALUES[loss](logits, goal)


def _directions(
    model: torch.nn.Module, points: torch.Tensor, goal: Goal, loss: str, ball: Ball
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the directions of steepest ascent, 0 where the gradient is NaN; and the logits, detached."""
    gradient, detached = loss_gradient(model, points, goal, loss)
    return ball.steepest_direction(gradient), detached


def _cross_entropy_logit_gradient(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns the derivatives of the cross-entropy with respect to the logits, divided by q where q is small."""
    labels = goal.classes
    gradient = logits.log_softmax(dim=1).exp_()
    gradient.scatter_(1, labels[:, None], -1.0, reduce="add")
    others = logits.scatter(1, labels[:, None], float("-inf")).softmax(dim=1)
    others.scatter_(1, labels[:, None], -1.0)
    gradient = torch.where(gradient.gather(1, labels[:, None]) > -_SMALL_PROBABILITY, others, gradient)
    return -gradient if goal.targeted else gradient


def _margin_logit_gradient(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns 1 for the largest other logit and -1 for the true class's; with target classes, -1 and 1 for theirs."""
    labels, sign = goal.classes, -1.0 if goal.targeted else 1.0
    top_other = logits.scatter(1, labels[:, None], float("-inf")).argmax(dim=1, keepdim=True)
    return torch.zeros_like(logits).scatter_(1, top_other, sign).scatter_(1, labels[:, None], -sign)


def _dlr_logit_gradient(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(dlr_loss(leaf, goal).sum(), leaf)
    return gradient


_LOGIT_GRADIENTS: Mapping[str, Loss] = {
    "ce": _cross_entropy_logit_gradient,
    "dlr": _dlr_logit_gradient,
    "margin": _margin_logit_gradient,
}
_VALUES: Mapping[str, Loss] = {"ce": logsumexp_margin, "dlr": dlr_loss, "margin": margin}
