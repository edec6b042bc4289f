"""Attacks on classifiers behind detectors: first fool the classifier, then evade the detector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch

from advbench.api import Answer, Goal, answer, for_rows
from advbench_attacks.active_sets import store_where
from advbench_attacks.balls import Ball
from advbench_attacks.norms import per_image
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["EvasionStep", "Loss", "evasion_step", "take_evasion_steps"]

Loss: TypeAlias = Callable[[torch.Tensor, Goal], torch.Tensor]
"""Takes the classifier's logits, shape (batch, classes), and a goal; returns what to maximise, shape (batch,)."""

_MIN_SCORE = 1e-5
"""By how much a score must be below 0, since rounding differs between batches."""


class EvasionStep(NamedTuple):
    """A batch of points in front of a detector and a classifier.

    Attributes:
        gradients: Where to go next, of the points' shape; 0 if no gradient was asked for.
        values: How far each point has got, shape (batch,): larger if the classifier is fooled, and largest if the
            detector accepts the point, too.
        is_adv: Whether the goal is reached and the point accepted; bool, shape (batch,).
    """

    gradients: torch.Tensor
    values: torch.Tensor
    is_adv: torch.Tensor


def evasion_step(
    model: torch.nn.Module, points: torch.Tensor, goal: Goal, loss: Loss, *, final: bool = False
) -> EvasionStep:
    """Evaluates points, and computes the gradients to follow.

    Until the classifier is fooled, that is the gradient of the loss, whatever the detector says. Then it is that of
    minus the detector's score; where the two conflict, without the part along the gradient of the loss, so that the
    classifier stays fooled. A single loss of both would stay where the classifier is right, since most detectors are
    suspicious of the points between two classes.

    Args:
        model: A classifier for which :func:`advbench.api.can_reject` holds.
        points: Shape (batch, channels, height, width).
        goal: What to make of each sample.
        loss: What to maximise to fool the classifier; negative, or at most log(classes), where it is not fooled.
        final: Whether no gradient is needed.

    Source: Bryniarski, Hingun, Pachuca, Wang and Carlini 2021, Evading Adversarial Example Detection Defenses with
    Orthogonal Projected Gradient Descent, section 4. The projection only where gradients conflict: Yu, Kumar, Gupta,
    Levine, Hausman and Finn 2020, Gradient Surgery for Multi-Task Learning, section 2.3.
    """
    with torch.set_grad_enabled(not final):
        leaf = points.detach().clone().requires_grad_(not final)
        logits, score = _float32(answer(model, leaf))
        losses = loss(logits, goal)
    fooled = is_adversarial(logits.detach(), goal)
    values = _values(logits.detach(), score.detach(), losses.detach(), goal, fooled)
    is_adv = fooled & (score.detach() < -_MIN_SCORE)
    if final:
        return EvasionStep(torch.zeros_like(points), values, is_adv)
    (uphill,) = torch.autograd.grad(losses.sum(), leaf, retain_graph=True)
    (unsuspicious,) = torch.autograd.grad(-score.sum(), leaf)
    uphill, unsuspicious = uphill.nan_to_num(0.0), unsuspicious.nan_to_num(0.0)
    gradients = torch.where(per_image(fooled), _without_conflict(unsuspicious, uphill), uphill)
    return EvasionStep(gradients, values, is_adv)


def take_evasion_steps(
    model: torch.nn.Module,
    images: torch.Tensor,
    goal: Goal,
    start: torch.Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    loss: Loss,
    early_stop: bool = False,
) -> torch.Tensor:
    """Takes PGD's steps along the gradients of :func:`evasion_step`.

    Args:
        model: As for :func:`evasion_step`.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        start: Start points, of the images' shape; they are projected into the ball and [0, 1].
        ball: The ball around each image.
        steps: Number of steps.
        step_size: Length of a step in the ball's norm.
        loss: As for :func:`evasion_step`.
        early_stop: Whether a sample stops at its first point that is adversarial and accepted.

    Returns:
        Each sample's point of the largest value, since the last one may be on the wrong side of the detector.
    """
    points = ball.project_(start.detach().clone(), images)
    best, highest = points.clone(), torch.full(goal.labels.shape, -math.inf, device=images.device)
    rows = torch.arange(len(images), device=images.device)
    for number in range(steps + 1):
        step = evasion_step(for_rows(model, rows), points, goal, loss, final=number == steps)
        store_where(step.values > highest[rows], rows, (best, points), (highest, step.values))
        gradients = step.gradients
        if early_stop:
            active = (~step.is_adv).nonzero().flatten()
            if len(active) < len(rows):
                rows, images, points, gradients = (x[active] for x in (rows, images, points, gradients))
                goal = goal[active]
        if not len(rows) or number == steps:
            break
        points = ball.project_(points.add(ball.steepest_direction(gradients), alpha=step_size), images)
    return best


def _float32(answered: Answer) -> tuple[torch.Tensor, torch.Tensor]:
    assert answered.score is not None
    return answered.logits.float(), answered.score.float()


def _values(
    logits: torch.Tensor, score: torch.Tensor, losses: torch.Tensor, goal: Goal, fooled: torch.Tensor
) -> torch.Tensor:
    """Losses where the classifier is not fooled; above these if it is; and above those if the point is accepted."""
    offset = 1 + math.log(logits.shape[1])
    rejected = offset + 1 / (1 + score.clamp(min=0))
    accepted = offset + 1 + torch.minimum(goal.margin(logits), -score)
    return torch.where(fooled, torch.where(score > 0, rejected, accepted), losses.clamp(max=offset))


def _without_conflict(gradients: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Gradients without their part along others, where the two point in opposite directions."""
    flat, other = gradients.flatten(1), others.flatten(1)
    other = other / other.norm(dim=1, keepdim=True).clamp(min=torch.finfo(other.dtype).tiny)
    along = (flat * other).sum(dim=1, keepdim=True).clamp(max=0)
    without: torch.Tensor = flat - along * other
    return without.reshape(gradients.shape)
