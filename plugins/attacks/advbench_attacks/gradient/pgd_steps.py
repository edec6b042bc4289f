"""Steps along the direction in which a loss rises most, inside a ball."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from advbench.api import for_rows
from advbench_attacks.answers import ask
from advbench_attacks.balls import Ball
from advbench_attacks.input_gradients import lead, logsumexp_margin
from advbench_attacks.logit_differences import check_classes, logit_ratio, margin

__all__ = ["loss_gradient", "loss_values", "sign_steps"]

_SURE = 2.0**-7
"""Below this probability of all classes but the true one its relative error in float32 is no longer negligible."""

_Values: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def sign_steps(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    start: torch.Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    loss: str = "ce",
    early_stop: bool = False,
) -> torch.Tensor:
    """Takes steps x ← clip(Π(x + step_size · d), 0, 1), d being the direction in which the loss rises most.

    In L∞ d is the sign of the loss's gradient, in L2 the gradient at L2 norm 1; Π is the projection on the ball.
    Nothing in the loop waits for the device, unless samples are to stop early: those leave the batch.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        start: Where to start, of the images' shape; brought into the ball and [0, 1].
        ball: The ball around each image.
        steps: How many steps to take.
        step_size: Length of a step in the ball's norm.
        loss: One of :data:`advbench_attacks.logit_differences.LOSSES`.
        early_stop: Whether a sample stays at the first of its points that fools the model.

    Returns:
        The points after the last step, of the images' shape.

    Raises:
        ContractError: The model has too few classes for the loss.
    """
    points = ball.project_(start.detach().clone(), images)
    if not early_stop:
        for _ in range(steps):
            directions, _ = _directions(model, points, labels, loss, ball)
            points = ball.project_(points.add_(directions, alpha=step_size), images)
        return points
    ended = points.clone()
    rows = torch.arange(len(images), device=images.device)
    for _ in range(steps):
        directions, logits = _directions(for_rows(model, rows), points, labels, loss, ball)
        going = ~lead(logits, labels)
        if not going.all():
            ended[rows[~going]] = points[~going]
            rows, images, labels, points, directions = (x[going] for x in (rows, images, labels, points, directions))
        if not len(rows):
            return ended
        points = ball.project_(points.add_(directions, alpha=step_size), images)
    ended[rows] = points
    return ended


def loss_gradient(
    model: torch.nn.Module, points: torch.Tensor, labels: torch.Tensor, loss: str = "ce"
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of a loss with respect to each image; that of ``ce`` at a positive scale of each sample's own.

    The cross-entropy's gradient is computed as Foolbox and torch do, as softmax less 1 for the true class. Where the
    probability q of all classes but the true one is under 2⁻⁷, it is divided by q: that is the gradient of
    log Σ_{j≠y} exp zⱼ − z_y, which has the same direction. As it is, it would lose its digits there, and be exactly 0
    where q rounds to 0.

    Args:
        model: Classifier in eval mode.
        points: Shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        loss: One of :data:`advbench_attacks.logit_differences.LOSSES`.

    Returns:
        The gradient, of the points' shape, 0 where it is no number; and the logits, without gradient.

    Raises:
        ContractError: The model has too few classes for the loss.
    """
    with torch.enable_grad():
        asked = points.detach().requires_grad_()  # shares the points' memory: nothing reads it once they move
        logits = ask(model, asked)
    answers = logits.detach()
    check_classes(loss, answers.shape[1])
    (gradient,) = torch.autograd.grad(logits, asked, _SLOPES[loss](answers, labels))
    return gradient.nan_to_num(0.0), answers


def loss_values(loss: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of each sample, shape (batch,); for ``ce`` what the cross-entropy rises with, without its saturation."""
    return _VALUES[loss](logits, labels)


def _directions(
    model: torch.nn.Module, points: torch.Tensor, labels: torch.Tensor, loss: str, ball: Ball
) -> tuple[torch.Tensor, torch.Tensor]:
    """In which direction the loss rises most, 0 where its gradient is no number; and the logits, without gradient."""
    gradient, answers = loss_gradient(model, points, labels, loss)
    return ball.steepest(gradient), answers


def _cross_entropy_slope(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The derivatives of the cross-entropy with respect to the logits, over q where q is small."""
    slope = logits.log_softmax(dim=1).exp_()
    slope.scatter_(1, labels[:, None], -1.0, reduce="add")
    others = logits.scatter(1, labels[:, None], float("-inf")).softmax(dim=1)
    others.scatter_(1, labels[:, None], -1.0)
    return torch.where(slope.gather(1, labels[:, None]) > -_SURE, others, slope)


def _margin_slope(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 for the largest other logit, -1 for the true class's."""
    likeliest = logits.scatter(1, labels[:, None], float("-inf")).argmax(dim=1, keepdim=True)
    return torch.zeros_like(logits).scatter_(1, likeliest, 1.0).scatter_(1, labels[:, None], -1.0)


def _ratio_slope(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        asked = logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(logit_ratio(asked, labels).sum(), asked)
    return slope


_SLOPES: Mapping[str, _Values] = {"ce": _cross_entropy_slope, "dlr": _ratio_slope, "margin": _margin_slope}
_VALUES: Mapping[str, _Values] = {"ce": logsumexp_margin, "dlr": logit_ratio, "margin": margin}
