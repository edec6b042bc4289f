"""DeepFool as in Foolbox 2.3.0."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from advbench.api import for_rows
from advbench_attacks.active_sets import split
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.foolbox2.nearest import NearestInL2, correct_rows, logits_at
from advbench_attacks.norms import lp_norm, per_image

__all__ = ["foolbox2_deepfool"]

_STEP_FACTOR = 1.05
"""The overshoot of each step. The paper applies it once, to the sum of the steps."""

_TINY = 1e-8
"""Added to the norm of a gradient."""


def foolbox2_deepfool(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, steps: int, candidates: int, mean: bool
) -> torch.Tensor:
    """Runs DeepFool in L2 as Foolbox 2.3.0 did.

    A step goes to the nearest boundary of the loss differences, which are logit differences, linearised with gradients
    of the cross-entropy. Foolbox up to 2.3 took these gradients of the mean over the batch of samples that still ran,
    and the losses of each sample alone. So gradients are too small, and steps too long, by the number of these samples.
    The gradient for the true class is computed before the samples leave that have just been fooled, and those for the
    other classes after it. Each step is lengthened by 5 %.

    Args:
        model: Classifier in eval mode.
        images: Clean images of one batch of Foolbox, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        steps: Maximum number of steps.
        candidates: Number of candidate classes, those with the largest logits at the clean image, the true one
            included.
        mean: Whether gradients are those of the mean loss of the batch, instead of the sum.

    Returns:
        Images of the same shape; the clean image for a sample that is misclassified already, or was never fooled.
    """
    found = NearestInL2(images, labels)
    rows = correct_rows(model, images, labels)
    points = images[rows]
    classes = logits_at(model, rows, points).argsort(dim=1, descending=True, stable=True)[:, :candidates]
    for _ in range(steps):
        if not len(rows):
            return found.points
        inputs, logits = _with_graph(model, rows, points)
        own = _gradient(logits, inputs, labels[rows]) / (len(rows) if mean else 1)
        fooled, running = split(found.update(rows, points, logits.detach()))
        if not len(running):
            return found.points
        rows, points, classes, own = rows[running], points[running], classes[running], own[running]
        if len(fooled):
            inputs, logits = _with_graph(model, rows, points)
        step = _step_to_nearest(inputs, logits, labels[rows], classes, own=own, divisor=len(rows) if mean else 1)
        points = (points + _STEP_FACTOR * step).clamp(0, 1)
    found.update(rows, points, logits_at(model, rows, points))
    return found.points


def _with_graph(model: torch.nn.Module, rows: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the points and their logits, with a graph between them."""
    with torch.enable_grad():
        inputs = points.detach().requires_grad_()
        return inputs, float32_logits(for_rows(model, rows), inputs)


def _gradient(logits: torch.Tensor, inputs: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Returns each sample's gradient of the cross-entropy for these classes."""
    with torch.enable_grad():
        loss = cross_entropy(logits, classes, reduction="sum")
    return torch.autograd.grad(loss, inputs, retain_graph=True)[0]


def _step_to_nearest(
    inputs: torch.Tensor,
    logits: torch.Tensor,
    labels: torch.Tensor,
    classes: torch.Tensor,
    *,
    own: torch.Tensor,
    divisor: int,
) -> torch.Tensor:
    """Returns the steps to the nearest of the linearised boundaries of classes with smaller logits.

    A class whose logit equals that of the true class is not a target: where float32 cannot tell them apart, the sample
    goes to a farther boundary.

    Args:
        inputs: The samples' points.
        logits: Their logits, with a graph.
        labels: True labels.
        classes: Candidate classes, shape (samples, candidates).
        own: Gradients for the true class.
        divisor: By what the gradients for the other classes are divided.
    """
    values = logits.detach()
    true = values.gather(1, labels[:, None])
    steps = torch.zeros_like(inputs)
    nearest = torch.full_like(true[:, 0], float("inf"))
    for column in classes.unbind(dim=1):
        height = (true - values.gather(1, column[:, None]))[:, 0]
        slope = _gradient(logits, inputs, column) / divisor - own
        norm = lp_norm(slope, "l2") + _TINY
        distance = (height / norm).masked_fill(height <= 0, float("inf"))
        nearer = distance < nearest
        steps = torch.where(per_image(nearer), -per_image(height / norm**2) * slope, steps)
        nearest = torch.where(nearer, distance, nearest)
    return steps.detach()
