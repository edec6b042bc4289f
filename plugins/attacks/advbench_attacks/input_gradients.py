"""Gradients of losses with respect to the images."""

from __future__ import annotations

from collections.abc import Callable

import torch

from advbench.api import Goal
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.losses import Loss, mask_classes

__all__ = ["input_gradient", "logsumexp_margin_gradient", "margin_gradient", "sign_gradient"]

_TOP_CLASSES = 9
_LOGIT_RANGE = 10.0
"""How many of the other classes' logits :func:`logsumexp_margin_gradient` rescales, and to which range."""


def input_gradient(
    model: torch.nn.Module, images: torch.Tensor, goal: Goal, loss: Loss
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the gradient of a loss with respect to each image.

    Args:
        model: Classifier in eval mode.
        images: Shape (batch, channels, height, width).
        goal: What to make of each sample.
        loss: The loss to differentiate.

    Returns:
        The gradient, of the images' shape, 0 where it is NaN; and the logits, detached.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = float32_logits(model, points)
        (gradient,) = torch.autograd.grad(loss(logits, goal).sum(), points)
    return gradient.nan_to_num(0.0), logits.detach()


def sign_gradient(
    model: torch.nn.Module, images: torch.Tensor, goal: Goal, loss: Loss
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the signs of :func:`input_gradient`, and the logits; see there."""
    gradient, logits = input_gradient(model, images, goal, loss)
    return gradient.sign(), logits


def logsumexp_margin_gradient(
    model: torch.nn.Module, images: torch.Tensor, goal: Goal
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the gradient of :func:`advbench_attacks.losses.logsumexp_margin` for rescaled logits; NaN stays NaN.

    The logits of each image are rescaled so that those of the nine top other classes span a range of 10. Without it,
    the gradient would be that of a single class where logits are large, and the mean over all classes where they are
    small.
    """

    def weights(others: torch.Tensor) -> torch.Tensor:
        top = others.topk(min(_TOP_CLASSES, others.shape[1] - 1), dim=1).values
        highest, span = top[:, :1], (top[:, :1] - top[:, -1:]).clamp(min=torch.finfo(top.dtype).tiny)
        return ((others - highest) * (_LOGIT_RANGE / span)).softmax(dim=1)

    return _weighted_gradient(model, images, goal, weights)


def margin_gradient(model: torch.nn.Module, images: torch.Tensor, goal: Goal) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes :func:`input_gradient` of the goal's margin; NaN stays NaN.

    It involves the top other class alone.
    """

    def weights(others: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(others).scatter_(1, others.argmax(dim=1, keepdim=True), 1.0)

    return _weighted_gradient(model, images, goal, weights)


def _weighted_gradient(
    model: torch.nn.Module,
    images: torch.Tensor,
    goal: Goal,
    weights: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the gradient of Σ_{j≠y} wⱼ zⱼ − z_y, and the logits; weights w are a function of the other logits.

    With target classes t, the gradient is that of zₜ − Σ_{j≠t} wⱼ zⱼ.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = float32_logits(model, points)
    detached = logits.detach()
    classes = goal.classes
    logit_weights = weights(mask_classes(detached, classes)).scatter_(1, classes[:, None], -1.0)
    if goal.targeted:
        logit_weights.neg_()
    (gradient,) = torch.autograd.grad(logits, points, logit_weights)
    return gradient, detached
