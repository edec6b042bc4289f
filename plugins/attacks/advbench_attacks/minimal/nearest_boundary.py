"""The nearest class boundary, or region of a target class, linearised at the clean image."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from advbench.api import Goal, Norm
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.half_spaces import step_into_half_spaces
from advbench_attacks.hyperplane_projection import step_to_hyperplane
from advbench_attacks.losses import top_other_classes
from advbench_attacks.norms import lp_norm, per_image
from advbench_attacks.success_criterion import rounding_tolerance

__all__ = ["NearestBoundary", "find_nearest_boundary", "linearized_region"]

_MAX_TARGETS = 9
"""Maximum number of target classes, those with the largest logits at the clean image first."""

_MIN_DEPTH = 1e-3
"""How far inside a target's linearised region a point lies, as a share of the largest logit difference to overcome."""

_STEPS_PER_GRADIENT = 10
"""One gradient may be used here for every so many of the attack's."""


class NearestBoundary(NamedTuple):
    """The result of :func:`find_nearest_boundary`.

    Attributes:
        perturbations: The smallest perturbations to the nearest linearised boundary, of the images' shape; 0 where all
            gradients are 0 or NaN. With target classes, these lead just into the target's linearised region, in which
            no other class has a larger logit; going further in the same direction may lead out of it.
        logits: Logits of the clean images, detached.
        gradients: Number of gradients computed.
        classes: The other classes in order of their boundaries' distance; int64, shape (batch, gradients). With target
            classes, these in the order of their logits.
    """

    perturbations: torch.Tensor
    logits: torch.Tensor
    gradients: int
    classes: torch.Tensor


def find_nearest_boundary(
    model: torch.nn.Module, images: torch.Tensor, goal: Goal, norm: Norm, *, steps: int
) -> NearestBoundary:
    """Computes the smallest perturbations within [0, 1] to the nearest boundary linearised at the clean images.

    A search that follows the top other class ends at its boundary even if another class's boundary is nearer: the
    difference of the true logit and the largest other one has a local minimum for each class. Starting near the right
    boundary avoids this. The distances are those of Moosavi-Dezfooli, Fawzi and Frossard 2016, DeepFool: a simple and
    accurate method to fool deep neural networks, equation 8. The cost is one forward pass, and one backward pass per
    class.

    A target class t has a boundary with each of the other classes j, and its region is the intersection of the half-
    spaces zₜ ≥ zⱼ. Of these, the ones of the classes with the largest logits are linearised.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        norm: The norm to minimize: ``linf``, ``l2`` or ``l1``.
        steps: Number of gradients of the whole attack; at most a tenth of them, but at least one, is used here.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = float32_logits(model, points)
    detached = logits.detach()
    count = max(1, min(_MAX_TARGETS, steps // _STEPS_PER_GRADIENT))
    if goal.targets is not None:
        return _step_into_region(logits, points, goal.targets, norm, count)
    labels = goal.labels
    nearest, distances_by_target = torch.zeros_like(images), []
    distances = images.new_full(labels.shape, math.inf)
    true = detached.gather(1, labels[:, None])[:, 0]
    targets = top_other_classes(detached, labels, count)
    for column, target in enumerate(targets.T):
        logit_weights = torch.zeros_like(detached).scatter_(1, labels[:, None], -1.0).scatter_(1, target[:, None], 1.0)
        (normals,) = torch.autograd.grad(logits, points, logit_weights, retain_graph=column + 1 < targets.shape[1])
        offsets = detached.gather(1, target[:, None])[:, 0] - true
        perturbations = step_to_hyperplane(images, normals.nan_to_num(0.0), offsets.nan_to_num(0.0), norm)
        achieved = (normals * perturbations).flatten(1).sum(dim=1)
        distance = lp_norm(perturbations, norm) * (offsets.abs() / achieved.abs()).clamp(min=1)
        distances_by_target.append(distance.nan_to_num(math.inf))
        nearer = distance < distances  # never for NaN
        nearest = torch.where(per_image(nearer), perturbations, nearest)
        distances = torch.where(nearer, distance, distances)
    order = torch.stack(distances_by_target, dim=1).argsort(dim=1, stable=True)
    return NearestBoundary(nearest, detached, targets.shape[1], targets.gather(1, order))


def _step_into_region(
    logits: torch.Tensor, points: torch.Tensor, targets: torch.Tensor, norm: Norm, count: int
) -> NearestBoundary:
    """Computes the smallest perturbations into the linearised regions of target classes."""
    detached = logits.detach()
    normals, offsets, classes = _linearize(logits, points, targets, count)
    depth = torch.maximum(-_MIN_DEPTH * offsets.amin(dim=1), 2 * rounding_tolerance(detached))
    steps = step_into_half_spaces(points.detach(), normals, offsets - depth[:, None], norm)
    return NearestBoundary(steps, detached, classes.shape[1], classes)


def linearized_region(
    model: torch.nn.Module, points: torch.Tensor, targets: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Linearises the boundaries zₜ = zⱼ of target classes t with the classes j of the largest logits.

    Args:
        model: Classifier in eval mode.
        points: Shape (batch, channels, height, width).
        targets: Target classes, int64, shape (batch,).
        count: The maximum number of classes j.

    Returns:
        The gradients of zₜ − zⱼ, shape (batch, classes, channels, height, width), and their values, shape (batch,
        classes).
    """
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        logits = float32_logits(model, leaf)
    return _linearize(logits, leaf, targets, count)[:2]


def _linearize(
    logits: torch.Tensor, points: torch.Tensor, targets: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns what :func:`linearized_region` does, and the classes j, for logits with a graph to the points."""
    detached = logits.detach()
    classes = top_other_classes(detached, targets, count)
    normals: list[torch.Tensor] = []
    for column, other in enumerate(classes.T):
        logit_weights = torch.zeros_like(detached).scatter_(1, targets[:, None], 1.0).scatter_(1, other[:, None], -1.0)
        last = column + 1 == classes.shape[1]
        normals += torch.autograd.grad(logits, points, logit_weights, retain_graph=not last)
    offsets = detached.gather(1, targets[:, None]) - detached.gather(1, classes)
    return torch.stack(normals, dim=1), offsets, classes
