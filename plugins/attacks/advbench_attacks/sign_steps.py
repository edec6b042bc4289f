"""Steps along the sign of the cross-entropy's gradient, inside an L∞ ball."""

from __future__ import annotations

import torch
from torch.nn import functional

from advbench.api import for_rows
from advbench_attacks.input_gradients import lead

__all__ = ["cross_entropy", "sign_steps"]


def sign_steps(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    start: torch.Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    early_stop: bool,
) -> torch.Tensor:
    """Takes steps x ← clip(Π(x + step_size · sign(∇ₓ cross-entropy(x, y))), 0, 1), Π being the projection on the ball.

    Nothing in the loop waits for the device, unless samples are to stop early: those leave the batch.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        start: Where to start, of the images' shape; brought into the ball and [0, 1].
        eps: Radius of the ball around each image.
        steps: How many steps to take.
        step_size: Change of a pixel a step.
        early_stop: Whether a sample stays at the first of its points that fools the model.

    Returns:
        The points after the last step, of the images' shape.
    """
    points = _inside(start.detach().clone(), images, eps)
    if not early_stop:
        for _ in range(steps):
            signs, _ = _signs(model, points, labels)
            points = _inside(points.add_(signs, alpha=step_size), images, eps)
        return points
    ended = points.clone()
    rows = torch.arange(len(images), device=images.device)
    for _ in range(steps):
        signs, logits = _signs(for_rows(model, rows), points, labels)
        going = ~lead(logits, labels)
        if not going.all():
            ended[rows[~going]] = points[~going]
            rows, images, labels, points, signs = (x[going] for x in (rows, images, labels, points, signs))
        if not len(rows):
            return ended
        points = _inside(points.add_(signs, alpha=step_size), images, eps)
    ended[rows] = points
    return ended


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of each sample, shape (batch,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def _signs(model: torch.nn.Module, points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The signs of the cross-entropy's gradient, 0 where it is no number; and the logits, without gradient."""
    with torch.enable_grad():
        asked = points.detach().requires_grad_()  # shares the points' memory: nothing reads it once they move
        logits = model(asked)
    answers = logits.detach()
    # The derivatives of the cross-entropy: softmax, less 1 for the true class.
    rise = answers.log_softmax(dim=1).exp_()
    rise.scatter_add_(1, labels[:, None], torch.full_like(rise[:, :1], -1.0))
    (gradient,) = torch.autograd.grad(logits, asked, rise)
    return gradient.nan_to_num(0.0).sign_(), answers


def _inside(points: torch.Tensor, images: torch.Tensor, eps: float) -> torch.Tensor:
    """Moves the points, in place, to the nearest within eps of the images and in [0, 1]; rounds as Foolbox does."""
    return points.sub_(images).clamp_(-eps, eps).add_(images).clamp_(0, 1)
